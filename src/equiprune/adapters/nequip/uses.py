"""Programs that open a package of NequIP, and the lines that make them."""

from __future__ import annotations

from pathlib import PurePosixPath

from equiprune.adapters.nequip.architecture import NequIPArchitecture
from equiprune.adapters.nequip.checkpoint_file import SUFFIX
from equiprune.adapters.nequip.export import why_not
from equiprune.adapters.uses import Use, typed


def uses(architecture: NequIPArchitecture, file: str) -> tuple[Use, ...]:
    """NequIP's own calculator after compilation; nothing where a package cannot hold the model."""
    if why_not(architecture):
        return ()
    compiled = PurePosixPath(file).name.removesuffix(SUFFIX) + ".nequip.pt2"
    flags = "--mode aotinductor --device cpu --target ase"
    opened = f'NequIPCalculator.from_compiled_model({compiled!r}, device="cpu")'
    lines = [
        f"nequip-compile {typed(file)} {typed(compiled)} {flags}",
        "",
        "from nequip.integrations.ase import NequIPCalculator",
        f"atoms.calc = {opened}",
    ]
    return (Use("ASE, by NequIP's own code", "\n".join(lines)),)

"""Programs that open a file of Nequix, and the lines that make them."""

from __future__ import annotations

from equiprune.adapters.nequix.architecture import NequixArchitecture
from equiprune.adapters.nequix.export import why_not
from equiprune.adapters.uses import Use


def uses(architecture: NequixArchitecture, file: str) -> tuple[Use, ...]:
    """Nequix's own calculator, with the backend that the file is for; nothing where it cannot build the model."""
    if why_not(architecture):
        return ()
    backend = "jax" if file.endswith(".nqx") else "torch"
    opened = f'NequixCalculator(model_path={file!r}, backend="{backend}", use_kernel=False)'
    lines = f"from nequix.calculator import NequixCalculator\natoms.calc = {opened}"
    return (Use("ASE, by Nequix's own code", lines),)

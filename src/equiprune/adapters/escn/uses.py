"""Programs that open a checkpoint of eSCN, and the lines that make them."""

from __future__ import annotations

from equiprune.adapters.escn.architecture import EscnArchitecture
from equiprune.adapters.escn.export import why_not
from equiprune.adapters.uses import Use


def uses(architecture: EscnArchitecture, file: str) -> tuple[Use, ...]:
    """The calculator of fairchem; nothing where its constructor cannot be told of the model."""
    if why_not(architecture):
        return ()
    opened = f"OCPCalculator(checkpoint_path={file!r}, cpu=True)"
    return (Use("ASE, by fairchem's own code", f"from fairchem.core import OCPCalculator\natoms.calc = {opened}"),)

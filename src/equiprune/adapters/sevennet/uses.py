"""Programs that open a SevenNet checkpoint, and the lines that make them."""

from __future__ import annotations

from equiprune.adapters.sevennet.architecture import SevenNetArchitecture
from equiprune.adapters.uses import Use


def uses(architecture: SevenNetArchitecture, file: str) -> tuple[Use, ...]:
    """SevenNet's own calculator, with the first of several heads."""
    modal = f", modal={architecture.heads[0]!r}" if architecture.heads else ""
    lines = ["from sevenn.calculator import SevenNetCalculator", f"atoms.calc = SevenNetCalculator({file!r}{modal})"]
    return (Use("ASE, by SevenNet's own code", "\n".join(lines)),)

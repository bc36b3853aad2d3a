"""Global inputs: numbers of a whole structure that some models read besides its atoms, such as its charge.

An architecture says which ones it reads (`Architecture.global_inputs`), a structure gives them in its ``info``, and a
graph carries them to the adapter. Most models read none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
from ase import Atoms

from equiprune.errors import StructureError


@dataclass(frozen=True)
class GlobalInput:
    """A number of a whole structure.

    Attributes:
        key: in ``info`` of the structure.
        default: of a structure that does not give it.
        whole: whole numbers that are allowed; None where every finite number is.
        misnamed: keys under which other programs keep the same number; such a structure is refused, not given the
            default.
    """

    key: str
    default: float
    whole: range | None = None
    misnamed: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """Allowed numbers in words.

        >>> GlobalInput("charge", 0.0, range(-2, 3)).allowed
        'a whole number from -2 to 2'
        """
        if self.whole is None:
            return "a finite number"
        return f"a whole number from {self.whole[0]} to {self.whole[-1]}"

    def of(self, atoms: Atoms, where: str = "") -> float:
        """The number of a structure; ``where`` it is from is said in errors.

        Raises:
            StructureError: what the structure gives is not allowed, or has another key.

        >>> charge = GlobalInput("charge", 0.0, range(-2, 3), ("total_charge",))
        >>> charge.of(Atoms("H")), charge.of(Atoms("H", info={"charge": 1}))
        (0.0, 1.0)
        >>> charge.of(Atoms("H", info={"charge": 0.5}))  # doctest: +NORMALIZE_WHITESPACE
        Traceback (most recent call last):
        equiprune.errors.StructureError: H has charge 0.5. This model takes a whole number from -2 to 2, as charge in
        the info of the structure (0 where there is none).
        """
        where = where or atoms.get_chemical_formula()
        other = next((key for key in self.misnamed if key in atoms.info), "")
        if other and self.key not in atoms.info:
            raise StructureError(
                f"{where} has {other} in its info, and this model reads {self.key}. Rename it: without {self.key}, "
                f"{self.default:g} would be taken."
            )
        value = atoms.info.get(self.key, self.default)
        number = _number(value)
        if number is not None and (isfinite(number) if self.whole is None else number in self.whole):
            return number
        shown = repr(value) if isinstance(value, str) else value
        raise StructureError(
            f"{where} has {self.key} {shown}. This model takes {self.allowed}, as {self.key} in the info of the "
            f"structure ({self.default:g} where there is none)."
        )


def _number(value: Any) -> float | None:
    """A number of Python or numpy, none that is an array, a text or a truth value."""
    value = value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None


def numbers_of(atoms: Atoms, inputs: Sequence[GlobalInput], where: str = "") -> np.ndarray:
    """The numbers of a structure, shape (inputs,). Raises `StructureError` as `GlobalInput.of` does."""
    return np.array([each.of(atoms, where) for each in inputs], dtype=float)


def given(atoms: Atoms, inputs: Iterable[GlobalInput]) -> dict[str, Any]:
    """Entries of the structure's ``info`` that are global inputs, for a copy that has nothing else.

    >>> given(Atoms("H", info={"charge": 1, "id": "a"}), [GlobalInput("charge", 0.0), GlobalInput("spin", 1.0)])
    {'charge': 1}
    """
    keys = {key for each in inputs for key in (each.key, *each.misnamed)}
    return {key: value for key, value in atoms.info.items() if key in keys}

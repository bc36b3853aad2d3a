"""Properties: which are measured, how crystals come to rest, pairs of atoms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from ase.data import chemical_symbols
from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Positive
from equiprune.errors import TargetError
from equiprune.evaluation.properties.bulk import Elasticity, EquationOfState, RelaxedCrystal
from equiprune.evaluation.properties.comparison import Limit
from equiprune.evaluation.properties.diatomics import Curve, read_curves
from equiprune.evaluation.properties.dimers import Dimers
from equiprune.evaluation.properties.locality import Locality
from equiprune.evaluation.properties.phonons import Phonons
from equiprune.evaluation.properties.quantity import Property
from equiprune.evaluation.relaxation import RelaxationRules
from equiprune.pruning.targets.named import Elements

PropertyName = Literal["relaxation", "eos", "elasticity", "phonons", "locality", "dimers"]
PropertyNames = Annotated[list[PropertyName], Parameter(negative="", consume_multiple=True)]
Limits = Annotated[list[str], Parameter(negative="", consume_multiple=True)]

KNOWN: Mapping[str, type[Property]] = {
    each.name: each for each in (RelaxedCrystal, EquationOfState, Elasticity, Phonons, Locality, Dimers)
}
"""Properties by name."""


@Parameter(name="*", group=panel("Relaxation"))
@dataclass(frozen=True)
class RelaxationRuleOptions(Complete):
    """Rules of relaxations of crystals.

    Attributes:
        fmax: eV/Angstrom, the largest force at rest; also of the cell.
        steps: of a relaxation, at most.
        optimiser: of ASE.
    """

    fmax: float = 0.01
    steps: Positive = 500
    optimiser: Literal["BFGS", "BFGSLineSearch", "FIRE", "FIRE2", "LBFGS"] = "FIRE"

    def check(self) -> None:
        self.rules()

    def rules(self) -> RelaxationRules:
        """The same as a value of the API."""
        return RelaxationRules(self.fmax, self.steps, self.optimiser)

    def of(self, name: PropertyName) -> Property:
        """A property whose crystals come to rest by these rules."""
        made = KNOWN[name]()
        return replace(made, rules=self.rules()) if isinstance(made, EquationOfState | Elasticity) else made


@Parameter(name="*", group=panel("Pairs of atoms"))
@dataclass(frozen=True)
class PairOptions(Complete):
    """Pairs of atoms, for the property dimers.

    Attributes:
        curves: energies of pairs by DFT (JSON, also .gz, in the layout of Matbench Discovery) to compare with.
        functional: whose energies are taken from there.
        elements: of the pairs, e.g. Cu,Si; unless given, those of the curves, or all that every model knows.
        shortest: distance, bond lengths (sums of two covalent radii).
        longest: distance, bond lengths.
    """

    curves: Path | None = None
    functional: str = "PBE"
    elements: str | None = None
    shortest: float = 0.9
    longest: float = 2.5

    def check(self) -> None:
        self.dimers()
        if self.elements is not None:
            Elements.parse(self.elements)

    @property
    def said(self) -> bool:
        """True if anything is said."""
        return self != NO_PAIRS

    def dimers(self) -> Dimers:
        """The same as a value of the API."""
        return Dimers(self.shortest, self.longest)

    def pairs(self, known: frozenset[int]) -> dict[int, Curve | None]:
        """Elements of the pairs, each with its curve where there are curves; ``known`` are those that all models know.

        Raises:
            TargetError: there is no curve of an element.
            StructureError: a file of curves that is none.
        """
        chosen = None if self.elements is None else Elements.parse(self.elements).numbers
        if self.curves is None:
            return dict.fromkeys(sorted(known) if chosen is None else chosen)
        curves = read_curves(self.curves, self.functional)
        if missing := sorted(set(chosen or ()) - curves.keys()):
            symbols = ", ".join(chemical_symbols[z] for z in missing)
            raise TargetError(f"'{self.curves}' has no curve of {symbols}. Leave out the elements, or the curves.")
        return {z: curves[z] for z in (sorted(curves.keys() & known) if chosen is None else chosen)}


NO_PAIRS = PairOptions()
"""Nothing said."""
USUAL_RULES = RelaxationRuleOptions()
"""Nothing said."""


def read_limits(limits: list[str] | None, names: list[PropertyName]) -> tuple[Limit, ...]:
    """Limits of the properties that are measured; raises `TargetError` for one of another or of no property."""
    return tuple(Limit.parse(text, [KNOWN[name] for name in names]) for text in limits or ())

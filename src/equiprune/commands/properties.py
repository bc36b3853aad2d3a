"""Physical properties of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import equiprune as ep
from equiprune.commands.opening import Identities, check_compared, identities, open_models
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.properties import (
    NO_PAIRS,
    USUAL_RULES,
    Limits,
    PairOptions,
    PropertyNames,
    RelaxationRuleOptions,
    read_limits,
)
from equiprune.commands.options.sharing import BY_ITSELF, Launched, SharingOptions, device_of
from equiprune.commands.options.values import Bare, Device, Dtype, Models, NotNegative, Output, Positive
from equiprune.commands.resuming import resumable
from equiprune.commands.sharing import SharedRequest, check_unfinished
from equiprune.commands.stages import RESULT, Kind, Product
from equiprune.errors import TargetError
from equiprune.evaluation.properties.comparison import Limit, Measured
from equiprune.evaluation.properties.quantity import Examination
from equiprune.evaluation.properties.subjects import named, sampled
from equiprune.files.atomic import check_writable, make_folder, write_json
from equiprune.files.shared_work import Shared
from equiprune.progress import Display, Task, unseen
from equiprune.structures.reading import check_apart, open_structures

_EVERY = 10
"""Values from one line of progress to the next."""
_PAIRS = "dimers"
"""The property that is measured of elements instead of structures."""


@dataclass(frozen=True)
class MeasuredProperties:
    """Properties of models side by side.

    Attributes:
        measured: each property.
        limits: of errors.
        identities: digest and head of every model, by name.
        written: the file that all this is in; the values of single structures are beside it.
    """

    measured: tuple[Measured, ...]
    limits: tuple[Limit, ...]
    identities: Identities
    written: Path

    @property
    def passed(self) -> bool:
        """False if an error is beyond its limit; True without limits."""
        return all(limit.held(self.measured) for limit in self.limits)

    def to_json(self) -> dict[str, Any]:
        limits = [
            {"property": each.property_name, "quantity": each.quantity, "most": each.most} for each in self.limits
        ]
        found = {"properties": [each.to_json() for each in self.measured], "identities": self.identities}
        found |= {"written": str(self.written)}
        held = [each | {"held": limit.held(self.measured)} for each, limit in zip(limits, self.limits, strict=True)]
        return {**found, "limits": held, "passed": self.passed} if self.limits else found


@dataclass(frozen=True)
class Properties(SharedRequest[MeasuredProperties]):
    """Are models physically right? Crystals at rest, elasticity, phonons, pairs of atoms, locality, side by side.

    Interrupted, the same command goes on.

    Attributes:
        models: aliases, upstream checkpoints, or directories that equiprune wrote; the first is compared with.
        output: folder of the values of every structure, and of the result.
        data: crystals; with K_vrh_GPa and G_vrh_GPa in their info, elastic moduli are compared with these.
        properties: which are measured.
        sample: take this many of the crystals, drawn by --seed.
        seed: of the sample.
        limits: mean absolute errors that are allowed, e.g. elasticity.shear_modulus=15; exit code 1 beyond.
        dtype: precision of the models.
    """

    stage: ClassVar[Kind] = Kind("properties", Product.NUMBERS, RESULT, keeps="{output}")

    models: Models
    _: KW_ONLY
    output: Output
    data: Bare | None = None
    properties: PropertyNames | None = None
    sample: Positive | None = None
    seed: NotNegative = 0
    limits: Limits | None = None
    dtype: Dtype = "float64"
    device: Device = "cpu"
    relaxation: RelaxationRuleOptions = USUAL_RULES
    pairs: PairOptions = NO_PAIRS
    sharing: SharingOptions = BY_ITSELF
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_compared(self.models, self.device)
        if len(set(self._chosen)) < len(self._chosen):
            raise TargetError(f"A property is named twice: {', '.join(self._chosen)}. Name each once.")
        if self._crystals and self.data is None:
            raise TargetError(f"Crystals are needed to measure {', '.join(self._crystals)}: give `data`.")
        if not self._crystals and (self.data is not None or self.sample is not None):
            raise TargetError("Pairs of atoms are measured of elements: leave out `data` and `sample`.")
        if self.pairs.said and _PAIRS not in self._chosen:
            raise TargetError(f"Pairs of atoms are measured only with {_PAIRS} among the `properties`. Add it.")
        read_limits(self.limits, self._chosen)

    @cached_property
    def _chosen(self) -> PropertyNames:
        return self.properties or ["relaxation", "eos", "elasticity"]

    @property
    def _crystals(self) -> PropertyNames:
        """Properties that are measured of structures."""
        return [name for name in self._chosen if name != _PAIRS]

    def take_part(self, place: Launched, display: Display = unseen) -> MeasuredProperties:
        """Measure, compare, write; what an interrupted attempt has finished is kept.

        Raises:
            EquipruneError: interrupted, or a file, a structure or a model that cannot be used.
            UnfinishedError: another process gives the result.
        """
        result, values = self.output / "result.json", self.output / "values"
        check_unfinished(place, result)
        check_writable(result if self.output.is_dir() else self.output)
        check_apart(self.output, [self.data])
        potentials = open_models(self.models, self.dtype, self.opening, device_of(self.device, place.local))
        examinations = self._examinations(potentials)
        make_folder(self.output, "a folder of results")
        shared = Shared(values, self._settings(potentials), place.share)
        total = len(potentials) * sum(len(each.subjects) for each in examinations)
        with resumable(values), display(Task("properties", total, _EVERY)) as [step]:
            found = ep.properties(potentials, examinations, shared, rules=self.relaxation.rules(), progress=step)
            limits = read_limits(self.limits, self._chosen)
            made = MeasuredProperties(tuple(found), limits, identities(potentials), result)
            write_json(result, made.to_json())
        return made

    def _examinations(self, potentials: Mapping[str, ep.Potential]) -> list[Examination]:
        structures = {}
        if self.data is not None:
            available = open_structures(self.data)
            structures = named(available, sampled(len(available), self.sample, self.seed))
        found = []
        for name in self._chosen:
            if name == _PAIRS:
                known = frozenset.intersection(*(potential.elements for potential in potentials.values()))
                found.append(self.pairs.dimers().pairs(self.pairs.pairs(known)))
            else:
                found.append(self.relaxation.of(name).of(structures))
        return found

    def _settings(self, potentials: Mapping[str, ep.Potential]) -> dict[str, Any]:
        """Everything that values depend on besides properties and structures."""
        models = {name: [potential.checkpoint.sha256, potential.head] for name, potential in potentials.items()}
        return {"models": models, "dtype": self.dtype}

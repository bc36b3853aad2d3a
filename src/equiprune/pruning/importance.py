"""Importance scores of every block, and the sums over structures that become them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equiprune.blocks import FeatureSpace, Irrep, Irreps
from equiprune.blocks.layout import spans
from equiprune.errors import PlanError, TargetError
from equiprune.files.settings import to_json
from equiprune.potentials.derivatives import Observed
from equiprune.potentials.potential import Potential
from equiprune.pruning.criteria import OUTPUTS, DataCriterion, Magnitude, Random

Values = Mapping[Irrep, np.ndarray]


@dataclass(frozen=True)
class ImportanceScores:
    """One number per (space, irrep, channel).

    Attributes:
        mean: space name to irrep to (mul,) float64; for `Taylor` eV per structure, or a share of the sum over the model
            where forces are an output of their own.
        standard_error: of the mean over structures; zero for criteria that need no data, nan (undefined) for one
            structure.
        structures: number of structures averaged over.
        provenance: criterion, model and data fingerprints, precision.

    >>> scores = ImportanceScores({"x": {Irrep(0, 1): np.array([0.1, 0.3, 0.2])}}, {}, 1)
    >>> scores.ranking("x", Irrep(0, 1))
    [1, 2, 0]
    """

    mean: Mapping[str, Values]
    standard_error: Mapping[str, Values]
    structures: int
    provenance: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def criterion(self) -> str:
        """Its name, or a question mark where nothing is recorded."""
        return self.provenance.get("criterion", {}).get("kind", "?")

    def ranking(self, space: str, irrep: Irrep) -> list[int]:
        """Channels from most to least important; ties in channel order."""
        return np.argsort(-self.mean[space][irrep], kind="stable").tolist()

    def check(self, spaces: tuple[FeatureSpace, ...]) -> None:
        """Raise `PlanError` unless the scores are of a model with these spaces."""
        for space in spaces:
            found = {ir: len(v) for ir, v in self.mean.get(space.name, {}).items()}
            if space.scored and found != {ir: mul for mul, ir in space.irreps}:
                scored = Irreps(tuple((n, ir) for ir, n in found.items()))
                raise PlanError(
                    f"The scores are of another model: {space.name} has '{space.irreps}', the scores have '{scored}'. "
                    "Calibrate this model."
                )

    def to_json(self) -> dict[str, Any]:
        """A JSON value; floats keep all digits."""

        def plain(values: Mapping[str, Values]) -> dict[str, dict[str, list[float | None]]]:
            return {space: {str(ir): _plain(v) for ir, v in by.items()} for space, by in values.items()}

        return {
            "format": "equiprune-scores-1",
            "structures": self.structures,
            "provenance": dict(self.provenance),
            "mean": plain(self.mean),
            "standard_error": plain(self.standard_error),
        }

    @classmethod
    def from_json(cls, value: Any) -> ImportanceScores:
        """Read what `to_json` wrote; raises `PlanError` for anything else."""
        try:
            if value["format"] != "equiprune-scores-1":
                raise KeyError("format")

            def arrays(name: str, read: Callable[[Any], np.ndarray]) -> dict[str, Values]:
                return {space: {Irrep.parse(ir): read(v) for ir, v in by.items()} for space, by in value[name].items()}

            provenance = current_provenance(value["provenance"])
            structures = int(value["structures"])
            errors = arrays("standard_error", _undefined_or_finite if structures == 1 else _finite)
            return cls(arrays("mean", _finite), errors, structures, provenance)
        except (AttributeError, KeyError, TypeError, ValueError, TargetError) as error:
            raise PlanError("This is not a scores file. Make one with 'equiprune calibrate'.") from error


def _plain(values: np.ndarray) -> list[float | None]:
    """JSON has no nan."""
    return [None if np.isnan(value) else value for value in values.tolist()]


def _undefined_or_finite(values: Any) -> np.ndarray:
    return np.full(len(values), np.nan) if set(values) == {None} else _finite(values)


def current_provenance(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded provenance as this version would write it; earlier ones had other names."""
    found = dict(stored)
    criterion = found.get("criterion")
    if isinstance(criterion, str):
        seed = {"seed": int(found.pop("seed"))} if "seed" in found else {}
        found["criterion"] = {"kind": criterion, **seed}
    if "dtype" in found:
        found["dtype"] = str(found["dtype"]).removeprefix("torch.")
    return found


def _finite(values: Any) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError("scores are lists of finite numbers")
    return array


def data_free_scores(potential: Potential, criterion: Magnitude | Random) -> ImportanceScores:
    """Scores that need no structures."""
    spaces = [space for space in potential.spaces if space.scored]
    match criterion:
        case Magnitude():
            mean = {space.name: _magnitudes(potential, space) for space in spaces}
        case Random(seed):
            generator = np.random.default_rng(seed)
            mean = {s.name: {ir: generator.random(mul) for mul, ir in s.irreps} for s in spaces}
    zero = {name: {ir: np.zeros_like(v) for ir, v in by.items()} for name, by in mean.items()}
    provenance = {"criterion": to_json(criterion), "model_sha256": potential.checkpoint.sha256}
    return ImportanceScores(mean, zero, 0, provenance)


def _magnitudes(potential: Potential, space: FeatureSpace) -> Values:
    """Norm of the columns that produce each channel, over all weights and uses that produce it directly."""
    squares = {ir: np.zeros(mul) for mul, ir in space.irreps}
    for name, layout in potential.adapter.layouts(potential.architecture).items():
        if layout.buffer:
            continue  # a constant makes nothing
        blocks = layout.split(potential.checkpoint.weights[name].double())
        for path in layout.paths:
            dense = blocks[path.key].movedim(path.output, 0) * path.scale
            columns = dense.reshape(len(dense), -1).square().sum(1).cpu().numpy()
            for segment, where in spans(path.axes[path.output]):
                if segment.space == space.name and segment.use == "":
                    squares[segment.irrep] += columns[where]
    return {ir: np.sqrt(v) for ir, v in squares.items()}


@dataclass(frozen=True)
class RunningScores:
    """Sums over structures, additive over batches: ``a + b`` is the calibration on both."""

    total: Mapping[str, Values]
    squares: Mapping[str, Values]
    structures: int = 0

    @classmethod
    def nothing(cls) -> RunningScores:
        """Before the first structure."""
        return cls({}, {}, 0)

    @classmethod
    def of_batch(
        cls,
        criterion: DataCriterion,
        features: Mapping[str, Observed],
        irreps: Mapping[str, Irreps],
        structure_of_site: Mapping[str, Tensor],
        structures: int,
    ) -> RunningScores:
        """Reduce one batch: rows to structures, structures to sums, in float64.

        Where a model has several outputs, scores of each have a unit of their own: they are divided by their sum over
        all blocks of the model, structure by structure, and the mean over the outputs that count is taken. So energies
        and forces count alike, and scores add up to 1.
        """
        there = max(len(observed.gradients) for observed in features.values())
        by_output = [
            {
                name: _by_structure(criterion, observed, i, irreps[name], structure_of_site[name], structures)
                for name, observed in features.items()
            }
            for i, output in enumerate(OUTPUTS[:there])
            if output in criterion.outputs
        ]
        scores = by_output[0] if there == 1 else _mean_of_shares(by_output)
        total = {name: {ir: v.sum(0) for ir, v in by.items()} for name, by in scores.items()}
        squares = {name: {ir: (v**2).sum(0) for ir, v in by.items()} for name, by in scores.items()}
        return cls(total, squares, structures)

    def __add__(self, other: RunningScores) -> RunningScores:
        if not self.structures or not other.structures:
            return self if self.structures else other
        return RunningScores(
            _added(self.total, other.total), _added(self.squares, other.squares), self.structures + other.structures
        )

    def scores(self, provenance: Mapping[str, Any]) -> ImportanceScores:
        """Mean and its standard error over structures; one alone says nothing of how they differ."""
        n = self.structures
        mean = {space: {ir: v / n for ir, v in by.items()} for space, by in self.total.items()}
        error = {
            space: {
                ir: np.sqrt(np.maximum(v / n - mean[space][ir] ** 2, 0) / (n - 1)) if n > 1 else np.full_like(v, np.nan)
                for ir, v in by.items()
            }
            for space, by in self.squares.items()
        }
        return ImportanceScores(mean, error, n, provenance)

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        as_scores = ImportanceScores(self.total, self.squares, self.structures).to_json()
        return {"total": as_scores["mean"], "squares": as_scores["standard_error"], "structures": self.structures}

    @classmethod
    def from_json(cls, value: Any) -> RunningScores:
        """Read what `to_json` wrote."""
        stored = {"format": "equiprune-scores-1", "provenance": {}, "structures": value["structures"]}
        total, squares = (
            ImportanceScores.from_json(stored | {"mean": value[name], "standard_error": {}})
            for name in ("total", "squares")
        )
        return cls(total.mean, squares.mean, total.structures)


def _by_structure(
    criterion: DataCriterion,
    observed: Observed,
    output: int,
    irreps: Irreps,
    structure_of_site: Tensor,
    structures: int,
) -> dict[Irrep, np.ndarray]:
    """Scores of one space by one output: (structures, mul) for each irrep."""
    feature, gradient = observed.value, observed.gradients[output]
    structure_of_row = structure_of_site.repeat(len(feature) // max(len(structure_of_site), 1))
    found = {}
    for mul, ir, span in irreps.slices():
        shape = (len(feature), mul, ir.dim)
        rows = criterion.per_site(feature[:, span].reshape(shape), gradient[:, span].reshape(shape))
        sums = torch.zeros(structures, mul, dtype=torch.float64, device=rows.device)
        found[ir] = sums.index_add(0, structure_of_row, rows.double()).cpu().numpy()
    return found


def _mean_of_shares(by_output: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """The mean over outputs of each one's scores, as shares of all its scores of a structure."""
    totals = [sum(v.sum(1, keepdims=True) for by in scores.values() for v in by.values()) for scores in by_output]
    return {
        name: {
            ir: sum(
                scores[name][ir] / np.maximum(total, _TINY) for scores, total in zip(by_output, totals, strict=True)
            )
            / len(by_output)
            for ir in by
        }
        for name, by in by_output[0].items()
    }


_TINY = float(np.finfo(np.float64).tiny)


def _added(a: Mapping[str, Values], b: Mapping[str, Values]) -> dict[str, Values]:
    return {space: {ir: v + b[space][ir] for ir, v in by.items()} for space, by in a.items()}


def required(scores: ImportanceScores | None, what: str) -> ImportanceScores:
    """The scores; raises `TargetError` saying what they are needed for where there are none."""
    if scores is None:
        raise TargetError(
            f"Choosing {what} needs importance scores. Give `scores` (from 'equiprune calibrate') or `data`, "
            "or `criterion` magnitude or random, which need no data."
        )
    return scores

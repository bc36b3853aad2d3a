"""Cutting blocks out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

import equiprune as ep
from equiprune.adapters.growth import Growth, NativeGrids
from equiprune.commands.opening import check_device, open_model
from equiprune.commands.options.growth import NO_GROWTH, GrowthOptions
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.scores import NO_SCORES, ScoreOptions
from equiprune.commands.options.targets import NO_TARGETS, TargetOptions
from equiprune.commands.options.values import Device, Model, Output
from equiprune.commands.request import Request, remarks
from equiprune.commands.stages import Kind, Product
from equiprune.commands.summary import compare_models
from equiprune.errors import TargetError
from equiprune.files.atomic import check_writable, read_json
from equiprune.files.settings import to_json
from equiprune.potentials.checkpoint import check_export, check_output
from equiprune.progress import Display, Task, unseen
from equiprune.pruning.growing import grow_checkpoint
from equiprune.pruning.slicing import prune_checkpoint
from equiprune.structures.reading import check_apart
from equiprune.verification.certificate import deviation, prove_lossless


@dataclass(frozen=True)
class Pruned:
    """A smaller model.

    Attributes:
        parent, child: before and after.
        plan: what was kept.
        growths: what was added, or changed, after that.
        changed: by how much the function changed where it had to, in words.
        proof: largest differences where nothing was to change.
        files: what was written, the model first.
    """

    parent: ep.Potential
    child: ep.Potential
    plan: ep.PruningPlan
    growths: tuple[Growth, ...]
    changed: tuple[str, ...]
    proof: Mapping[str, float]
    files: tuple[Path, ...]

    @property
    def comparison(self) -> dict[str, tuple[Any, Any]]:
        """Parent and child side by side."""
        return compare_models(self.parent, self.child)

    def to_json(self) -> dict[str, Any]:
        proven = {"lossless": dict(self.proof)} if self.proof else {}
        changed = {"changed": list(self.changed)} if self.changed else {}
        written = {"written": list(map(str, self.files)), "plan": self.plan.to_json()}
        return {**self.comparison, **proven, **changed, **written}


@dataclass(frozen=True)
class Prune(Request[Pruned]):
    """Write the smaller model that the targets ask for. The suffix of the output chooses the format.

    Attributes:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        output: .pth for SevenNet, .model for MACE, .nequip.zip for NequIP, .nqx or .pt for Nequix, .pt for eSCN, no
            suffix for equiprune's own directory.
    """

    stage: ClassVar[Kind] = Kind("model", Product.MODEL)

    model: Model
    _: KW_ONLY
    output: Output
    target: TargetOptions = NO_TARGETS
    growth: GrowthOptions = NO_GROWTH
    importance: ScoreOptions = NO_SCORES
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_device(self.device)
        for name in ("reinitialise", "native_grids"):
            if self.target.lossless and getattr(self.growth, name):
                raise TargetError(f"`{name}` changes the function, so the result cannot be `lossless`. Leave out one.")
        if not self._growths:
            self.target.check_given()
        self.target.only_head(self.opening.head)

    @property
    def _growths(self) -> tuple[Growth, ...]:
        return tuple(self.growth.growths(self.importance.seed))

    def run(self, display: Display = unseen) -> Pruned:
        """Prune and save; structures are evaluated only for what can be saved."""
        data, growths = self.importance.data, self._growths
        check_writable(self.output)
        check_apart(self.output, [data])
        targets, preferred = self.target.targets(), self.target.only_head(self.opening.head)
        parent = open_model(
            self.model, None, self.opening, any_head=data is None, preferred=preferred, device=self.device
        )
        check_output(parent.adapter, self.output)
        if data is not None:
            random = ep.data_free_scores(parent, ep.Random(self.importance.seed))
            _rehearse(parent, self._allocated(parent, targets, random), growths, self.output)
        plan = self._allocated(parent, targets, self._scores(parent, display))
        child = parent
        if not plan.keeps_all or not growths:
            note = {"targets": to_json(targets), "round_to": self.target.round_to}
            child = ep.prune(parent, plan, note=note)
        child, changed = _grown(child, growths)
        proof = prove_lossless(parent, plan) if self.target.lossless else {}
        return Pruned(parent, child, plan, growths, changed, proof, ep.save(child, self.output))

    def _allocated(
        self, parent: ep.Potential, targets: Sequence[Any], scores: ep.ImportanceScores | None
    ) -> ep.PruningPlan:
        asked = self.target
        assembled = asked.interactions is not None and self.growth.nonlinear_readout is not None
        rounding, mixed = asked.round_to, asked.heterogeneous
        return ep.allocate(parent, targets, scores, round_to=rounding, heterogeneous=mixed, assembled=assembled)

    def _scores(self, potential: ep.Potential, display: Display) -> ep.ImportanceScores | None:
        """Scores from a file, from structures, from a criterion that needs neither, or none."""
        by, criterion = self.importance, self.importance.chosen()
        if by.scores is not None:
            scores = ep.ImportanceScores.from_json(read_json(by.scores, "scores file"))
            _remark_other_model(scores.provenance.get("model_sha256"), potential)
            return scores
        if criterion is None:
            return None
        with display(Task("calibrate", by.limit)) as [step]:
            return ep.calibrate(potential, by.data or (), criterion, limit=by.limit, progress=step)


def _remark_other_model(made_for: Any, potential: ep.Potential) -> None:
    if made_for != potential.checkpoint.sha256:
        remarks.warning(
            f"The scores were made for a model with sha256 '{made_for}', this one has another. Using them anyway."
        )


def _grown(potential: ep.Potential, growths: Sequence[Growth]) -> tuple[ep.Potential, tuple[str, ...]]:
    """The model with everything added, and by how much the function changed where it had to."""
    changed = []
    for growth in growths:
        before, potential = potential, ep.grow(potential, growth)
        if isinstance(growth, NativeGrids):
            pair = (before.with_dtype(torch.float64), potential.with_dtype(torch.float64))
            changed.append(deviation(*pair, list(ep.probe_structures(potential.elements).values())))
    return potential, tuple(changed)


def _rehearse(parent: ep.Potential, plan: ep.PruningPlan, growths: Sequence[Growth], output: Path) -> None:
    """Refuse before structures are evaluated what would be refused afterwards; ``plan`` is of random scores."""
    child = prune_checkpoint(parent.adapter, parent.checkpoint, plan, parent.dtype)
    for growth in growths:
        child = grow_checkpoint(parent.adapter, child, growth, parent.dtype)
    check_export(parent.adapter, child.architecture, output)

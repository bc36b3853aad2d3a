"""Scoring blocks."""

from __future__ import annotations

import shutil
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import equiprune as ep
from equiprune.commands.opening import check_device, check_suffix, open_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.scores import CriterionName, criterion_named
from equiprune.commands.options.sharing import BY_ITSELF, Launched, SharingOptions, device_of
from equiprune.commands.options.values import Bare, Device, Dtype, Model, NotNegative, Output, Positive
from equiprune.commands.request import remarks
from equiprune.commands.resuming import resumable
from equiprune.commands.sharing import SharedRequest, check_unfinished
from equiprune.commands.stages import Kind, Mark, Product
from equiprune.errors import OutputError, TargetError
from equiprune.files.atomic import check_writable, write_json
from equiprune.files.shared_work import ALONE, Share, Shared
from equiprune.progress import Display, Task, unseen
from equiprune.pruning.calibration import calibrate_shared, calibration_provenance
from equiprune.pruning.criteria import Criterion, DataCriterion
from equiprune.structures.reading import check_apart


@dataclass(frozen=True)
class Calibrated:
    """Scores, the name of their criterion, and the files that hold them: the scores first."""

    scores: ep.ImportanceScores
    criterion: CriterionName
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        files = list(map(str, self.files))
        facts = {"structures": self.scores.structures, "provenance": dict(self.scores.provenance)}
        return {"scores": files[0], "written": files, **facts}


@dataclass(frozen=True)
class Calibrate(SharedRequest[Calibrated]):
    """Score every block of every feature space on structures. Interrupted, the same command goes on.

    Attributes:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        data: structures; labels are not needed. The criteria magnitude and random need no structures.
        output: scores, as JSON.
        criterion: how importance is measured.
        seed: of the random criterion.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
        dtype: precision of the model; sums are always float64.
        plot: also draw importance by l and interaction (.png or .svg).
    """

    stage: ClassVar[Kind] = Kind("scores.json", Product.SCORES, keeps="{output}.partial")

    model: Model
    data: Bare | None = None
    _: KW_ONLY
    output: Output
    criterion: CriterionName = "taylor"
    seed: NotNegative = 0
    limit: Positive | None = None
    batch_atoms: Positive = 128
    dtype: Dtype = "float32"
    device: Device = "cpu"
    plot: Annotated[Path | None, Mark.WRITTEN] = None
    sharing: SharingOptions = BY_ITSELF
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        if self.plot:
            check_suffix(self.plot, "A plot", ".png", ".svg")
        if self.plot == self.output:
            raise OutputError(
                f"'{self.plot}' cannot be both the scores and the plot. Choose another name for one of them."
            )
        if isinstance(self._criterion, DataCriterion) and self.data is None:
            raise TargetError(f"The {self._criterion.name} criterion looks at structures: give `data` after the model.")
        check_device(self.device)

    @property
    def _partial(self) -> Path:
        """Sums of an interrupted calibration."""
        return self.output.with_name(self.output.name + ".partial")

    @property
    def _criterion(self) -> Criterion:
        return criterion_named(self.criterion, self.seed)

    def take_part(self, place: Launched, display: Display = unseen) -> Calibrated:
        """Score and write; what an interrupted attempt has finished is kept."""
        share, chosen = place.share, self._criterion
        check_unfinished(place, self.output)
        of_data = isinstance(chosen, DataCriterion)
        files = tuple(path for path in (self.output, self.plot) if path)
        for path in files:
            check_writable(path)
            check_apart(path, [self.data])
        if self.data is not None and not of_data:
            remarks.info(f"The {chosen.name} criterion looks at no structures; '{self.data}' is not read.")
        device = device_of(self.device, place.local)
        potential = open_model(self.model, self.dtype, self.opening, any_head=not of_data, device=device)
        with resumable(self._partial):
            if share == ALONE or not isinstance(chosen, DataCriterion):
                scores = self._score_alone(potential, display)
            else:
                scores = self._score_together(potential, chosen, display, share)
            write_json(self.output, scores.to_json(), new=True)
        if of_data:
            _remove(self._partial)
        if self.plot:
            ep.plot_importance(scores, self.plot)
        return Calibrated(scores, self.criterion, files)

    def _score_alone(self, potential: ep.Potential, display: Display) -> ep.ImportanceScores:
        structures = self.data if self.data and isinstance(self._criterion, DataCriterion) else ()
        resume = ep.Resume(self._partial, leave=True)
        how: dict[str, Any] = {"limit": self.limit, "batch_atoms": self.batch_atoms, "resume": resume}
        with display(Task("calibrate", self.limit)) as [step]:
            return ep.calibrate(potential, structures, self._criterion, **how, progress=step)

    def _score_together(
        self, potential: ep.Potential, criterion: DataCriterion, display: Display, share: Share
    ) -> ep.ImportanceScores:
        """The same with other processes."""
        assert self.data is not None  # `check` has seen to that
        structures = ep.open_structures(self.data)[: self.limit]
        settings = calibration_provenance(potential, self.data, criterion) | {"limit": self.limit}
        shared, how = Shared(self._partial, settings, share), {"batch_atoms": self.batch_atoms}
        with display(Task("calibrate", len(structures))) as [step]:
            return calibrate_shared(potential, structures, shared, criterion, **how, progress=step)


def _remove(partial: Path) -> None:
    """Remove the sums of one process, or the folder of several."""
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)

"""Comparing what matters before and after training."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

import equiprune as ep
from equiprune.commands.opening import check_device, open_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Bare, Device, Dtype, Positive
from equiprune.commands.request import Request
from equiprune.commands.stages import Product, Takes, newest_model, trained_from
from equiprune.errors import TargetError
from equiprune.files.atomic import read_json
from equiprune.progress import Display, Task, unseen
from equiprune.pruning.stability import check_same_architecture, check_top
from equiprune.pruning.stability import stability as compared

_KINDS = (Product.MODEL, Product.SCORES)
Before = Annotated[str, Takes.of(*_KINDS, rule=trained_from)]
After = Annotated[str, Takes.of(*_KINDS, rule=newest_model)]


@dataclass(frozen=True)
class Compared:
    """Agreement of the importance before and after."""

    before: str
    after: str
    found: ep.Stability

    def to_json(self) -> dict[str, Any]:
        return {"before": self.before, "after": self.after, **self.found.to_json()}


@dataclass(frozen=True)
class Stability(Request[Compared]):
    """Did training change what matters? Rank correlation and overlap of Taylor importance before and after.

    Attributes:
        before: the model before training, or its scores (.json).
        after: the model after training, or its scores (.json).
        data: structures to score both models on; scores need none.
        top: fraction of the channels that counts as the top.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
        dtype: precision of the models.
    """

    before: Before
    after: After
    _: KW_ONLY
    data: Bare | None = None
    top: float = 0.5
    limit: Positive | None = None
    batch_atoms: Positive = 128
    dtype: Dtype = "float32"
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        files = [_is_scores(given) for given in (self.before, self.after)]
        if any(files) and not all(files):
            raise TargetError("A model and a scores file cannot be compared. Give two models, or two files of scores.")
        if all(files) and self.data is not None:
            raise TargetError("Scores need no structures: leave out `data`, or give two models.")
        if not any(files) and self.data is None:
            raise TargetError("Models are compared on structures: give `data`, or two files of scores.")
        check_top(self.top)
        if not all(files):
            check_device(self.device)

    def run(self, display: Display = unseen) -> Compared:
        """Read or take both scores, and compare them."""
        before, after = self._read() if _is_scores(self.before) else self._calibrated(display)
        return Compared(self.before, self.after, compared(before, after, self.top))

    def _read(self) -> list[ep.ImportanceScores]:
        files = (Path(self.before), Path(self.after))
        return [ep.ImportanceScores.from_json(read_json(path, "scores file")) for path in files]

    def _calibrated(self, display: Display) -> list[ep.ImportanceScores]:
        names = (self.before, self.after)
        models = [open_model(model, self.dtype, self.opening, device=self.device) for model in names]
        check_same_architecture(*models)
        how: dict[str, Any] = {"limit": self.limit, "batch_atoms": self.batch_atoms}
        with display(Task("calibrate", self.limit and 2 * self.limit)) as [step]:
            return [ep.calibrate(model, self.data or (), **how, progress=step) for model in models]


def _is_scores(given: str) -> bool:
    return Path(given).suffix == ".json"

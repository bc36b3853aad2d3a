"""Did training change what matters? Importance before and after, compared (appendix D.7 of arXiv 2605.08885).

Pruning keeps what mattered to the parent. If the ranking of the blocks survives retraining, one calibration was enough;
if it does not, pruning in steps with a calibration between them may find a better model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from equiprune.errors import PlanError, TargetError
from equiprune.potentials.potential import Potential
from equiprune.pruning.importance import ImportanceScores


@dataclass(frozen=True)
class Agreement:
    """Agreement of two rankings of the same channels.

    Attributes:
        channels: how many were ranked.
        correlation: Spearman's rank correlation, -1 to 1.
        overlap: share of the top channels before that are among the top after, 0 to 1. By chance it is about the top
            fraction itself.

    Both are None where they are undefined: fewer than two channels, or all scores of one side alike.
    """

    channels: int
    correlation: float | None
    overlap: float | None


@dataclass(frozen=True)
class Stability:
    """Agreement of importance before and after.

    Attributes:
        top: fraction of channels that counts as the top.
        blocks: by feature space and irrep, in the order of the scores.
        overall: all channels of all spaces in one ranking.
    """

    top: float
    blocks: dict[tuple[str, str], Agreement]
    overall: Agreement

    def to_json(self) -> dict[str, Any]:
        """A JSON value; what is undefined is null."""
        blocks = [{"space": space, "irrep": ir, **vars(found)} for (space, ir), found in self.blocks.items()]
        return {"top": self.top, "overall": vars(self.overall), "blocks": blocks}


def stability(before: ImportanceScores, after: ImportanceScores, top: float = 0.5) -> Stability:
    """Compare two scorings of the same channels.

    Args:
        before: scores of the model before training.
        after: scores of the model after it, by the same criterion on the same structures.
        top: fraction of the channels that counts as the top, more than 0 and less than 1.

    Raises:
        TargetError: ``top`` is no such fraction.
        PlanError: the scores are of different architectures, criteria or data; the first difference is named.

    >>> from equiprune.blocks import Irrep
    >>> def scores(*values):
    ...     return ImportanceScores({"x": {Irrep(0, 1): np.array(values)}}, {}, 1)
    >>> stability(scores(0.4, 0.3, 0.2, 0.1), scores(4.0, 2.0, 3.0, 1.0)).overall
    Agreement(channels=4, correlation=0.8, overlap=0.5)
    """
    check_top(top)
    if different := _difference(before, after):
        raise PlanError(f"The two cannot be compared: {different}.")
    pairs = {
        (space, str(ir)): (values, after.mean[space][ir])
        for space, by in before.mean.items()
        for ir, values in by.items()
    }
    blocks = {name: agreement(*pair, top) for name, pair in pairs.items()}
    every = [np.concatenate(side) for side in zip(*pairs.values(), strict=True)]
    return Stability(top, blocks, agreement(every[0], every[1], top))


def check_top(top: float) -> None:
    """Raise `TargetError` unless a fraction can be of the channels."""
    if not 0 < top < 1:
        raise TargetError(f"`top` {top} is not possible: give a fraction between 0 and 1, such as 0.5.")


def agreement(before: np.ndarray, after: np.ndarray, top: float) -> Agreement:
    """Agreement of two scorings, both ``(channels,)``; ties in the top are broken by channel order.

    >>> agreement(np.array([1.0, 2.0, 3.0]), np.array([5.0, 5.0, 5.0]), 0.5)
    Agreement(channels=3, correlation=None, overlap=None)
    >>> agreement(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]), 0.5)
    Agreement(channels=3, correlation=0.5, overlap=1.0)
    """
    from scipy.stats import spearmanr  # slow to import, and only needed here

    channels = len(before)
    if channels < 2 or np.ptp(before) == 0 or np.ptp(after) == 0:
        return Agreement(channels, None, None)
    kept = min(max(round(top * channels), 1), channels - 1)
    best = [set(np.argsort(-side, kind="stable")[:kept].tolist()) for side in (before, after)]
    correlation = round(float(spearmanr(before, after).statistic), 12)
    return Agreement(channels, correlation, len(best[0] & best[1]) / kept)


def check_same_architecture(before: Potential, after: Potential) -> None:
    """Raise `PlanError` naming the first hyperparameter in which two models differ."""
    sides = [{"adapter": p.adapter.name, **asdict(p.architecture)} for p in (before, after)]
    for name in {**sides[0], **sides[1]}:
        values = [side.get(name) for side in sides]
        if values[0] != values[1]:
            raise PlanError(
                f"The two cannot be compared: {name} is {values[0]} before and {values[1]} after. Give a model and "
                "what training made of it, not what pruning did."
            )


def _difference(before: ImportanceScores, after: ImportanceScores) -> str:
    """The first thing that makes two scorings no two scorings of the same, or an empty string."""
    for space in [*before.mean, *after.mean]:
        sizes = [{str(ir): len(v) for ir, v in s.mean.get(space, {}).items()} for s in (before, after)]
        if sizes[0] != sizes[1]:
            have = [" + ".join(f"{mul}x{ir}" for ir, mul in size.items()) or "nothing" for size in sizes]
            return f"{space} has {have[0]} before and {have[1]} after. Give two models of one architecture"
    known: dict[str, list[Any]] = {
        "criteria": [scores.criterion for scores in (before, after)],
        "structures": [scores.provenance.get("data_sha256") for scores in (before, after)],
        "numbers of structures": [scores.provenance.get("limit") for scores in (before, after)],
    }
    for what, values in known.items():
        if values[0] != values[1]:
            return f"they were scored by different {what} ({values[0]} and {values[1]}). Calibrate both alike"
    return ""


def table(found: Stability) -> list[list[str]]:
    """Rows for display: one per space and irrep, and one over all."""
    heading = ["space", "irrep", "channels", "rank correlation", f"overlap of the top {found.top:g}"]
    named: Sequence[tuple[str, str, Agreement]] = [(*name, a) for name, a in found.blocks.items()]
    return [heading, *(_cells(*row) for row in [*named, ("all", "", found.overall)])]


def _cells(space: str, irrep: str, found: Agreement) -> list[str]:
    numbers = ("undefined" if v is None else f"{v:.3f}" for v in (found.correlation, found.overlap))
    return [space, irrep, str(found.channels), *numbers]

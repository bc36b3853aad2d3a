"""Numbers of figures as tables, for those who do not see them and those who want to copy them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from equiprune.blocks import PruningPlan
from equiprune.evaluation.accuracy import QUANTITIES
from equiprune.pruning.importance import ImportanceScores
from equiprune.report.parts import NONE, Table, shown
from equiprune.report.results import Errors
from equiprune.report.run_directory import Curve

NUMBERS = "The numbers of this figure"
"""Title of the table below a figure."""
_MOST = 20
"""Rows of a table that stands for a line of many points."""


def thinned(count: int, kept: Collection[int] = ()) -> list[int]:
    """Indices of at most about 20 of so many rows, evenly spaced with both ends, and those that are kept anyway.

    >>> thinned(3), thinned(100)[:3], len(thinned(100)), thinned(100)[-1], 7 in thinned(100, [7])
    ([0, 1, 2], [0, 5, 10], 20, 99, True)
    """
    spaced = np.linspace(0, count - 1, min(count, _MOST)).round().astype(int).tolist() if count else []
    return sorted({*spaced, *kept})


def of_curve(curve: Curve) -> Table:
    """Losses by step: of the steps with validation, where there are any."""
    names = [name for name in curve if name.startswith(("train_", "validation_"))]
    checked = [name for name in names if name.startswith("validation_")]
    steps = [i for i, step in enumerate(curve["step"]) if step is not None]
    validated = [i for i in steps if any(curve[name][i] is not None for name in checked)]
    of = validated or steps
    rows = [
        [f"{curve['step'][i]:.0f}", *(shown(curve[name][i]) for name in names)]
        for i in map(of.__getitem__, thinned(len(of)))
    ]
    which = f"{len(steps)} steps, all with validation" if validated else f"{len(steps)} steps"
    return Table(_of(rows, which, len(steps)), rows, ["step", *(_words(name) for name in names)])


def _words(name: str) -> str:
    kind, _, quantity = name.partition("_")
    return f"{quantity.replace('_', ' ')}, {kind}"


def _of(rows: Sequence[Any], which: str, count: int) -> str:
    return NUMBERS if len(rows) == count else f"{NUMBERS}: {len(rows)} of {which}"


def of_distributions(curves: Mapping[str, Mapping[str, Any]]) -> Table:
    """Radial distribution functions with standard errors by distance; the highest peak of each model is among them."""
    points = {
        name: {
            float(r): f"{shown(value)} +- {shown(error)}"
            for r, value, error in zip(each["radii"], each["values"], each["errors"], strict=True)
        }
        for name, each in curves.items()
    }
    radii = sorted({r for of in points.values() for r in of})
    peaks = [each["radii"][_highest(each["values"])] for each in curves.values() if each["values"]]
    chosen = [radii[i] for i in thinned(len(radii), [radii.index(float(r)) for r in peaks])]
    rows = [[f"{r:.3f}", *(of.get(r, NONE) for of in points.values())] for r in chosen]
    title = _of(rows, f"{len(radii)} distances, the highest peaks among them", len(radii))
    return Table(title, rows, ["distance (Angstrom)", *points])


def _highest(values: Sequence[float | None]) -> int:
    return int(np.nan_to_num(np.asarray(values, dtype=float), nan=-np.inf).argmax())


def of_parity(models: Sequence[tuple[str, Errors]], quantity: str) -> Table:
    """Errors of one quantity: of all structures, and the largest among the points that are drawn."""
    unit, rows = QUANTITIES[quantity], []
    for name, found in models:
        largest = max(abs(predicted - label) for label, predicted in found.parity[quantity])
        mae, rmse = (shown(getattr(found, f"{quantity}_{kind}")) for kind in ("mae", "rmse"))
        rows.append([name, mae, rmse, str(len(found.parity[quantity])), shown(1e3 * largest)])
    title = f"{NUMBERS}: errors over all structures, and the largest among the points drawn"
    return Table(title, rows, ["model", f"MAE, {unit}", f"RMSE, {unit}", "points drawn", f"largest, {unit}"])


def of_plan(plan: PruningPlan, scores: ImportanceScores | None) -> Table:
    """Irreps of every space before and after, and the share of the importance that is kept where scores are known."""
    rows = []
    for name, mask in plan.masks.items():
        before_after = [name, str(mask.irreps), str(mask.kept_irreps)]
        rows.append([*before_after, *([_share(name, plan, scores)] if scores is not None else [])])
    heads = ["space", "before", "after", *(["importance kept"] if scores is not None else [])]
    return Table(NUMBERS, rows, heads)


def _share(name: str, plan: PruningPlan, scores: ImportanceScores) -> str:
    mask, of = plan.masks[name], scores.mean.get(name, {})
    total = sum(float(values.sum()) for values in of.values())
    kept = sum(float(values[list(mask.of(irrep))].sum()) for irrep, values in of.items())
    return f"{100 * kept / total:.1f} %" if total else NONE

"""Comparing what matters before and after training."""

from __future__ import annotations

from pathlib import Path

import equiprune as ep
from equiprune.cli.display import progress, show_json, show_table
from equiprune.cli.flags.panels import COMMON, Common
from equiprune.cli.flags.values import Device, Dtype, Positive
from equiprune.cli.opening import check_device, open_model
from equiprune.errors import TargetError
from equiprune.files.atomic import read_json
from equiprune.pruning.stability import check_same_architecture, table
from equiprune.pruning.stability import stability as compared


def stability(
    before: str,
    after: str,
    /,
    *,
    data: Path | None = None,
    top: float = 0.5,
    limit: Positive | None = None,
    batch_atoms: Positive = 128,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    common: Common = COMMON,
) -> int:
    """Did training change what matters? Rank correlation and overlap of Taylor importance before and after.

    Args:
        before: the model before training, or its scores (.json).
        after: the model after training, or its scores (.json).
        data: structures to score both models on; scores need none.
        top: fraction of the channels that counts as the top.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
        dtype: precision of the models.
    """
    check_stability(before, after, data, top, device)
    if _is_scores(before):
        scores = [ep.ImportanceScores.from_json(read_json(Path(given), "scores file")) for given in (before, after)]
    else:
        models = [open_model(model, dtype, common, device=device) for model in (before, after)]
        check_same_architecture(*models)
        with progress("calibrate", limit and 2 * limit) as step:
            scores = [
                ep.calibrate(model, data or (), limit=limit, batch_atoms=batch_atoms, progress=step) for model in models
            ]
    found = compared(scores[0], scores[1], top)
    if common.json:
        show_json({"before": before, "after": after, **found.to_json()})
        return 0
    show_table(f"Importance of {before} and of {after}: how alike?", table(found))
    return 0


def _is_scores(given: str) -> bool:
    return Path(given).suffix == ".json"


def check_stability(before: str, after: str, data: Path | None, top: float, device: str) -> None:
    """Refuse what can be refused before anything is opened."""
    files = [_is_scores(before), _is_scores(after)]
    if any(files) and not all(files):
        raise TargetError("A model and a scores file cannot be compared. Give two models, or two files of scores.")
    if all(files) and data is not None:
        raise TargetError("Scores need no structures: leave out --data, or give two models.")
    if not any(files) and data is None:
        raise TargetError("Models are compared on structures: give --data, or two files of scores.")
    if not 0 < top < 1:
        raise TargetError(f"--top {top} is not possible: give a fraction between 0 and 1, such as 0.5.")
    if not all(files):
        check_device(device)

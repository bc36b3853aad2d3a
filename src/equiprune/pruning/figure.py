"""A picture of importance by l and interaction (figure 4 of arXiv 2605.08885)."""

from pathlib import Path

import numpy as np

from equiprune.files.atomic import replacing
from equiprune.pruning.importance import ImportanceScores


def plot_importance(scores: ImportanceScores, path: Path) -> None:
    """One panel per kind of space: channels ranked by importance, one line per space and irrep. PNG or SVG."""
    from matplotlib.figure import Figure  # slow to import, and only pictures need it

    kinds = sorted({name.partition(".")[0] for name in scores.mean})
    figure = Figure(figsize=(4.2 * len(kinds), 3.6), layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    styles = {0: "-", 1: "--", 2: "-.", 3: ":"}
    for panel, kind in zip(panels, kinds, strict=True):
        spaces = [name for name in scores.mean if name.partition(".")[0] == kind]
        for i, name in enumerate(spaces):
            for ir, values in scores.mean[name].items():
                ranked = sorted(values.clip(min=1e-12), reverse=True)
                panel.semilogy(ranked, styles.get(ir.l, ":"), color=f"C{i % 10}", lw=1.2, label=f"{name} {ir}")
        panel.set(title=kind, xlabel="channel, ranked")
        panel.legend(fontsize=5, ncols=2, framealpha=0.5)
    unit = "eV per structure" if scores.criterion == "taylor" else "own unit"
    panels[0].set_ylabel(f"importance ({scores.criterion}, {unit})")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160)


def table(scores: ImportanceScores) -> list[list[str]]:
    """Rows for display: per space and irrep the mean, smallest and largest score of its channels."""
    rows = [["space", "irrep", "channels", "mean", "std. error", "smallest", "largest", "zero"]]
    for name, by_irrep in scores.mean.items():
        for ir, values in by_irrep.items():
            error = scores.standard_error[name][ir].mean()
            numbers = (values.mean(), error, values.min(), values.max())
            cells = ["undefined" if np.isnan(number) else f"{number:.3g}" for number in numbers]
            rows.append([name, str(ir), str(len(values)), *cells, str(int((values == 0).sum()))])
    return rows

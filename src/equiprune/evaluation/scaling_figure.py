"""A picture of scaling: time against the number of atoms."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from equiprune.evaluation.scaling import Scaling
from equiprune.files.atomic import replacing


def plot_scaling(found: Sequence[Scaling], path: Path) -> None:
    """Medians with the range of repeated timings as points, and the line t = a + b N of each model. PNG or SVG."""
    from matplotlib.figure import Figure  # slow to import, and only pictures need it

    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    panel = figure.subplots()
    for number, each in enumerate(found):
        sizes = [timing.atoms for timing in each.timings]
        medians = [1e3 * timing.median for timing in each.timings]
        ranges = [
            [1e3 * (timing.median - min(timing.seconds)) for timing in each.timings],
            [1e3 * (max(timing.seconds) - timing.median) for timing in each.timings],
        ]
        colour = f"C{number % 10}"
        panel.errorbar(sizes, medians, yerr=ranges, fmt="o", ms=4, capsize=2, color=colour, label=each.name)
        along = np.geomspace(sizes[0], sizes[-1], 100)
        line = np.array([1e3 * each.seconds(atoms) for atoms in along])
        panel.plot(along[line > 0], line[line > 0], lw=1, color=colour)
    panel.set(xlabel="atoms", ylabel="energy, forces and stress (ms)", xscale="log", yscale="log")
    panel.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160)

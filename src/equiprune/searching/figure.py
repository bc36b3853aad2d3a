"""A picture of a search: error of forces against speed."""

from pathlib import Path

from equiprune.files.atomic import replacing
from equiprune.searching.found import Found

_EXACT = 1e-3
"""Error over that of the chosen model, below which labels are a model's own."""


def plot_front(found: Found, path: Path) -> None:
    """Candidates after repair (predicted speed), finalists after brief training (measured), the chosen. PNG or SVG.

    Models beside them are shown as they are; one that gave the labels itself has no error, and its speed is a line.
    """
    from matplotlib.figure import Figure  # slow to import, and only pictures need it

    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    panel = figure.subplots()
    tried = [each for each in found.journal.tried if each.errors is not None]
    predicted = [each.predicted.speed for each in tried]
    panel.plot(predicted, [each.forces for each in tried], "o", color="0.7", label="repaired")
    for made, marker in (("even widths", "s"), ("by importance", "^")):
        some = [each for each in tried if each.made == made]
        if some:
            panel.plot([t.predicted.speed for t in some], [t.forces for t in some], marker, color="0.45", label=made)
    speeds = [each.measured.speed for each in found.finalists]
    panel.plot(speeds, [each.forces for each in found.finalists], "o", color="C0", label="trained briefly")
    best = found.chosen
    panel.plot([best.measured.speed], [best.forces], "*", color="C3", ms=14, label="chosen")
    for each, marker in zip(found.beside, "DPXv<>" * len(found.beside), strict=False):
        if each.forces > _EXACT * best.forces:
            panel.plot([each.speed], [each.forces], marker, color="C2", label=each.name)
        else:
            panel.axvline(each.speed, color="C2", lw=0.8, ls=":", label=f"{each.name} (labels are its own)")
    if found.budget.faster is not None:
        panel.axvline(found.budget.faster, color="0.5", lw=0.8, ls="--", label="budget")
    panel.set(xlabel="atoms per second over the parent's", ylabel="error of forces (meV/Angstrom)", yscale="log")
    panel.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160)

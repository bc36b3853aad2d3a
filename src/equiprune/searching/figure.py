"""A picture of a search: error of forces against speed."""

from pathlib import Path

from equiprune.files.atomic import replacing
from equiprune.searching.found import Found


def plot_front(found: Found, path: Path) -> None:
    """Candidates after repair (predicted speed), finalists after brief training (measured), the chosen. PNG or SVG."""
    from matplotlib.figure import Figure  # slow to import, and only pictures need it

    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    panel = figure.subplots()
    tried = [each for each in found.journal.tried if each.errors is not None]
    repaired = [each.errors.forces for each in tried if each.errors is not None]
    panel.plot([each.predicted.speed for each in tried], repaired, "o", color="0.7", label="repaired")
    for made, marker in (("even widths", "s"), ("by importance", "^")):
        chosen = [each for each in tried if each.made == made and each.errors is not None]
        forces = [each.errors.forces for each in chosen if each.errors is not None]
        panel.plot([each.predicted.speed for each in chosen], forces, marker, color="0.45", ms=5, label=made)
    finalists = found.journal.finalists
    speeds = [each.measured.speed for each in finalists]
    panel.plot(speeds, [each.errors.forces for each in finalists], "o", color="C0", label="trained briefly")
    best = found.chosen
    panel.plot([best.measured.speed], [best.errors.forces], "*", color="C3", ms=14, label="chosen")
    if found.budget.faster is not None:
        panel.axvline(found.budget.faster, color="0.5", lw=0.8, ls="--", label="budget")
    panel.set(xlabel="atoms per second over the parent's", ylabel="error of forces (meV/Angstrom)", yscale="log")
    panel.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160)

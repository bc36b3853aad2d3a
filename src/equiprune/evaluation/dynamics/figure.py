"""A picture of dynamics: conserved energy, radial distribution functions, vibrations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equiprune.evaluation.dynamics.measured import ModelDynamics
from equiprune.files.atomic import replacing

_LINES = ("-", "--", "-.", ":")
"""Lines of the pairs of elements that are drawn: the first four."""


def plot_dynamics(found: Sequence[ModelDynamics], path: Path) -> None:
    """One colour for each model: conserved energy, temperature, radial distribution functions, vibrations."""
    from matplotlib.figure import Figure  # slow to import, and only pictures need it

    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    (energy, heat), (pairs, vibrations) = figure.subplots(2, 2)
    for number, each in enumerate(found):
        _draw(each, f"C{number % 10}", (energy, heat, pairs, vibrations))
    energy.set(xlabel="time (ps)", ylabel="conserved energy (meV/atom)")
    heat.set(xlabel="time (ps)", ylabel="temperature (K)")
    pairs.set(xlabel="distance (Angstrom)", ylabel="radial distribution")
    vibrations.set(xlabel="frequency (THz)", ylabel="vibrations (1/THz)")
    for panel in (energy, heat, pairs, vibrations):
        if panel.lines:
            panel.legend(fontsize=6)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=160)


def _draw(each: ModelDynamics, colour: str, panels: Sequence[Any]) -> None:
    energy, heat, pairs, vibrations = panels
    times = each.curves.get("time_ps", ())
    for panel, name in ((energy, "conserved_meV_per_atom"), (heat, "temperature_K")):
        if name in each.curves:
            panel.plot(times, each.curves[name], color=colour, lw=0.8, label=each.model)
    for line, own in zip(_LINES, each.distributions, strict=False):
        pairs.plot(own.radii, own.values, line, color=colour, lw=1.2, label=f"{own.name}, {each.model}")
    if each.spectrum:
        vibrations.plot(each.spectrum.frequencies, each.spectrum.density, color=colour, lw=1.0, label=each.model)

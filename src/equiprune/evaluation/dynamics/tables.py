"""Dynamics of several models side by side, for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from equiprune.evaluation.dynamics.measured import ModelDynamics
from equiprune.evaluation.dynamics.motion import PER_CENTIMETRE, SQUARE_CENTIMETRES
from equiprune.evaluation.dynamics.statistics import Estimate

_NONE = "-"


def compared(found: Sequence[ModelDynamics]) -> list[dict[str, Any]]:
    """The JSON of every model; radial distribution functions also say how far they are from those of the first."""
    values = [each.to_json() for each in found]
    for each, value in zip(found, values, strict=True):
        for own, first, entry in zip(each.distributions, found[0].distributions, value["rdf"], strict=False):
            difference, noise = own.difference(first)
            entry["from_first"] = {"difference": difference, "noise": noise}
    return values


def main_table(found: Sequence[ModelDynamics]) -> list[list[str]]:
    """Rows: energy, temperature, pressure, speed of every model."""
    head = ["model", "ps", "drift, meV/atom/ps", "about it, meV/atom", "energy", "T, K", "P, GPa", "steps/s", "ns/day"]
    moves = any(each.volume for each in found)
    rows = [[*head, "V, Angstrom^3"] if moves else head]
    for each in found:
        drift = each.drift
        row = [
            each.model,
            f"{each.protocol.picoseconds(each.steps):.4g}",
            _said(drift.slope if drift else None),
            f"{drift.rms:.3g}" if drift else _NONE,
            "crashed" if each.crash else drift.verdict.value if drift else _NONE,
            _said(each.temperature),
            _said(each.pressure),
            f"{each.steps_per_second:.3g}" if each.steps_per_second else _NONE,
            f"{each.nanoseconds_per_day:.3g}" if each.nanoseconds_per_day else _NONE,
        ]
        rows.append([*row, _said(each.volume)] if moves else row)
    return rows


def distribution_table(found: Sequence[ModelDynamics]) -> list[list[str]]:
    """Rows: the peak of every pair and model, and how far the function is from that of the first model."""
    rows = [["pair", "model", "peak, Angstrom", "height", "from the first model's, mean", "by chance"]]
    for number in range(max(len(each.distributions) for each in found)):
        for each in found:
            if not each.distributions:
                continue
            own = each.distributions[number]
            position, height, error = own.peak
            same = each is found[0] or not found[0].distributions
            apart = (_NONE, _NONE) if same else own.difference(found[0].distributions[number])
            cells = [number if isinstance(number, str) else f"{number:.3f}" for number in apart]
            peak = [f"{position:.2f}", str(Estimate(height, error))] if height else [_NONE, _NONE]
            rows.append([own.name, each.model, *peak, *cells])
    return rows


def motion_table(found: Sequence[ModelDynamics]) -> list[list[str]]:
    """Rows: diffusion coefficients and the highest peak of the vibrations of every model."""
    elements = sorted({element for each in found for element in each.diffusion})
    rows = [["model", *(f"D({element}), 1e-5 cm^2/s" for element in elements), "vibrations peak at, THz", "cm^-1"]]
    for each in found:
        spectrum = each.spectrum
        peaks = [f"{spectrum.peak:.1f}", f"{spectrum.peak * PER_CENTIMETRE:.0f}"] if spectrum else [_NONE, _NONE]
        rows.append([each.model, *(_coefficient(each.diffusion.get(element)) for element in elements), *peaks])
    return rows


def _coefficient(diffusion: Estimate | None) -> str:
    return _said(diffusion.times(1e5 * SQUARE_CENTIMETRES) if diffusion else None)


def _said(estimate: Estimate | None) -> str:
    return str(estimate) if estimate and estimate.value == estimate.value else _NONE

"""Figures of a report, as values of plotly; colours of text and background are the page's."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from plotly import graph_objects as go

from equiprune.blocks import BlockMask, Irrep, PruningPlan
from equiprune.pruning.importance import ImportanceScores
from equiprune.report.results import Errors, ScalingFound, SearchFound
from equiprune.report.run_directory import Curve

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#A05030", "#9800F8", "#6B6B6B")
"""Colours that colour-blind readers tell apart, on a light page and on a dark one: the first four are of Okabe and Ito,
whose others are too light for white."""
_ABOVE = {"orientation": "h", "y": 1, "yanchor": "bottom", "thickness": 12, "len": 0.9}
"""Place of a colour bar: beside the figure it would take a third of the width of a phone."""
_MARKERS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")

_PERIODS = (
    "H . . . . . . . . . . . . . . . . He",
    "Li Be . . . . . . . . . . B C N O F Ne",
    "Na Mg . . . . . . . . . . Al Si P S Cl Ar",
    "K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr",
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe",
    "Cs Ba . Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn",
    "Fr Ra . Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og",
    ". . La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu .",
    ". . Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr .",
)
"""The periodic table; lanthanides and actinides below it."""


def safe(text: str) -> str:
    """Text that a figure shows as it is: plotly takes a few tags for a format."""
    return html.escape(text, quote=False)


@dataclass(frozen=True)
class ErrorMeasure:
    """An error of several models, for a figure of errors against speed.

    Attributes:
        title: with the unit.
        of_model: the error by name of the model.
    """

    title: str
    of_model: Mapping[str, float]


def errors_against_speed(speeds: Mapping[str, float], measures: Sequence[ErrorMeasure]) -> go.Figure:
    """Errors of models against their speed over the first one's; a menu chooses the error.

    Args:
        speeds: atoms/s over the first model's, by model.
        measures: errors of some of these models.
    """
    figure, names = go.Figure(), list(speeds)
    for number, measure in enumerate(measures):
        shown = [name for name in names if name in measure.of_model]
        for name in shown:
            figure.add_scatter(
                x=[speeds[name]],
                y=[measure.of_model[name]],
                name=safe(name),
                mode="markers+text",
                text=[safe(name)],
                textposition="top left" if speeds[name] == max(speeds.values()) else "top center",
                cliponaxis=False,
                marker={"size": 13, **_look(names.index(name))},
                visible=number == 0,
                hovertemplate=f"{safe(name)}<br>%{{x:.2f}} times as fast<br>%{{y:.4g}}<extra></extra>",
            )
    owners = [number for number, measure in enumerate(measures) for name in names if name in measure.of_model]
    figure.update_layout(
        xaxis={"title": f"atoms per second, over those of {safe(names[0])}", "rangemode": "tozero"},
        yaxis={"title": safe(measures[0].title), "rangemode": "tozero"},
        showlegend=False,
    )
    if len(measures) > 1:
        buttons = [_button(safe(measure.title), number, owners) for number, measure in enumerate(measures)]
        figure.update_layout(updatemenus=[_menu(buttons)])
    return figure


def scaling(lines: Sequence[tuple[str, ScalingFound]]) -> go.Figure:
    """Times of one call against numbers of atoms, with the fitted lines, by name of model and engine."""
    figure = go.Figure()
    for number, (name, line) in enumerate(lines):
        sizes = [timing.atoms for timing in line.timings]
        times = [1e3 * timing.atoms / timing.atoms_per_second for timing in line.timings]
        look = _look(number)
        figure.add_scatter(x=sizes, y=times, name=safe(name), mode="markers", marker={"size": 9, **look})
        along = np.geomspace(sizes[0], sizes[-1], 60)
        fitted = line.overhead_ms.value + line.ms_per_atom.value * along
        above = fitted > 0
        figure.add_scatter(
            x=along[above].tolist(),
            y=fitted[above].tolist(),
            mode="lines",
            line={"color": look["color"], "width": 1},
            hoverinfo="skip",
            showlegend=False,
        )
    figure.update_layout(
        xaxis={"title": "atoms", "type": "log"}, yaxis={"title": "energy, forces and stress (ms)", "type": "log"}
    )
    return figure


def _button(title: str, number: int, owners: Sequence[int]) -> dict[str, Any]:
    shown = [owner == number for owner in owners]
    return {"label": title, "method": "update", "args": [{"visible": shown}, {"yaxis.title.text": title}]}


def _menu(buttons: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"buttons": list(buttons), "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "showactive": True}


def _look(number: int) -> dict[str, Any]:
    return {"color": PALETTE[number % len(PALETTE)], "symbol": _MARKERS[number % len(_MARKERS)]}


def removed_blocks(plan: PruningPlan, scores: ImportanceScores | None) -> go.Figure:
    """Channels of every irrep of every space, the important ones first: coloured if kept, grey if removed.

    Without scores of the parent, what is kept comes first.
    """
    rows = [(name, ir, *_ranked(name, mask, ir, scores)) for name, mask in plan.masks.items() for _, ir in mask.irreps]
    longest = max(len(values) for *_, values, _ in rows)
    labels = [f"{name} {ir}" for name, ir, *_ in rows]
    figure = go.Figure()
    for is_kept, title in ((True, "kept"), (False, "removed")):
        cells = np.full((len(rows), longest), np.nan)
        for i, (*_, values, kept) in enumerate(rows):
            cells[i, : len(values)] = np.where(kept == is_kept, values, np.nan)
        figure.add_heatmap(
            z=[[None if np.isnan(value) else float(value) for value in row] for row in cells],
            y=labels,
            coloraxis="coloraxis" if is_kept else "coloraxis2",
            hovertemplate=f"%{{y}}, rank %{{x}}: {title}, %{{z:.2f}}<extra></extra>",
            ygap=2,
        )
    bar = {**_ABOVE, "title": {"text": "importance, log10", "side": "top"}}
    figure.update_layout(
        coloraxis={"colorscale": "Viridis", "colorbar": bar, "showscale": scores is not None},
        coloraxis2={"colorscale": [[0, "#e4e4e4"], [1, "#bdbdbd"]], "showscale": False},
        xaxis={"title": "channel, ranked by importance" if scores else "channel, kept ones first"},
        yaxis={"autorange": "reversed", "tickfont": {"size": 10}, "automargin": True},
        height=max(240, 90 + 19 * len(rows)),
    )
    return figure


def _ranked(
    space: str, mask: BlockMask, irrep: Irrep, scores: ImportanceScores | None
) -> tuple[np.ndarray, np.ndarray]:
    """Log10 of the importance of each channel, the largest first, and whether it is kept."""
    count = next(mul for mul, ir in mask.irreps if ir == irrep)
    kept = np.isin(np.arange(count), mask.of(irrep))
    values = scores.mean.get(space, {}).get(irrep) if scores is not None else None
    if values is None or len(values) != count:
        order = np.argsort(~kept, kind="stable")
        return np.zeros(count), kept[order]
    order = np.argsort(-values, kind="stable")
    smallest = values[values > 0].min(initial=1.0)
    return np.log10(np.maximum(values, smallest))[order], kept[order]


def learning_curve(curve: Curve) -> go.Figure:
    """Training and validation losses by step, each quantity in a colour."""
    figure = go.Figure()
    names = [name for name in curve if name.startswith(("train_", "validation_"))]
    quantities = list(dict.fromkeys(name.partition("_")[2] for name in names))
    for name in names:
        kind, _, quantity = name.partition("_")
        rows = [(x, y) for x, y in zip(curve["step"], curve[name], strict=True) if x is not None and y is not None]
        if not rows:
            continue
        held_out = kind == "validation"
        figure.add_scatter(
            x=[x for x, _ in rows],
            y=[y for _, y in rows],
            name=safe(f"{quantity.replace('_', ' ')}, {kind}"),
            mode="lines+markers" if held_out else "lines",
            line={
                "color": PALETTE[quantities.index(quantity) % len(PALETTE)],
                "width": 2 if held_out else 1,
                "dash": "solid" if held_out else "dot",
            },
        )
    figure.update_layout(xaxis={"title": "step"}, yaxis={"title": "loss", "type": "log", "exponentformat": "power"})
    return figure


def candidates(search: SearchFound) -> go.Figure:
    """Candidates of a search: errors of forces against speed over the parent's."""
    figure = go.Figure()
    tried = [each for each in search.tried if each.errors is not None]
    figure.add_scatter(
        x=[1 / each.predicted.time for each in tried],
        y=[each.errors.forces for each in tried if each.errors],
        text=[safe(f"{each.number}: {each.made}; {each.shape}") for each in tried],
        name="repaired (speed predicted)",
        mode="markers",
        marker={"color": PALETTE[6], "size": 8},
        hovertemplate="%{text}<br>%{x:.2f} times as fast, %{y:.1f} meV/Angstrom<extra></extra>",
    )
    for chosen, name in ((False, "trained briefly (speed measured)"), (True, "chosen")):
        some = [each for each in search.finalists if each.errors and (each.number == search.chosen) == chosen]
        if some:
            figure.add_scatter(
                x=[1 / each.measured.time for each in some],
                y=[each.errors.forces for each in some if each.errors],
                text=[str(each.number) for each in some],
                name=name,
                mode="markers",
                marker={"color": PALETTE[1 if chosen else 0], "size": 15 if chosen else 10},
                hovertemplate="%{text}<br>%{x:.2f} times as fast, %{y:.1f} meV/Angstrom<extra></extra>",
            )
    figure.update_layout(
        xaxis={"title": "atoms per second over the parent's"},
        yaxis={"title": "error of forces (meV/Angstrom)", "type": "log"},
    )
    return figure


def periodic_table(models: Sequence[tuple[str, Errors]]) -> go.Figure:
    """Mean absolute errors of forces by element; a menu chooses the model."""
    cells = [row.split() for row in _PERIODS]
    figure = go.Figure()
    for number, (name, errors) in enumerate(models):
        of = {element: found.get("forces_mae") for element, found in errors.by_element.items()}
        figure.add_heatmap(
            z=[[of.get(symbol) for symbol in row] for row in cells],
            text=[[symbol if symbol in of else "" for symbol in row] for row in cells],
            texttemplate="%{text}",
            name=safe(name),
            hovertemplate="%{text}: %{z:.1f} meV/Angstrom<extra></extra>",
            colorscale="Viridis_r",
            xgap=2,
            ygap=2,
            colorbar={**_ABOVE, "title": {"text": "meV/Angstrom", "side": "top"}, "exponentformat": "none"},
            visible=number == 0,
        )
        figure.add_scatter(**_others(cells, of), visible=number == 0)
    hidden = {"visible": False}
    figure.update_layout(xaxis=hidden, yaxis={**hidden, "autorange": "reversed"}, height=380, showlegend=False)
    if len(models) > 1:
        owners = [number for number in range(len(models)) for _ in range(2)]
        buttons = [_button(safe(name), number, owners) for number, (name, _) in enumerate(models)]
        figure.update_layout(updatemenus=[_menu(buttons)])
    return figure


def _others(cells: Sequence[Sequence[str]], measured: Collection[str]) -> dict[str, Any]:
    """Symbols without an error, which have no cell to contrast with: they are written in the colour of the page."""
    places = [(x, y) for y, row in enumerate(cells) for x, symbol in enumerate(row) if symbol not in {".", *measured}]
    return {
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        "text": [cells[y][x] for x, y in places],
        "mode": "text",
        "textfont": {"size": 9},
        "hoverinfo": "skip",
    }


def parity(pairs: Mapping[str, Sequence[tuple[float, float]]], quantity: str, unit: str) -> go.Figure:
    """Predictions of models against labels, with the line where they are equal."""
    figure = go.Figure()
    every = np.array([pair for some in pairs.values() for pair in some])
    ends = [float(every.min()), float(every.max())]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": PALETTE[6], "width": 1}, name="equal")
    for number, (name, some) in enumerate(pairs.items()):
        figure.add_scatter(
            x=[label for label, _ in some],
            y=[predicted for _, predicted in some],
            name=safe(name),
            mode="markers",
            marker={"size": 5, **_look(number)},
        )
    figure.update_layout(
        xaxis={"title": f"{quantity}, labels ({unit})"}, yaxis={"title": f"{quantity}, predicted ({unit})"}
    )
    return figure


def distributions(curves: Mapping[str, Mapping[str, Any]], pair: str) -> go.Figure:
    """Radial distribution functions of one pair of elements by model, with their standard errors as bands."""
    figure = go.Figure()
    for number, (name, each) in enumerate(curves.items()):
        radii, values = list(each["radii"]), np.asarray(each["values"], dtype=float)
        errors, colour = np.asarray(each["errors"], dtype=float), PALETTE[number % len(PALETTE)]
        if np.isfinite(errors).all():
            figure.add_scatter(
                x=[*radii, *radii[::-1]],
                y=[*(values + errors), *(values - errors)[::-1]],
                fill="toself",
                fillcolor=colour,
                opacity=0.2,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(x=radii, y=values.tolist(), name=safe(name), mode="lines", line={"color": colour})
    figure.update_layout(xaxis={"title": "distance (Angstrom)"}, yaxis={"title": f"g(r) of {safe(pair)}"})
    return figure

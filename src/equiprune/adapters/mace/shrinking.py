"""What a plan does to MACE's hyperparameters."""

from __future__ import annotations

from dataclasses import replace

from equiprune.adapters.mace.architecture import (
    GATE_OF_LINEAR,
    Interaction,
    MaceArchitecture,
    Readout,
    ReadoutKind,
)
from equiprune.adapters.mace.layouts import feature_spaces
from equiprune.blocks import Irrep, Irreps, PruningPlan

_SCALAR = Irrep(0, 1)


def shrink(arch: MaceArchitecture, plan: PruningPlan) -> MaceArchitecture:
    """The hyperparameters that a plan leaves."""
    kept = {space.name: plan.mask(space).kept_irreps for space in feature_spaces(arch)}
    elements = plan.kept("elements", _SCALAR, len(arch.elements))
    heads = [arch.heads[i] for i in plan.kept("heads", _SCALAR, len(arch.heads))]
    steps = tuple(_step(step, t, kept) for t, step in enumerate(arch.steps[: kept["interactions"].channels]))
    gate = arch.gate if any(step.readout.kind is ReadoutKind.NONLINEAR for step in steps) else GATE_OF_LINEAR
    constants = {name: constant for name, constant in arch.activation_constants.items() if name in (gate, "silu")}
    return replace(
        arch,
        elements=tuple(arch.elements[i] for i in elements),
        heads=tuple(heads) if len(heads) > 1 else (),
        head_name=heads[0] if len(heads) == 1 else arch.head_name,
        channels=kept["node_feats.0"].channels,
        radial_basis=kept["radial_basis"].channels if "radial_basis" in kept else arch.radial_basis,
        steps=steps,
        gate=gate,
        activation_constants=constants,
    )


def _step(step: Interaction, t: int, kept: dict[str, Irreps]) -> Interaction:
    widths = range(len(step.radial_widths))
    nonlinear = step.readout.kind is ReadoutKind.NONLINEAR
    return replace(
        step,
        edge_irreps=str(kept[f"edge_irreps.{t}"]),
        edge_lmax=kept[f"edge_attrs.{t}"].lmax,
        messages=str(kept.get(f"messages.{t}", "")),
        a_basis=str(kept[f"a_basis.{t}"]),
        hidden_irreps=str(kept[f"node_feats.{t + 1}"]),
        correlation=kept[f"correlation.{t}"].channels,
        radial_widths=tuple(kept[f"radial.{t}.{i}"].channels for i in widths),
        readout=Readout(step.readout.kind, kept[f"readout.{t}"].channels) if nonlinear else step.readout,
    )

"""What a plan does to eSCN's hyperparameters."""

from __future__ import annotations

from dataclasses import replace

from equiprune.adapters.escn.architecture import EscnArchitecture
from equiprune.adapters.escn.layouts import feature_spaces
from equiprune.blocks import Irrep, PruningPlan


def shrink(arch: EscnArchitecture, plan: PruningPlan) -> EscnArchitecture:
    """The hyperparameters that a plan leaves; points on the sphere stay, so that nothing else changes."""
    kept = {space.name: plan.mask(space).kept_irreps for space in feature_spaces(arch)}
    layers = plan.kept("interactions", Irrep(0, 1), len(arch.layers))
    lmax = kept["node_feats"].lmax
    return replace(
        arch,
        lmax=lmax,
        mmax=min(arch.mmax, lmax),
        layers=tuple(arch.layers[i] for i in layers),
        sphere_channels=kept["node_feats.0"].channels,
        hidden_channels=kept["hidden.0.source.m0"].channels,
        edge_channels=kept["edge.0.0"].channels,
    )

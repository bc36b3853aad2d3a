"""The exact rewrites of SevenNet that slicing alone cannot express.

Two things do not slice. The readout is linear after linear with an inner width that upstream fixes to half of its
input: the product is re-factorised exactly. And sevenn cannot build a multi-head model with one head: the head's
constant one-hot becomes a bias.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import torch
from torch import Tensor

from equiprune.adapters.capabilities import Weights
from equiprune.adapters.sevennet.architecture import SevenNetArchitecture
from equiprune.adapters.sevennet.layouts import shrink, single_head, weight_layouts
from equiprune.blocks import Irrep, Path, PruningPlan, kept_positions, slice_weight
from equiprune.blocks.layout import axis_size
from equiprune.errors import PlanError

_SCALAR = Irrep(0, 1)


def rewrite_for_plan(
    arch: SevenNetArchitecture, weights: Weights, plan: PruningPlan
) -> tuple[SevenNetArchitecture, Weights]:
    """The same function with the head turned into biases and with the readout width that the plan will leave."""
    heads = plan.kept("heads", _SCALAR, len(arch.heads))
    if len(heads) == 1:
        arch, weights = _absorb_head(arch, weights, heads[0])
    width = shrink(arch, PruningPlan({n: m for n, m in plan.masks.items() if n != "heads"})).readout_width
    if width != arch.readout_width:
        arch, weights = _refactor_readout(arch, weights, width, plan)
    return arch, weights


def _absorb_head(arch: SevenNetArchitecture, weights: Weights, head: int) -> tuple[SevenNetArchitecture, Weights]:
    """Constant input ``one_hot(head)`` of a linear map equals a bias: row ``head`` of its effective weight."""
    single = single_head(arch)
    old, new = weight_layouts(arch), weight_layouts(single)
    result: dict[str, Tensor] = {}
    for name, layout in new.items():
        if name.endswith(".bias"):
            result[name] = _bias(name, arch, weights, head, layout.numel)
        elif name.startswith("rescale_atomic_energy"):
            result[name] = weights[name][head] if weights[name].ndim == 2 else weights[name]
        else:
            result[name] = slice_weight(weights[name].double(), old[name], layout, PruningPlan.nothing())
    return single, result


def _bias(name: str, arch: SevenNetArchitecture, weights: Weights, head: int, numel: int) -> Tensor:
    weight_name = name.removesuffix(".bias") + ".weight"
    bias = weights[name].double() if name in weights else torch.zeros(numel, dtype=torch.float64)
    layout = weight_layouts(arch)[weight_name]
    blocks = layout.split(weights[weight_name])
    for path in layout.paths:
        if path.axes[0][0].space == "heads":
            bias = bias + blocks[path.key][head].double() * path.scale
    return bias


def _refactor_readout(
    arch: SevenNetArchitecture, weights: Weights, width: int, plan: PruningPlan
) -> tuple[SevenNetArchitecture, Weights]:
    """Rewrite y = (x A + a) B + b with another inner width, exactly.

    The units that contribute most on the kept channels stay; what the others add is one vector and goes into one unit.
    """
    if width < 1:
        raise PlanError("The last node features must keep at least 2 scalars: sevenn's readout is half as wide.")
    first, second = "reduce_input_to_hidden.linear", "reduce_hidden_to_energy.linear"
    changed = replace(arch, readout_width=width)
    old, new = weight_layouts(arch), weight_layouts(changed)
    paths = old[f"{first}.weight"].paths
    blocks = old[f"{first}.weight"].split(weights[f"{first}.weight"].double())
    matrix = torch.cat([blocks[path.key] * path.scale for path in paths])
    vector = weights[f"{second}.weight"].double() * old[f"{second}.weight"].paths[0].scale
    inner = weights[f"{first}.bias"].double() if arch.bias else torch.zeros(arch.readout_width, dtype=torch.float64)
    contribution = (matrix[_kept_rows(paths, plan)] * vector).abs().sum(0)
    order = contribution.argsort(descending=True, stable=True)
    stay, go = order[: width - 1].sort().values, order[width - 1 :]
    joined, joined_bias = matrix[:, go] @ vector[go], inner[go] @ vector[go]
    scale = sqrt(joined.norm().item()) or 1.0
    matrix = torch.cat([matrix[:, stay], joined[:, None] / scale], dim=1)
    result = dict(weights)
    rows = dict(zip(blocks, matrix.split([path.shape[0] for path in paths]), strict=True))
    narrower = new[f"{first}.weight"]
    result[f"{first}.weight"] = narrower.join({path.key: rows[path.key] / path.scale for path in narrower.paths})
    vector = torch.cat([vector[stay], torch.tensor([scale], dtype=torch.float64)])
    result[f"{second}.weight"] = vector / new[f"{second}.weight"].paths[0].scale
    if arch.bias:
        result[f"{first}.bias"] = torch.cat([inner[stay], joined_bias[None] / scale])
    return changed, result


def _kept_rows(paths: tuple[Path, ...], plan: PruningPlan) -> list[int]:
    rows, start = [], 0
    for path in paths:
        [axis, _] = path.axes
        kept = tuple(replace(s, mul=len(plan.kept(s.space, s.irrep, s.mul))) for s in axis)
        rows += [start + row for row in kept_positions(axis, kept, plan)]
        start += axis_size(axis)
    return rows

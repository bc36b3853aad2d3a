"""More Bessel functions and non-linear readouts for MACE, with the function kept or the new part drawn anew.

Weights drawn anew are standard normal, as e3nn initialises linear maps and radial networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from math import pi

import torch
from torch import Tensor

from equiprune.adapters.capabilities import Weights
from equiprune.adapters.growth import GrowRadialBasis, Growth, NonlinearReadout
from equiprune.adapters.mace.architecture import Block, MaceArchitecture, Radial, Readout, ReadoutKind
from equiprune.adapters.mace.layouts import weight_layouts
from equiprune.errors import TargetError


def grow(arch: MaceArchitecture, weights: Weights, growth: Growth) -> tuple[MaceArchitecture, Weights]:
    """The grown hyperparameters and weights; weights are float64."""
    match growth:
        case GrowRadialBasis():
            return _radial_basis(arch, weights, growth)
        case NonlinearReadout():
            return _nonlinear_readout(arch, weights, growth)
    raise TargetError(f"mace models know no {type(growth).__name__}. Leave that out.")


def _drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _radial_basis(
    arch: MaceArchitecture, weights: Weights, growth: GrowRadialBasis
) -> tuple[MaceArchitecture, Weights]:
    least = arch.radial_basis + growth.preserve
    if arch.radial is not Radial.BESSEL or growth.functions < least:
        raise TargetError(
            f"The radial basis cannot grow to {growth.functions} functions: the model has {arch.radial_basis} of kind "
            f"{arch.radial.value}; give {least} or more Bessel functions."
        )
    if not growth.preserve and any(step.block is Block.GATED for step in arch.steps):
        raise TargetError(f"The radial networks of a {Block.GATED} cannot be drawn anew. Leave out `reinitialise`.")
    grown = replace(arch, radial_basis=growth.functions)
    old, new, generator = weight_layouts(arch), weight_layouts(grown), _drawn(growth.seed)
    result = dict(weights)
    for name, layout in new.items():
        if name.endswith((".conv_tp_weights.layer0.weight", ".density_fn.layer0.weight")):
            ratio = old[name].paths[0].scale / layout.paths[0].scale
            fresh = weights[name].new_zeros(layout.shape)
            fresh[: arch.radial_basis] = weights[name] * ratio
            result[name] = fresh if growth.preserve else _normal(layout.shape, generator)
        if name.endswith((".conv_tp_weights.net.0.weight", ".density_fn.net.0.weight")):  # (out, functions and species)
            functions, species = weights[name].tensor_split((arch.radial_basis,), dim=1)
            fresh = functions.new_zeros(len(functions), growth.functions - arch.radial_basis)
            result[name] = torch.cat([functions, fresh, species], dim=1)
    frequencies = "radial_embedding.bessel_fn.bessel_weights"
    result[frequencies] = _more_frequencies(weights[frequencies], arch.cutoff, growth.functions)
    return grown, result


def _more_frequencies(frequencies: Tensor, cutoff: float, number: int) -> Tensor:
    """Those there are, then the lowest multiples of pi / cutoff that are missing."""

    def missing() -> Iterator[float]:
        for n in count(1):
            if (frequencies * cutoff / pi - n).abs().min() > 1e-3:
                yield n * pi / cutoff

    source = missing()
    added = [next(source) for _ in range(number - len(frequencies))]
    return torch.cat([frequencies, torch.tensor(added, dtype=frequencies.dtype)])


def _nonlinear_readout(
    arch: MaceArchitecture, weights: Weights, growth: NonlinearReadout
) -> tuple[MaceArchitecture, Weights]:
    last = arch.steps[-1]
    if growth.preserve and last.readout.kind is ReadoutKind.NONLINEAR:
        raise TargetError("The last readout has a hidden layer already; only drawing it anew would change it.")
    if growth.width < (2 if growth.preserve else 1):
        raise TargetError(f"A readout of {growth.width} hidden neurons is too narrow: give 2 or more.")
    readout = Readout(ReadoutKind.NONLINEAR, growth.width)
    grown = replace(arch, steps=(*arch.steps[:-1], replace(last, readout=readout)))
    number = sum(step.readout.kind is not ReadoutKind.NONE for step in arch.steps) - 1
    name, layouts, generator = f"readouts.{number}", weight_layouts(grown), _drawn(growth.seed)
    result = {n: w for n, w in weights.items() if not n.startswith(f"{name}.")}
    first, second = (layouts[f"{name}.linear_{i}.weight"].paths[0] for i in (1, 2))
    into, out = _normal(first.shape, generator), _normal(second.shape, generator)
    if growth.preserve:
        constant = _silu_constant(arch)
        into, out = _two_neurons(weights[f"{name}.linear.weight"], into, torch.zeros_like(out), second.scale * constant)
    result[f"{name}.linear_1.weight"], result[f"{name}.linear_2.weight"] = into.reshape(-1), out.reshape(-1)
    return grown, result


def _silu_constant(arch: MaceArchitecture) -> float:
    if arch.gate != "silu" or "silu" not in arch.activation_constants:
        raise TargetError(
            f"Only a readout with silu can stand in for a linear one exactly; this model's is '{arch.gate}'. Draw the "
            "readout anew instead (`reinitialise`)."
        )
    return arch.activation_constants["silu"]


def _two_neurons(linear: Tensor, into: Tensor, out: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """(channels, heads, neurons) and (heads, neurons, heads) with silu(x) - silu(-x) = x in each head's first two."""
    heads = into.shape[1]
    matrix = linear.reshape(-1, heads)
    into = into.clone()
    into[:, :, 0], into[:, :, 1] = matrix, -matrix
    own = torch.arange(heads)
    out[own, 0, own], out[own, 1, own] = 1 / factor, -1 / factor
    return into, out

"""Building MACE modules: by upstream's constructor where it can, else assembled from upstream's blocks.

An assembled model consists of the same classes; only its numbers of channels, l or neurons are ones that the
constructor cannot be told.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import nn

from equiprune.adapters.mace.architecture import (
    Block,
    Interaction,
    MaceArchitecture,
    Readout,
    ReadoutKind,
)
from equiprune.adapters.precision import default_dtype
from equiprune.blocks import Irreps
from equiprune.errors import CheckpointError


def build(arch: MaceArchitecture, dtype: torch.dtype) -> nn.Module:
    """An upstream module with freshly initialised weights."""
    with upstream(dtype):
        model = _constructed(arch) if arch.stock else _assembled(arch)
        set_activation_constants(model, arch)
        return model.to(dtype)


_LOADS_ANYTHING = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def upstream(dtype: torch.dtype) -> Iterator[None]:
    """Import mace and construct in ``dtype``, without its messages and without lasting effects.

    mace and e3nn take the precision of their constants from torch's default dtype. Importing mace, or parts of it, sets
    an environment variable that makes every later `torch.load` run whatever a file contains, and its calculator needs
    it; it holds inside and is put back.
    """
    loads = os.environ.get(_LOADS_ANYTHING)
    try:
        with default_dtype(dtype), warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            os.environ[_LOADS_ANYTHING] = "1"
            import_mace()
            yield
    finally:
        if loads is None:
            os.environ.pop(_LOADS_ANYTHING, None)
        else:
            os.environ[_LOADS_ANYTHING] = loads


def import_mace() -> None:
    """Import mace. Raises `CheckpointError` with the line to type when it is not installed."""
    try:
        import mace.modules  # noqa: F401
    except ImportError as error:
        raise CheckpointError(
            f"MACE models need mace-torch ({error}). Install it with: pip install 'equiprune[mace]'."
        ) from error


def _constructed(arch: MaceArchitecture) -> nn.Module:
    from mace.modules import MACE, ScaleShiftMACE

    if not arch.scale_shift:
        return MACE(**arguments(arch))
    scale = np.ones(max(1, len(arch.heads))) if "scale" in arch.per_head else 1.0
    shift = np.zeros(max(1, len(arch.heads))) if "shift" in arch.per_head else 0.0
    return ScaleShiftMACE(atomic_inter_scale=scale, atomic_inter_shift=shift, **arguments(arch))


def arguments(arch: MaceArchitecture) -> dict[str, Any]:
    """Arguments of upstream's constructor for a stock model; atomic energies are placeholders."""
    from e3nn import o3
    from mace.modules import gate_dict, interaction_classes

    first, last = arch.steps[0], arch.steps[-1]
    energies = (
        (max(1, len(arch.heads)), len(arch.elements)) if "atomic_energies" in arch.per_head else len(arch.elements)
    )
    edge_irreps = next((s.edge_irreps for t, s in enumerate(arch.steps[1:], 1) if not _follows(arch, t)), None)
    narrow_first = not _follows(arch, 0)
    if narrow_first and len(arch.steps) == 1:
        edge_irreps = first.edge_irreps
    return {
        "r_max": arch.cutoff,
        "num_bessel": arch.radial_basis,
        "num_polynomial_cutoff": arch.cutoff_power,
        "max_ell": arch.edge_lmax,
        "interaction_cls": interaction_classes[last.block],
        "interaction_cls_first": interaction_classes[first.block],
        "num_interactions": len(arch.steps),
        "num_elements": len(arch.elements),
        "hidden_irreps": o3.Irreps(first.hidden_irreps),
        "MLP_irreps": o3.Irreps(f"{max(1, last.readout.width)}x0e"),
        "atomic_energies": np.zeros(energies),
        "avg_num_neighbors": first.avg_num_neighbors,
        "atomic_numbers": list(arch.elements),
        "correlation": first.correlation,
        "gate": gate_dict[arch.gate],
        "pair_repulsion": arch.pair_repulsion,
        "apply_cutoff": arch.apply_cutoff,
        "use_reduced_cg": False,
        "use_so3": arch.use_so3,
        "use_agnostic_product": arch.agnostic_product,
        "use_last_readout_only": len(arch.steps) > 1 and first.readout.kind is ReadoutKind.NONE,
        "distance_transform": arch.transform.value,
        "edge_irreps": o3.Irreps(edge_irreps) if edge_irreps else None,
        "use_edge_irreps_first": narrow_first,
        "radial_MLP": list(first.radial_widths),
        "radial_type": arch.radial.value,
        "heads": list(arch.heads) or [arch.head_name],
        "embedding_specs": {each.name: each.specification for each in arch.embeddings} or None,
        "use_embedding_readout": arch.embedding_readout,
    }


def _follows(arch: MaceArchitecture, t: int) -> bool:
    """True if the features entering a convolution have the irreps of the hidden ones, as without ``edge_irreps``."""
    return Irreps.parse(arch.steps[t].edge_irreps) == arch.input_irreps(t)


def _assembled(arch: MaceArchitecture) -> nn.Module:
    """The smallest stock model with the same constants, its blocks replaced one by one."""
    from e3nn import o3
    from mace.modules import LinearNodeEmbeddingBlock, LinearReadoutBlock
    from mace.modules.embeddings import GenericJointEmbedding

    model: Any = _constructed(_smallest(arch))
    model.spherical_harmonics = o3.SphericalHarmonics(
        o3.Irreps(str(arch.edge_attrs(arch.edge_lmax))), normalize=True, normalization="component"
    )
    elements, channels = o3.Irreps(f"{len(arch.elements)}x0e"), o3.Irreps(str(arch.input_irreps(0)))
    model.node_embedding = LinearNodeEmbeddingBlock(elements, channels)
    if arch.embeddings:
        model.joint_embedding = GenericJointEmbedding(base_dim=arch.channels, embedding_specs=model.embedding_specs)
    if arch.embedding_readout:
        model.embedding_readout = LinearReadoutBlock(channels, o3.Irreps(f"{max(1, len(arch.heads))}x0e"))
    model.interactions = nn.ModuleList(_interaction(arch, t, elements) for t in range(len(arch.steps)))
    model.products = nn.ModuleList(_product(arch, step) for step in arch.steps)
    model.readouts = nn.ModuleList(_readout(arch, s) for s in arch.steps if s.readout.kind is not ReadoutKind.NONE)
    # Tools that rebuild a model from its hyperparameters would fill part of this one with random numbers and say
    # nothing (mace/cli/convert_e3nn_cueq.py). They all read this attribute, and nothing else does. The constructor
    # itself looks at it for the second and later interactions, for the first one only when told to.
    model.edge_irreps = f"assembled by equiprune ({arch.why_not_stock}): it cannot be rebuilt from hyperparameters"
    model.use_edge_irreps_first = len(arch.steps) == 1
    return model


def _smallest(arch: MaceArchitecture) -> MaceArchitecture:
    """One channel, scalars only, everything else the same: the outside of an assembled model."""

    def step(t: int) -> Interaction:
        last = t == len(arch.steps) - 1
        kind = ReadoutKind.NONLINEAR if last and t else ReadoutKind.LINEAR
        return Interaction(
            block=Block.RESIDUAL,
            edge_irreps="1x0e",
            edge_lmax=1,
            a_basis=str(arch.edge_attrs(1)),
            hidden_irreps="1x0e",
            correlation=1,
            radial_widths=(1,),
            avg_num_neighbors=1.0,
            readout=Readout(kind, 1 if kind is ReadoutKind.NONLINEAR else 0),
        )

    return replace(arch, channels=1, steps=tuple(map(step, range(len(arch.steps)))))


def _interaction(arch: MaceArchitecture, t: int, elements: Any) -> nn.Module:
    from e3nn import o3
    from mace.modules import interaction_classes

    step = arch.steps[t]
    block: Any = interaction_classes[step.block](
        node_attrs_irreps=elements,
        node_feats_irreps=o3.Irreps(str(arch.input_irreps(t))),
        edge_attrs_irreps=o3.Irreps(str(arch.edge_attrs(step.edge_lmax))),
        edge_feats_irreps=o3.Irreps(f"{arch.radial_basis}x0e"),
        target_irreps=o3.Irreps(step.messages or step.a_basis),
        hidden_irreps=o3.Irreps(step.hidden_irreps),
        edge_irreps=o3.Irreps(step.edge_irreps),
        avg_num_neighbors=step.avg_num_neighbors,
        radial_MLP=list(step.radial_widths),
    )
    if step.block.two_maps and step.messages != step.a_basis:
        a_basis = o3.Irreps(step.a_basis)
        if step.block is Block.GATED:
            block.linear_2 = o3.Linear(block.irreps_out, a_basis)
        else:
            block.skip_tp = o3.FullyConnectedTensorProduct(block.irreps_out, elements, a_basis)
        block.reshape = type(block.reshape)(a_basis)
    if step.edge_lmax < arch.edge_lmax:
        block.conv_tp = _seeing_all_harmonics(block.conv_tp, o3.Irreps(str(arch.edge_attrs(arch.edge_lmax))))
    return block


def _seeing_all_harmonics(conv_tp: Any, harmonics: Any) -> nn.Module:
    """The same tensor product on edges that carry higher l as well, as another interaction needs them."""
    from e3nn import o3

    paths = [(i.i_in1, i.i_in2, i.i_out, "uvu", True) for i in conv_tp.instructions]
    return o3.TensorProduct(
        conv_tp.irreps_in1, harmonics, conv_tp.irreps_out, paths, shared_weights=False, internal_weights=False
    )


def _product(arch: MaceArchitecture, step: Interaction) -> nn.Module:
    from e3nn import o3
    from mace.modules.blocks import EquivariantProductBasisBlock

    hidden, channels = o3.Irreps(step.hidden_irreps), Irreps.parse(step.a_basis).entries[0][0]
    products = o3.Irreps([(channels, ir) for _, ir in hidden])
    block: Any = EquivariantProductBasisBlock(
        node_feats_irreps=o3.Irreps(step.a_basis),
        target_irreps=products,
        correlation=step.correlation,
        use_sc=step.block.residual,
        num_elements=len(arch.elements),
        use_agnostic_product=arch.agnostic_product,
        use_reduced_cg=False,
    )
    if hidden != products:
        block.linear = o3.Linear(products, hidden)
    return block


def _readout(arch: MaceArchitecture, step: Interaction) -> nn.Module:
    from e3nn import o3
    from mace.modules import LinearReadoutBlock, NonLinearReadoutBlock, gate_dict

    heads = max(1, len(arch.heads))
    hidden, energies = o3.Irreps(step.hidden_irreps), o3.Irreps(f"{heads}x0e")
    if step.readout.kind is ReadoutKind.LINEAR:
        return LinearReadoutBlock(hidden, energies)
    neurons = o3.Irreps(f"{heads * step.readout.width}x0e")
    return NonLinearReadoutBlock(hidden, neurons, gate_dict[arch.gate], energies, heads)


def set_activation_constants(model: Any, arch: MaceArchitecture) -> None:
    """Give a module, which it changes, the factors behind activations that the model was trained with."""
    from e3nn.math import normalize2mom

    for module in model.modules():
        if isinstance(module, normalize2mom):
            name = getattr(module.f, "__name__", "")
            module.cst = arch.activation_constants.get(name, module.cst)
    for block in (
        block for block, step in zip(model.interactions, arch.steps, strict=True) if step.block is Block.GATED
    ):
        block.equivariant_nonlin._scalar_cst = arch.activation_constants["silu"]
        block.equivariant_nonlin._gate_cst = arch.activation_constants["sigmoid"]

"""SevenNet's forward pass for a recorded step: nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from equiprune import AtomicGraph
from equiprune.adapters import Outputs, Taps
from equiprune.adapters.sevennet import SevenNetAdapter
from equiprune.potentials.potential import Potential


def fixed_evaluation(potential: Potential) -> Callable[[AtomicGraph, Taps], Outputs]:
    """SevenNet's forward pass, no operation of which waits for the device; taps see features between interactions.

    That of other architectures is as their adapters have it.
    """
    if not isinstance(potential.adapter, SevenNetAdapter):
        return potential.evaluate
    arch, module = potential.architecture, potential.module
    table = torch.full((max(arch.elements) + 1,), -1)
    table[torch.tensor(arch.elements)] = torch.arange(len(arch.elements))
    table = table.to(potential.device)

    def evaluate(graph: AtomicGraph, taps: Taps) -> Outputs:
        data: dict[str, Any] = {
            "x": table[graph.numbers],
            "edge_vec": graph.edge_vectors(),
            "edge_index": graph.edge_index,
            "batch": graph.structure_of_atom,
        }
        for name, layer in module.named_children():
            if name == "reduce_total_enegy":  # upstream's spelling; it waits for the number of structures
                break
            data = layer(data)
            if name == "onehot_idx_to_onehot":  # in float32, whatever the model is in
                data |= {key: data[key].to(graph.positions.dtype) for key in ("x", "node_attr")}
            elif name == "onehot_to_feature_x":
                data["x"] = taps("node_feats.0", data["x"])
            elif name.endswith("equivariant_gate"):
                data["x"] = taps(f"node_feats.{int(name.partition('_')[0]) + 1}", data["x"])
        of_atoms = data["atomic_energy"][:, 0]
        total = of_atoms.new_zeros(graph.n_structures).index_add(0, graph.structure_of_atom, of_atoms)
        return Outputs(total, of_atoms)

    return evaluate

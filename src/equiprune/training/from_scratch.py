"""Models with upstream's random initialisation: the start of baselines."""

from __future__ import annotations

import torch

from equiprune.adapters.history import Initialised
from equiprune.potentials.potential import Potential


def from_scratch(potential: Potential, seed: int = 0) -> Potential:
    """The same architecture with upstream's own random initialisation: the baseline of every claim about inheritance.

    What is not trained stays: atomic energies, scales and shifts, denominators. Only trained weights are drawn anew.

    Args:
        potential: whose architecture and constants to take.
        seed: of the initialisation; the global random state is left as it was.
    """
    layouts = potential.adapter.layouts(potential.architecture)
    with torch.random.fork_rng(devices=[]):  # building a module draws numbers, whatever they are for
        torch.manual_seed(seed)
        fresh = dict(potential.adapter.build(potential.architecture, potential.dtype).named_parameters())
        weights = {
            name: fresh[name].detach().clone() if layout.trainable else potential.checkpoint.weights[name]
            for name, layout in layouts.items()
        }
        checkpoint = potential.checkpoint.after(Initialised(seed), weights)
        return Potential.create(potential.adapter, checkpoint, potential.dtype, potential.head, potential.device)

"""A toy whose architecture has code of equiprune's own, beside upstream's."""

from dataclasses import replace
from typing import Any

import torch

import equiprune as ep
from equiprune.adapters import Outputs
from equiprune.adapters.toy import ToyAdapter


class WithOwnCode(ToyAdapter):
    """A toy whose own code gives energies that are off by some eV, and by a share of them; or forces that are."""

    def __init__(self, shift: float = 0.0, share: float = 0.0, forces: float = 0.0) -> None:
        self.shift, self.share, self.forces = shift, share, forces

    def build_for_evaluation(self, *arguments: Any) -> torch.nn.Module:
        module = self.build(*arguments)
        module.is_own = True
        return module

    def evaluate(self, module: torch.nn.Module, *arguments: Any) -> Outputs:
        found = super().evaluate(module, *arguments)
        if not hasattr(module, "is_own"):
            return found
        energies = found.energies * (1 + self.share) + self.shift
        return replace(found, energies=energies + self.forces * (energies - energies.detach()))


def with_own_code(toy: ep.Potential, **off: float) -> ep.Potential:
    return ep.Potential.create(WithOwnCode(**off), toy.checkpoint, torch.float32)

"""Muon and SOAP for weights that hold several matrices one after another, as e3nn's do: what `recipes.py` tries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from equiprune.blocks import WeightLayout
from equiprune.training.optimisation import Optimisation

Maker = Callable[[nn.Module, Optimisation, Mapping[str, WeightLayout]], torch.optim.Optimizer]


class PerPath(torch.optim.Optimizer):
    """Adam, but for matrices another optimizer: each dense block of a weight is one.

    The blocks share their memory with the weight, so that the optimizers behind this one move the weight itself.
    """

    def __init__(
        self,
        module: nn.Module,
        layouts: Mapping[str, WeightLayout],
        rate: float,
        of_matrices: Callable[[list[Tensor]], torch.optim.Optimizer],
    ) -> None:
        weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        super().__init__([{"params": list(weights.values()), "lr": rate, "factor": 1.0}], {})
        self.blocks = [
            (weight, key, layouts[name], nn.Parameter(block))
            for name, weight in weights.items()
            for key, block in layouts[name].split(weight.data).items()
        ]
        blocks = [block for *_, block in self.blocks]
        self.behind = [
            of_matrices([block for block in blocks if block.dim() == 2]),
            torch.optim.Adam([block for block in blocks if block.dim() != 2], lr=rate),
        ]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all blocks with the gradients of their weights."""
        for weight, key, layout, block in self.blocks:
            block.grad = None if weight.grad is None else layout.split(weight.grad)[key]
        for optimizer in self.behind:
            for group in optimizer.param_groups:
                group["lr"] = self.param_groups[0]["lr"]
            optimizer.step()


class Soap(torch.optim.Optimizer):
    """Adam in the eigenvectors of Shampoo's two Gram matrices (Vyas and others, arXiv:2409.11321, algorithm 3)."""

    def __init__(self, matrices: list[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.95)) -> None:
        super().__init__(matrices, {"lr": lr, "betas": betas, "every": 10, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix; the eigenvectors follow every tenth step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    _soap(weight, weight.grad, self.state[weight], group)


def _soap(weight: Tensor, gradient: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    """A step of one matrix; the first one only learns the eigenvectors."""
    first, second = group["betas"]
    grams = gradient @ gradient.T, gradient.T @ gradient
    if not state:
        bases = [torch.linalg.eigh(gram)[1] for gram in grams]
        zero = torch.zeros_like(gradient)
        state.update(step=0, grams=list(grams), bases=bases, mean=zero, square=zero.clone())
        return
    state["step"] += 1
    left, right = state["bases"]
    state["mean"].lerp_(gradient, 1 - first)
    state["square"].lerp_((left.T @ gradient @ right).square(), 1 - second)
    mean = left.T @ state["mean"] @ right / (1 - first ** state["step"])
    size = (state["square"] / (1 - second ** state["step"])).sqrt() + group["eps"]
    weight.sub_(group["lr"] * left @ (mean / size) @ right.T)
    for old, new in zip(state["grams"], grams, strict=True):
        old.lerp_(new, 1 - second)
    if state["step"] % group["every"] == 0:
        state["bases"] = [torch.linalg.qr(g @ b)[0] for g, b in zip(state["grams"], state["bases"], strict=True)]


def muon(module: nn.Module, optimisation: Optimisation, layouts: Mapping[str, WeightLayout]) -> torch.optim.Optimizer:
    """Muon (Jordan and others 2024), its steps as large as Adam's (arXiv:2502.16982)."""
    rate = optimisation.learning_rate

    def of_matrices(blocks: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Muon(blocks, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")

    return PerPath(module, layouts, rate, of_matrices)


def soap(module: nn.Module, optimisation: Optimisation, layouts: Mapping[str, WeightLayout]) -> torch.optim.Optimizer:
    """SOAP for matrices."""
    rate = optimisation.learning_rate
    return PerPath(module, layouts, rate, lambda blocks: Soap(blocks, rate))


@contextmanager
def trained_by(maker: Maker | None) -> Iterator[None]:
    """Let training use another optimizer meanwhile; it offers no choice, since none of these is better."""
    if maker is None:
        yield
    else:
        with patch("equiprune.training.trainer.optimizer", maker):
            yield

"""A training step that is recorded once and replayed: a GPU then waits for no launch of a kernel.

A step of a small batch launches thousands of kernels, which takes longer than their work. All batches have one shape
(`pool.Shape`), so the launches are the same every time, and a CUDA graph of them is one launch. On a CPU the step runs
as it is written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.features import ParentFeatures
from benchmarks.gpu.fixed import fixed_evaluation
from benchmarks.gpu.pool import Batch
from equiprune.adapters import NO_TAPS
from equiprune.potentials.derivatives import Derivatives, differentiated
from equiprune.potentials.potential import Potential

Losses = Callable[[Derivatives, Batch], Sequence[Tensor]]
"""Parts of the objective, each with its weight, from what was predicted for a batch."""

_LARGEST_NORM = 10.0
"""Of a gradient; longer ones are shortened."""
_TOLERANCE = 1e-3
"""Relative difference of gradients: sums in float32 whose order changes from run to run."""


@dataclass(frozen=True)
class Recorded:
    """How recording a step went.

    Attributes:
        milliseconds: of a step as it is run from now on.
        written: milliseconds of the step as it is written.
        difference: of its gradients from those, relative.
        failed: why it is not replayed; empty if it is.
    """

    milliseconds: float
    written: float
    difference: float
    failed: str = ""


class Step:
    """Losses and gradients of the weights for one batch after another of one shape.

    After a call ``gradients`` holds those of the weights, shortened to a norm of 10, and zero where the loss was not
    finite. ``parts`` is a tensor of the losses' parts, with ``features`` last where they are learnt too.
    """

    def __init__(
        self, potential: Potential, weights: Sequence[Tensor], losses: Losses, features: ParentFeatures | None = None
    ) -> None:
        self.features = features
        self.evaluate, self.weights, self.losses = fixed_evaluation(potential), list(weights), losses
        self.recorded: torch.cuda.CUDAGraph | None = None
        self.batch: Batch | None = None
        self.gradients: list[Tensor] = []
        self.parts = torch.zeros(0)

    def record(self, batch: Batch) -> Recorded:
        """Record the step on a batch's shape, so that what follows replays it; says how that went.

        What cannot be recorded, or gives other gradients when it is replayed, is run as it is written.
        """
        written = self._milliseconds(batch)
        expected = [g.clone() for g in self.gradients]
        try:
            self._record(batch)
            self(batch)
            error = _difference(self.gradients, expected)
        except RuntimeError as failed:
            self.recorded = None
            return Recorded(written, written, math.nan, str(failed))
        if not error < _TOLERANCE:
            self.recorded = None
            return Recorded(written, written, error, "other gradients")
        return Recorded(self._milliseconds(batch), written, error)

    def _record(self, batch: Batch, warm_up: int = 4) -> None:
        torch._C._jit_set_texpr_fuser_enabled(False)  # it would compile kernels in between
        self.batch = batch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warm_up):
                self._run(batch)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            self._run(batch)
        self.recorded = recorded

    def _milliseconds(self, batch: Batch, repeats: int = 10) -> float:
        self(batch)
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(repeats):
            self(batch)
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - begun) / repeats

    def __call__(self, batch: Batch) -> None:
        if self.recorded is None:
            self._run(batch)
        else:
            _copy(batch, self.batch)
            self.recorded.replay()

    def _run(self, batch: Batch) -> None:
        seen: dict[str, Tensor] = {}
        taps = self.features.taps(seen) if self.features else NO_TAPS
        predicted = differentiated(self.evaluate, batch.graph, taps, create_graph=True)
        of_features = [self.features(seen, batch)] if self.features else []
        parts = torch.stack([*self.losses(predicted, batch), *of_features])
        found = torch.autograd.grad(parts.sum(), self.weights)
        norm = torch.stack([g.square().sum() for g in found]).sum().sqrt()
        scale = torch.where(norm.isfinite(), (_LARGEST_NORM / (norm + 1e-6)).clamp(max=1.0), 0.0)
        self.gradients = [torch.nan_to_num(g, 0.0, 0.0, 0.0) * scale for g in found]
        self.parts = parts.detach()


def _difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Norm of the difference of two gradients relative to that of the second."""
    squares = [torch.stack([(a - b).square().sum(), b.square().sum()]) for a, b in zip(found, expected, strict=True)]
    difference, size = torch.stack(squares).sum(0).sqrt().tolist()
    return difference / size


def _copy(source: Any, target: Any) -> None:
    """All tensors of a nested dataclass into those of another."""
    for field in fields(source):
        value, into = getattr(source, field.name), getattr(target, field.name)
        if is_dataclass(value):
            _copy(value, into)
        else:
            into.copy_(value, non_blocking=True)

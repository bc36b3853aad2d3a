"""Least squares from sums: as many rows as there are, memory of one matrix.

The ridge is chosen by cross-validation over folds of structures, in closed form from the sums of each fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = tuple(10.0**power for power in range(-6, 4))
"""Ridges that are tried, relative to the mean square of an input."""


@dataclass(frozen=True)
class NormalEquations:
    """Sums over rows of inputs x and targets y, to find the matrix A of y = x A.

    ========  ==================  ===================
    field     shape               meaning
    ========  ==================  ===================
    gram      (inputs, inputs)    sum of x x^T
    cross     (inputs, outputs)   sum of x y^T
    square    ()                  sum of y^2
    ========  ==================  ===================

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    >>> NormalEquations.of(x, x @ torch.tensor([[2.0], [3.0]], dtype=torch.float64)).solved(0.0)
    tensor([[2.],
            [3.]], dtype=torch.float64)
    """

    gram: Tensor
    cross: Tensor
    square: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> NormalEquations:
        """Sums over rows x (rows, inputs) and y (rows, outputs)."""
        return cls(x.T @ x, x.T @ y, y.square().sum())

    def __add__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(self.gram + other.gram, self.cross + other.cross, self.square + other.square)

    def __sub__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(self.gram - other.gram, self.cross - other.cross, self.square - other.square)

    def counted(self, weight: float) -> NormalEquations:
        """With every row counted so many times."""
        return NormalEquations(weight * self.gram, weight * self.cross, weight * self.square)

    def solved(self, ridge: float) -> Tensor:
        """The matrix (inputs, outputs) of least squares, with its own size weighed by the ridge."""
        size = self.gram.diagonal().mean()
        if not size > 0:
            return torch.zeros_like(self.cross)
        damping = ridge * size * torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        return torch.linalg.solve(self.gram + damping, self.cross)

    def left(self, matrix: Tensor) -> float:
        """The sum of squares that a matrix leaves unexplained."""
        return float(self.square - 2 * (matrix * self.cross).sum() + (matrix * (self.gram @ matrix)).sum())


def total(equations: Sequence[NormalEquations]) -> NormalEquations:
    """Sums over the rows of all of them together."""
    first, *rest = equations
    return sum(rest, first)


def cross_validated(folds: Sequence[NormalEquations], ridges: Sequence[float] = RIDGES) -> Tensor:
    """The matrix of all folds, with the ridge whose matrix of the others explains each fold best; zero if none does.

    Args:
        folds: sums of rows that have nothing to do with each other, at least two.
        ridges: to choose from.
    """
    everything = total(folds)
    left = {r: sum(fold.left((everything - fold).solved(r)) for fold in folds) for r in ridges}
    best = min(left, key=left.__getitem__)
    nothing = torch.zeros_like(everything.cross)
    return everything.solved(best) if left[best] < everything.left(nothing) else nothing


def ridge_solution(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """The vector a that minimises |y - x a|^2 + r |a|^2, in a time that the smaller side of x decides.

    Args:
        x: inputs (rows, inputs).
        y: targets (rows,).
        ridge: r, relative to the mean square of a row.

    >>> x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    >>> ridge_solution(x, torch.tensor([2.0, 2.0], dtype=torch.float64), 0.0)
    tensor([1., 1., 1.], dtype=torch.float64)
    """
    size = x.square().sum() / max(len(x), 1)
    if not size > 0:
        return x.new_zeros(x.shape[1])
    few_rows = len(x) <= x.shape[1]
    products = x @ x.T if few_rows else x.T @ x
    damped = products + ridge * size * torch.eye(len(products), dtype=x.dtype, device=x.device)
    return x.T @ torch.linalg.solve(damped, y) if few_rows else torch.linalg.solve(damped, x.T @ y)

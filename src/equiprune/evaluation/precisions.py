"""Errors of lower precision: energies and forces against float64, beside the speed that they buy.

Rounding is that of the arithmetic, not of the model: the reference is the same model in float64. TF32, BF16 and FP16
are arithmetic of matrix products on CUDA GPUs, and are refused elsewhere by name.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms

from equiprune.errors import TargetError
from equiprune.evaluation.benchmark import seconds_of
from equiprune.evaluation.engines import EvaluationEngine
from equiprune.potentials.out_of_memory import is_out_of_memory
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.structures.batching import batches

_BATCH_ATOMS = 256


@dataclass(frozen=True)
class Precision:
    """A kind of arithmetic.

    Attributes:
        name: as it is asked for.
        dtype: of weights and sums.
        cuda_only: True where only CUDA GPUs have it.
    """

    name: str
    dtype: torch.dtype = torch.float32
    cuda_only: bool = False

    def arithmetic(self) -> AbstractContextManager[Any]:
        """A context in which models are evaluated so."""
        return nullcontext()

    def check(self, device: str) -> None:
        """Raise `TargetError` where a device has no such arithmetic."""
        if self.cuda_only and torch.device(device).type != "cuda":
            everywhere = ", ".join(name for name, each in PRECISIONS.items() if not each.cuda_only)
            raise TargetError(
                f"`precision` {self.name} is arithmetic of CUDA GPUs, and models are on {device}. There is only "
                f"{everywhere}."
            )


@dataclass(frozen=True)
class Tf32(Precision):
    """float32 whose matrix products have factors of 10 bits."""

    def arithmetic(self) -> AbstractContextManager[None]:
        return _tf32()


@dataclass(frozen=True)
class HalfProducts(Precision):
    """float32 whose matrix products are in 16 bits, as autocast of torch chooses them.

    Attributes:
        product: kind of these numbers.
    """

    product: torch.dtype = torch.bfloat16

    def arithmetic(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda", dtype=self.product)


FLOAT64 = Precision("float64", torch.float64)
PRECISIONS: Mapping[str, Precision] = {
    each.name: each
    for each in (
        Precision("float32"),
        Tf32("tf32", cuda_only=True),
        HalfProducts("bf16", cuda_only=True, product=torch.bfloat16),
        HalfProducts("fp16", cuda_only=True, product=torch.float16),
    )
}
"""Every precision that is compared with float64, by name."""


@contextmanager
def _tf32() -> Iterator[None]:
    matrices = torch.backends.cuda.matmul
    before, matrices.allow_tf32 = matrices.allow_tf32, True
    try:
        yield
    finally:
        matrices.allow_tf32 = before


@dataclass(frozen=True)
class PrecisionErrors:
    """Differences of one model in one precision from the same in float64.

    Attributes:
        model, engine, precision, device: the conditions.
        structures: that energies and forces are compared on.
        energy_mae, energy_max: meV/atom.
        forces_mae, forces_max: of components, meV/Angstrom.
        speed: time in float64 over the time in this precision, median over turns.
    """

    model: str
    engine: str
    precision: str
    device: str
    structures: int
    energy_mae: float
    energy_max: float
    forces_mae: float
    forces_max: float
    speed: float

    def to_json(self) -> dict[str, Any]:
        """Fields as above."""
        return dict(vars(self))


def precision_errors(
    potentials: Mapping[str, Potential],
    structures: Sequence[Atoms],
    precisions: Sequence[Precision],
    timed: Sequence[Atoms],
    *,
    engines: Sequence[EvaluationEngine],
    repeats: int = 5,
    progress: Progress = silent,
) -> list[PrecisionErrors]:
    """Errors of every model with every engine in every precision, and their speed, in turns with float64.

    Args:
        potentials: by the names that results have, in any precision.
        structures: energies and forces of these are compared.
        precisions: of `PRECISIONS`.
        timed: the batch whose evaluation is timed.
        engines: code that evaluates the models.
        repeats: timed evaluations, after one that is not.
        progress: called once per structure and precision, and once per timed turn.

    Raises:
        TargetError: the device has no such arithmetic, or the code cannot do with it.
    """
    elements = {int(number) for atoms in (*structures, *timed) for number in atoms.numbers}
    models = (_Compared(name, engine, each, elements) for engine in engines for name, each in potentials.items())
    return [found for model in models for found in model.errors(structures, precisions, timed, repeats, progress)]


class _Compared:
    """One model with one engine, in every precision."""

    def __init__(self, name: str, engine: EvaluationEngine, potential: Potential, elements: set[int]) -> None:
        self._name, self._engine, self._potential, self._elements = name, engine, potential, elements

    def errors(
        self,
        structures: Sequence[Atoms],
        precisions: Sequence[Precision],
        timed: Sequence[Atoms],
        repeats: int,
        progress: Progress,
    ) -> Iterator[PrecisionErrors]:
        """Errors in every precision; raises `TargetError` for what the device or the code cannot do."""
        for precision in precisions:
            precision.check(self._potential.device.type)
        truth = self._values(FLOAT64, structures, progress)
        seconds = self._seconds([FLOAT64, *precisions], timed, repeats, progress)
        for precision in precisions:
            values = self._values(precision, structures, progress)
            energies, forces = (np.abs(a - b) for a, b in zip(values, truth, strict=True))
            turns = zip(seconds[FLOAT64.name], seconds[precision.name], strict=True)
            yield PrecisionErrors(
                model=self._name,
                engine=self._engine.name,
                precision=precision.name,
                device=self._potential.device.type,
                structures=len(structures),
                energy_mae=float(energies.mean()),
                energy_max=float(energies.max()),
                forces_mae=float(forces.mean()),
                forces_max=float(forces.max()),
                speed=statistics.median(exact / rounded for exact, rounded in turns),
            )

    def _values(
        self, precision: Precision, structures: Sequence[Atoms], progress: Progress
    ) -> tuple[np.ndarray, np.ndarray]:
        """Energies (structures,) in meV/atom and components of forces in meV/Angstrom."""
        potential, energies, forces = self._in(precision), [], []
        for batch in batches(structures, _BATCH_ATOMS):
            with self._refused(precision), precision.arithmetic():
                predictions = potential.predict(batch, _BATCH_ATOMS)
            energies += [each.energy.double().item() / len(each.forces) for each in predictions]
            forces += [each.forces.double().cpu().numpy().ravel() for each in predictions]
            progress(len(batch))
        return 1e3 * np.array(energies), 1e3 * np.concatenate(forces)

    def _seconds(
        self, precisions: Sequence[Precision], timed: Sequence[Atoms], repeats: int, progress: Progress
    ) -> dict[str, list[float]]:
        """Times of evaluations by name of the precision, which take turns."""
        potentials = {precision: self._in(precision) for precision in precisions}
        graphs = {precision: potential.graph(timed) for precision, potential in potentials.items()}
        seconds: dict[str, list[float]] = {precision.name: [] for precision in precisions}
        for repeat in range(-1, repeats):
            for precision, potential in potentials.items():
                with self._refused(precision), precision.arithmetic():
                    spent = seconds_of(potential, graphs[precision])
                if repeat >= 0:
                    seconds[precision.name].append(spent)
            progress(1)
        return seconds

    def _in(self, precision: Precision) -> Potential:
        return self._engine.prepared(self._potential.with_dtype(precision.dtype), self._elements)

    @contextmanager
    def _refused(self, precision: Precision) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what torch says where numbers of two kinds meet
            if is_out_of_memory(error) or precision is FLOAT64:
                raise
            reason = str(error).split("\n")[0]
            raise TargetError(
                f"'{self._name}' cannot be evaluated in {precision.name} by the engine '{self._engine.name}': {reason}"
            ) from error


def table(found: Sequence[PrecisionErrors]) -> list[list[str]]:
    """Rows for display: mean and largest differences from float64."""
    heads = ["model", "engine", "precision", "energy (meV/atom)", "largest", "forces (meV/Angstrom)", "largest"]
    rows = [[*heads, "speed, of float64's"]]
    for each in found:
        errors = (each.energy_mae, each.energy_max, each.forces_mae, each.forces_max)
        numbers = [f"{error:.2g}" for error in errors]
        rows.append([each.model, each.engine, each.precision, *numbers, f"{each.speed:.2f}x"])
    return rows

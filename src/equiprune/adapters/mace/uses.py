"""Programs that open a ``.model`` of MACE, and the lines that make them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from equiprune.adapters.mace.architecture import Block, MaceArchitecture
from equiprune.adapters.uses import Use, typed


def uses(architecture: MaceArchitecture, file: str) -> tuple[Use, ...]:
    """MACE's own calculator, and of torch-sim and Symmetrix those that open such a model.

    Of several heads the first is named. Models with gated blocks or with charge and spin were only opened by the
    calculator.
    """
    return tuple(_uses(architecture, file))


def _uses(architecture: MaceArchitecture, file: str) -> Iterator[Use]:
    head = architecture.heads[0] if architecture.heads else None
    named = "" if head is None else f", head={head!r}"
    flag = "" if head is None else f" --head {typed(head)}"
    yield Use(
        "ASE, by MACE's own code",
        "from mace.calculators import MACECalculator\n"
        f'atoms.calc = MACECalculator(model_paths={file!r}, device="cpu", default_dtype="float64"{named})',
    )
    if architecture.global_inputs or any(step.block is Block.GATED for step in architecture.steps):
        return
    if head is None:
        yield Use("torch-sim, by MACE's own code", _in_torch_sim(file))
    if not architecture.why_not_stock and architecture.edge_lmax == _SYMMETRIX_LMAX and len(architecture.steps) <= 2:
        converted = PurePosixPath(file).with_suffix(".symmetrix.json").name
        line = f"equiprune export {typed(file)} -o {typed(converted)}{flag}"
        opened = f'from symmetrix import Symmetrix\natoms.calc = Symmetrix({converted!r}, dtype="float64")'
        yield Use("Symmetrix, in ASE (pip install 'symmetrix-xl[mace]'; needs a C++20 compiler)", f"{line}\n\n{opened}")


_SYMMETRIX_LMAX = 3
"""Highest l of spherical harmonics, the only one that it takes."""


def _in_torch_sim(file: str) -> str:
    return (
        "import torch\n"
        "import torch_sim as ts\n"
        "from torch_sim.models.mace import MaceModel\n\n"
        f"module = torch.load({file!r}, weights_only=False)\n"
        'model = MaceModel(module, device=torch.device("cpu"), dtype=torch.float64)\n'
        "moved = ts.integrate([atoms], model, integrator=ts.nve, n_steps=100, temperature=300.0, timestep=0.001)"
    )

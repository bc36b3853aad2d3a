"""Writing NequIP packages that stock tools open, and the energies that those give."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import nn

from equiprune.adapters.base import Checkpoint, load_weights
from equiprune.adapters.nequip.architecture import NequIPArchitecture, arguments, reached
from equiprune.adapters.nequip.build import INSTALL, NAMES, graph_model
from equiprune.adapters.nequip.checkpoint_file import CONFIG, METADATA, ONLY, PROVENANCE, VERSIONS
from equiprune.adapters.precision import default_dtype
from equiprune.errors import OutputError
from equiprune.files.atomic import replacing


def why_not(arch: NequIPArchitecture) -> str:
    """The reason why a package cannot hold this model; empty when it can."""
    for t, (asked, made) in enumerate(zip(arch.hidden_irreps, reached(arch), strict=True)):
        if asked != made:
            return (
                f"no path of the convolution leads to all of {asked} in layer {t}, and upstream would build {made}. "
                "Cut hidden features too (`--lmax` beside `--edge-lmax`, or `--irreps`)"
            )
    return ""


def write(checkpoint: Checkpoint[NequIPArchitecture], path: Path) -> tuple[Path, ...]:
    """A package as ``nequip-package build`` writes it, with licence and history in a file of its own.

    Its code is that of the nequip and e3nn that are installed here, since that is what a package is made of. The model
    is in it twice, for evaluation and for training with torch.compile.
    """
    try:
        from nequip.scripts import package as stock
    except ImportError as error:
        raise OutputError(f"{INSTALL}. ({error})") from error
    arch, dtype = checkpoint.architecture, checkpoint.dtype
    with replacing(path) as temporary, _quiet(), default_dtype(torch.float64):
        models = {kind: nn.ModuleDict({ONLY: _filled(checkpoint, kind)}) for kind in ("eager", "compile")}
        with torch.package.PackageExporter(temporary) as exporter:
            exporter.mock([f"{name}.**" for name in stock._MOCK_MODULES])
            exporter.extern([f"{name}.**" for name in stock._EXTERNAL_MODULES])
            exporter.intern([f"{name}.**" for name in stock._INTERNAL_MODULES])
            exporter.save_pickle("model", "example_data.pkl", _example(arch))
            for name, text in _texts(checkpoint, stock, dtype).items():
                exporter.save_text("model", name.removeprefix("model/"), text)
            for kind, model in models.items():
                exporter.save_pickle("model", f"{kind}_model.pkl", model)
    return (path,)


def _texts(checkpoint: Checkpoint[NequIPArchitecture], stock: Any, dtype: torch.dtype) -> dict[str, str]:
    """The files of text in a package by their names."""
    import yaml

    arch = checkpoint.architecture
    model = {"_target_": "nequip.model.FullNequIPGNNModel", "seed": 0, "model_dtype": NAMES[dtype], **arguments(arch)}
    metadata = {
        "versions": stock.get_current_code_versions(verbose=False),
        "external_modules": {name: stock.get_version_safe(name) for name in stock._EXTERNAL_MODULES},
        "package_version_id": VERSIONS[-1],
        "available_models": ["eager", "compile"],
        "atom_types": dict(enumerate(arch.type_names)),
    }
    provenance = {"licence": checkpoint.licence, "history": [dict(step) for step in checkpoint.history]}
    return {
        CONFIG: yaml.safe_dump({"training_module": {"model": model}}),
        METADATA: yaml.safe_dump(metadata, default_flow_style=False),
        PROVENANCE: json.dumps(provenance, allow_nan=False),
    }


def _filled(checkpoint: Checkpoint[NequIPArchitecture], kind: str) -> nn.Module:
    """Upstream's ``GraphModel`` with the weights, for evaluation or for training with torch.compile."""
    model = graph_model(checkpoint.architecture, checkpoint.dtype, compiled=kind == "compile")
    load_weights(model, {name: weight.detach().cpu() for name, weight in checkpoint.weights.items()})
    return model.eval()


def _example(arch: NequIPArchitecture) -> Any:
    """Data of a small structure, by which ``nequip-compile`` traces the model."""
    cubic = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]  # ase.build would take half a second to import
    elements = [arch.elements[i % len(arch.elements)] for i in range(len(cubic))]
    atoms = Atoms(elements, scaled_positions=cubic, cell=3 * [0.75 * arch.cutoff], pbc=True)
    atoms.rattle(0.01 * arch.cutoff, seed=0)
    return _data(arch, atoms)


def _data(arch: NequIPArchitecture, atoms: Atoms) -> Any:
    from nequip.data import AtomicDataDict, from_ase
    from nequip.integrations.utils import basic_transforms

    names = list(arch.type_names)
    data = from_ase(atoms)
    for transform in basic_transforms({}, arch.cutoff, names, {name: name for name in names}):
        data = transform(data)
    return AtomicDataDict.batched_from_list([data])


def stock_energies(path: Path, structures: Sequence[Atoms], _head: str | None = None) -> list[float]:
    """Energies (eV) by ``NequIPCalculator`` after it opened a package, which it does with the code in there."""
    from nequip.integrations.ase import NequIPCalculator

    with _quiet(), default_dtype(torch.float64), torch.random.fork_rng():
        calculator = NequIPCalculator._from_saved_model(path, chemical_species_to_atom_type_map=True)
        return [float(calculator.get_potential_energy(atoms)) for atoms in structures]


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

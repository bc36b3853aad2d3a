"""Writing eSCN checkpoints that fairchem-core 1.10 opens, and the ``.yml`` that continues training from one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from equiprune.adapters.base import Checkpoint, load_weights
from equiprune.adapters.escn import build, checkpoint_file, frames, upstream
from equiprune.adapters.escn.architecture import EscnArchitecture
from equiprune.adapters.escn.checkpoint_file import PROVENANCE_KEY
from equiprune.adapters.precision import default_dtype
from equiprune.errors import OutputError
from equiprune.structures.graph import AtomicGraph

_PREFIX = "module."
"""Before every name in files of upstream's trainer, which wraps models for several processes."""


def why_not(arch: EscnArchitecture) -> str:
    """The reason why fairchem's constructor cannot be told of this model; empty when it can."""
    remedy = "Prune with `native_grids`, which is no longer exact but opens in fairchem"
    return f"{arch.why_not_stock}. {remedy}" if arch.why_not_stock else ""


def write(checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
    """A ``.pt`` for fairchem's calculator and trainer, and beside it the ``.yml`` that continues training from it.

    Raises:
        OutputError: the file does not read back as written.
    """
    import yaml

    arch: EscnArchitecture = checkpoint.architecture
    buffer = BytesIO()
    torch.save(content(checkpoint), buffer)
    path.write_bytes(buffer.getvalue())  # a full disk is then an OSError, as everywhere
    if checkpoint_file.read(path, trust=False).architecture != arch:
        raise OutputError("The file did not read back as written: its hyperparameters differ. Nothing was saved.")
    recipe = path.with_suffix(".yml")
    start = f"fairchem --mode train --config-yml {recipe.name} --checkpoint {path.name}"
    recipe.write_text(
        f"# Fine-tunes {path.name} with fairchem-core 1.10, once 'src' says where your data is:\n# {start}\n"
        + yaml.safe_dump(training_config(arch), sort_keys=False)
    )
    return path, recipe


def content(checkpoint: Checkpoint) -> dict[str, Any]:
    """The dictionary that upstream's trainer saves (trainers/base_trainer.py), without its optimiser; plain data.

    The calculator takes its normalizers from here, the trainer those of its config first (``load_checkpoint`` there).
    """
    arch, weights = checkpoint.architecture, checkpoint.weights
    module = build.build(arch, checkpoint.dtype)
    load_weights(module, weights)
    config = training_config(arch)
    provenance = {
        "licence": checkpoint.licence,
        "history": [dict(step) for step in checkpoint.history],
        "layers": list(arch.layers),
    }
    return {
        "state_dict": {f"{_PREFIX}{name}": tensor for name, tensor in module.state_dict().items()},
        "normalizers": {
            target: {key: torch.tensor(value, dtype=torch.float64) for key, value in numbers.items()}
            for target, numbers in _normalizers(arch).items()
        },
        "elementrefs": {},
        "config": {**config, "dataset": config["dataset"]["train"]},
        "epoch": 0,
        "step": 0,
        "ema": None,
        "amp": None,
        PROVENANCE_KEY: json.dumps(provenance),
    }


def _normalizers(arch: EscnArchitecture) -> dict[str, dict[str, float]]:
    """Factor (``rmsd``) and mean of the outputs, in eV and eV/Angstrom."""
    return {
        "energy": {"mean": arch.energy_mean, "rmsd": arch.energy_scale},
        "forces": {"mean": 0.0, "rmsd": arch.forces_scale},
    }


def training_config(arch: EscnArchitecture) -> dict[str, Any]:
    """A config for fairchem's trainer with the recipe that eSCN was published with; only data are left to fill in.

    The published recipe also averages weights (``ema_decay`` 0.999); the trainer drops that when it starts from a
    checkpoint without averages.
    """
    data = {
        "format": "lmdb",
        "src": "path/to/train",
        "key_mapping": {"y": "energy", "force": "forces"},
        "transforms": {"normalizer": _normalizers(arch)},
    }
    return {
        "trainer": "ocp",
        "task": {},
        "logger": "tensorboard",
        "model": {"name": "escn", **build.arguments(arch)},
        "dataset": {"train": data, "val": {"src": "path/to/val"}},
        "outputs": {
            "energy": {"shape": 1, "level": "system"},
            "forces": {"irrep_dim": 1, "level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True},
        },
        "loss_functions": [
            {"energy": {"fn": "mae", "coefficient": 2}},
            {"forces": {"fn": "l2mae", "coefficient": 100}},
        ],
        "evaluation_metrics": {
            "metrics": {
                "energy": ["mae"],
                "forces": ["mae", "cosine_similarity", "magnitude_error"],
                "misc": ["energy_forces_within_threshold"],
            },
            "primary_metric": "forces_mae",
        },
        "optim": dict(_OPTIMISATION),
    }


_OPTIMISATION = {
    "batch_size": 6,
    "eval_batch_size": 6,
    "num_workers": 8,
    "optimizer": "AdamW",
    "optimizer_params": {"amsgrad": True},
    "lr_initial": 8e-4,
    "warmup_steps": 100,
    "warmup_factor": 0.2,
    "lr_gamma": 0.3,
    "lr_milestones": [145833, 187500, 229166],
    "max_epochs": 12,
    "eval_every": 5000,
    "clip_grad_norm": 100,
}
"""Of the published L6-M2-Lay12 (configs/oc20/s2ef/2M/escn in fairchem's repository); 16 processes share the batches."""


def stock_energies(path: Path, structures: Sequence[Atoms], _head: str | None = None) -> list[float]:
    """Energies (eV) by upstream's own class and forward pass, in the precision of the file.

    Built from the file's config and loaded strictly. Two things of upstream's are replaced: its random turns of edges
    about themselves, and its search for neighbours, which belongs to its trainer.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    weights = {name.removeprefix(_PREFIX): tensor for name, tensor in stored["state_dict"].items()}
    arguments = {key: value for key, value in stored["config"]["model"].items() if key != "name"}
    scale = {key: value.item() for key, value in stored["normalizers"]["energy"].items()}
    dtype = weights["sphere_embedding.weight"].dtype
    with default_dtype(dtype), torch.no_grad():
        model = upstream.classes().eSCN(**arguments).eval()
        model.load_state_dict(weights, strict=True)
        energies = [_energy(model, atoms, dtype).item() for atoms in structures]
    return [energy * scale["rmsd"] + scale["mean"] for energy in energies]


def _energy(model: Any, atoms: Atoms, dtype: torch.dtype) -> Tensor:
    """Energy of a structure by upstream's forward pass, (1,), before normalizers are undone."""
    graph = AtomicGraph.from_structures([atoms], model.cutoff, dtype, max_neighbors=model.max_neighbors)
    vectors = graph.edge_vectors()
    edges = SimpleNamespace(
        edge_index=graph.edge_index.flip(0), edge_distance=vectors.norm(dim=-1), edge_distance_vec=vectors
    )
    model.generate_graph = lambda data: edges
    model._init_edge_rot_mat = lambda data, edge_index, edge_vectors: frames.rotations(edge_vectors)
    data = SimpleNamespace(
        pos=graph.positions,
        natoms=torch.tensor([len(atoms)]),
        atomic_numbers=graph.numbers,
        batch=graph.structure_of_atom,
    )
    return model(data)["energy"]

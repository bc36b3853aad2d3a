"""Writing SevenNet checkpoints that stock tools open, and the ``input.yaml`` that continues training from one."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from datetime import datetime
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from equiprune.adapters.base import Checkpoint, load_weights
from equiprune.adapters.sevennet.architecture import UNIVERSAL, Rescale, SevenNetArchitecture, to_config
from equiprune.adapters.sevennet.build import build
from equiprune.adapters.sevennet.checkpoint_file import PROVENANCE_KEY


def why_not(_arch: SevenNetArchitecture) -> str:
    """Nothing keeps a model from being written: its constructor builds every one of them."""
    return ""


def write(checkpoint: Checkpoint, path: Path) -> tuple[Path, ...]:
    """A ``.pth`` for stock SevenNet tools, and beside it the ``input.yaml`` that continues training from it.

    The version written is that of the installed sevenn: under an older one its loader would reorder columns again.
    """
    import yaml

    module = build(checkpoint.architecture, torch.float32)
    load_weights(module, checkpoint.weights)
    config = config_with_constants(checkpoint)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=1e-3)
    content = {
        "model_state_dict": module.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99).state_dict(),
        "config": config,
        "epoch": 0,
        "time": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "hash": uuid.uuid4().hex,
        PROVENANCE_KEY: json.dumps({"licence": checkpoint.licence, "history": [dict(h) for h in checkpoint.history]}),
    }
    buffer = BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())  # a full disk is then an OSError, as everywhere
    recipe = path.with_suffix(".input.yaml")
    recipe.write_text(yaml.safe_dump(training_input(config, path.name), sort_keys=False))
    return path, recipe


def config_with_constants(checkpoint: Checkpoint) -> dict[str, Any]:
    """The full sevenn config: hyperparameters, the constants of the weights, and upstream's training defaults."""
    import sevenn
    from sevenn._const import DEFAULT_DATA_CONFIG, DEFAULT_TRAINING_CONFIG

    arch, weights = checkpoint.architecture, checkpoint.weights
    denominators = [weights[f"{t}_convolution.denominator"].item() for t in range(arch.interactions)]
    constants = {
        "conv_denominator": denominators,
        "shift": _by_atomic_number(arch, weights["rescale_atomic_energy.shift"], 0.0),
        "scale": _by_atomic_number(arch, weights["rescale_atomic_energy.scale"], 1.0),
    }
    defaults = {**DEFAULT_TRAINING_CONFIG, **DEFAULT_DATA_CONFIG}
    return {**defaults, **to_config(arch), **constants, "version": sevenn.__version__}


def _by_atomic_number(arch: SevenNetArchitecture, values: Tensor, default: float) -> Any:
    """A constant as sevenn's config wants it: a number, a table by atomic number, or one table per head."""
    if arch.rescale is Rescale.GLOBAL:
        return values.item()
    if values.ndim == 2:
        return {head: _by_atomic_number(arch, row, default) for head, row in zip(arch.heads, values, strict=True)}
    table = [default] * UNIVERSAL
    for z, value in zip(arch.elements, values.tolist(), strict=True):
        table[z] = value
    return table


def training_input(config: dict[str, Any], checkpoint_name: str) -> dict[str, Any]:
    """An ``input.yaml`` for ``sevenn train`` that continues from the checkpoint; only data paths are left to fill in.

    sevenn builds the model from this file, not from the checkpoint, so the model section must match it exactly.
    """
    from sevenn._const import DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG

    model = {key: config[key] for key in DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG if key in config}
    model.pop("conv_denominator", None)
    resume = {"checkpoint": checkpoint_name, "reset_optimizer": True, "reset_scheduler": True, "reset_epoch": True}
    train = {
        "random_seed": 1,
        "epoch": 100,
        "is_train_stress": True,
        "loss": "Huber",
        "loss_param": {"delta": 0.01},
        "force_loss_weight": 1.0,
        "stress_loss_weight": 0.01,
        "optimizer": "adam",
        "optim_param": {"lr": 0.004},
        "scheduler": "linearlr",
        "scheduler_param": {"start_factor": 1.0, "total_iters": 100, "end_factor": 0.01},
        "use_modality": config["use_modality"],
        "error_record": [["Energy", "MAE"], ["Force", "MAE"], ["Stress", "MAE"], ["TotalLoss", "None"]],
        "continue": resume,
    }
    data = {
        "batch_size": 4,
        "shift": "per_atom_energy_mean",
        "scale": "force_rms",
        "load_trainset_path": ["path/to/train.extxyz"],
        "load_validset_path": ["path/to/valid.extxyz"],
    }
    if config["use_modality"]:
        data["load_trainset_path"] = [
            {"data_modality": head, "file_list": [{"file": f"path/to/{head}.extxyz"}]} for head in config["_modal_map"]
        ]
        data |= {key: config[key] for key in ("use_modal_wise_shift", "use_modal_wise_scale")}
    return {"model": {**model, "chemical_species": "auto"}, "train": train, "data": data}


def stock_energies(path: Path, structures: Sequence[Atoms], head: str | None) -> list[float]:
    """Energies (eV) by the stock ``SevenNetCalculator`` after opening ``path``."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        from sevenn.calculator import SevenNetCalculator

        calculator = SevenNetCalculator(str(path), device="cpu", modal=head)
        return [float(calculator.get_potential_energy(atoms)) for atoms in structures]

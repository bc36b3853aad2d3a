"""Toy models and structures in files, and a valid call of every command on them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from safetensors.torch import load_file, save_file

import equiprune as ep
from equiprune.structures.probes import probe_structures

COMMANDS = ("info", "calibrate", "prune", "certify", "evaluate", "benchmark", "export")
OFFSET = {"energy": 0.01, "forces": 0.02, "stress": 0.003}
"""How far the labels of `labelled` are from the toy model: eV per atom, eV/Angstrom, eV/Angstrom^3."""


def toy_structures(count: int) -> list[Atoms]:
    return [a for seed in range(count // 4 + 1) for a in probe_structures([1, 6, 8, 14], seed).values()][:count]


def write(path: Path, structures: list[Atoms]) -> Path:
    ase.io.write(path, structures, format="extxyz")
    return path


def toy_model(
    path: Path, change: Callable[[dict[str, torch.Tensor]], None] = lambda weights: None, **fields: Any
) -> Path:
    """A native toy model with changed weights or hyperparameters."""
    toy = ep.load("toy")
    checkpoint = toy.checkpoint
    if fields:
        checkpoint = toy.adapter.random_checkpoint(replace(toy.architecture, **fields))  # type: ignore[attr-defined]
    weights = {name: weight.clone() for name, weight in checkpoint.weights.items()}
    change(weights)
    ep.save(ep.Potential.create(toy.adapter, replace(checkpoint, weights=weights)), path)
    return path


def nan_model(path: Path) -> Path:
    """A native toy model whose readout is NaN; equiprune itself writes no such file."""
    weights = load_file(toy_model(path) / "weights.safetensors")
    save_file(weights | {"readout_weight": weights["readout_weight"] * np.nan}, path / "weights.safetensors")
    return path


def kill_a_channel(weights: dict[str, torch.Tensor]) -> None:
    """Nothing produces channel 2 of node_feats.0 and channel 3 of edge_irreps.0."""
    weights["embedding_weight"].view(4, 6)[:, 2] = 0
    weights["linear_up_0_weight"].view(6, 6)[:, 3] = 0


def command(name: str, model: object, folder: Path) -> list[object]:
    """A valid call of a command on a model; the data files are those of the fixtures ``data`` and ``labelled``."""
    return {
        "info": ["info", model],
        "calibrate": ["calibrate", model, folder / "data.xyz", "-o", folder / "out.json"],
        "prune": ["prune", model, "--lmax", 0, "-o", folder / "out"],
        "certify": ["certify", model, "--nve-steps", 2],
        "evaluate": ["evaluate", model, "--data", folder / "labelled.xyz"],
        "benchmark": ["benchmark", model, "--repeats", 2, "--data", folder / "data.xyz"],
        "export": ["export", model, "-o", folder / "out"],
    }[name]

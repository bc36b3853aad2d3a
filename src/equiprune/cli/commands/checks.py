"""Checking, evaluating and timing models."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch

import equiprune as ep
from equiprune.cli.display import note, progress, show, show_json, show_table
from equiprune.cli.flags.labels import NO_KEYS, LabelFlags
from equiprune.cli.flags.panels import COMMON, Common
from equiprune.cli.flags.values import Device, Dtype, OptionalOutput, Positive
from equiprune.cli.opening import check_device, check_named_once, check_suffix, open_model, open_models
from equiprune.evaluation.accuracy import table as accuracy_table
from equiprune.evaluation.benchmark import table as timing_table
from equiprune.files.atomic import check_writable, write_json, write_text
from equiprune.structures.probes import probe_structures
from equiprune.verification.certificate import CHECKS


def certify(
    model: str,
    /,
    *,
    parent: str | None = None,
    output: OptionalOutput = None,
    nve_steps: Positive = 40,
    device: Device = "cpu",
    common: Common = COMMON,
) -> int:
    """Check a model in float64: exactly its pruned parent, equivariant, conservative, smooth. Exit code 1 if not.

    Args:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        parent: the model it was pruned from.
        output: also write the certificate (.json or .md).
        nve_steps: length of the molecular-dynamics check, in time steps (0.15 fs for H, 0.5 fs for C).
    """
    check_certify(output, device)
    if output is not None:
        check_writable(output)
    child = open_model(model, None, common, any_head=True, device=device)
    if child.head is not None and common.head is None:
        note(f"Checking head {child.head}; --head chooses another: {', '.join(child.architecture.heads)}.")
    original = open_model(parent, None, common.headless, any_head=True, device=device) if parent else None
    with progress("certify", CHECKS) as step:
        certificate = ep.certify(child, original, nve_steps=nve_steps, progress=step)
    if output is not None and output.suffix == ".json":
        write_json(output, certificate.to_json())
    elif output is not None:
        write_text(output, certificate.to_markdown())
    show_json(certificate.to_json()) if common.json else show(certificate.to_markdown())
    return 0 if certificate.passed else 1


def check_certify(output: Path | None, device: str) -> None:
    """Refuse what can be refused before anything is opened."""
    check_device(device)
    if output is not None:
        check_suffix(output, "A certificate", ".json", ".md")


def check_compared(models: list[str], device: str) -> None:
    """Refuse what can be refused before anything is opened, of `evaluate` and of `benchmark`."""
    check_named_once(models)
    check_device(device)


def evaluate(
    models: list[str],
    /,
    *,
    data: Path,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    limit: Positive | None = None,
    batch_atoms: Positive = 256,
    keys: LabelFlags = NO_KEYS,
    common: Common = COMMON,
) -> int:
    """Errors of one or more models against labelled structures, side by side.

    Args:
        models: aliases, upstream checkpoints, or directories that equiprune wrote.
        data: structures with energy, forces or stress labels.
        dtype: precision of the models.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
    """
    check_compared(models, device)
    keys.keys.check(islice(ep.read_structures(data), limit))
    structures = map(keys.keys.on, islice(ep.read_structures(data), limit))
    potentials = open_models(models, dtype, common, device)
    with progress("evaluate", limit) as step:
        accuracies = ep.evaluate(potentials, structures, batch_atoms=batch_atoms, progress=step)
    note(str(accuracies[0].labels))
    if common.json:
        show_json([accuracy.to_json() for accuracy in accuracies])
        return 0
    first = accuracies[0]
    show_table(f"{first.structures} structures of {data}", accuracy_table(accuracies))
    for quantity, count in first.missing.items():
        if count:
            show(f"{count} of {first.structures} structures have no {quantity} label and were left out of that column.")
    return 0


def benchmark(
    models: list[str],
    /,
    *,
    data: Path | None = None,
    dtype: Dtype = "float32",
    repeats: Positive = 5,
    threads: Positive | None = None,
    device: Device = "cpu",
    common: Common = COMMON,
) -> int:
    """Time models side by side, taking turns on the same structure.

    Args:
        models: aliases, upstream checkpoints, or directories that equiprune wrote.
        data: the first structure is used; without it a rock-salt cell of 64 atoms.
        dtype: precision of the models.
        repeats: timed evaluations per model, after two for warming up.
        threads: of torch; its own choice unless given.
    """
    check_compared(models, device)
    structures = ep.read_structures(data) if data else None
    potentials = open_models(models, dtype, common, device)
    shared = frozenset.intersection(*(potential.elements for potential in potentials.values()))
    atoms = next(structures) if structures else probe_structures(shared)["ionic"].repeat(2)
    if threads is not None:
        torch.set_num_threads(threads)
    with progress("benchmark", (repeats + 2) * len(potentials)) as step:
        timings = ep.benchmark(potentials, atoms, repeats=repeats, progress=step)
    if common.json:
        show_json([timing.to_json() for timing in timings])
        return 0
    show_table(f"Energy, forces and stress of {atoms.get_chemical_formula()} on {device}", timing_table(timings))
    return 0

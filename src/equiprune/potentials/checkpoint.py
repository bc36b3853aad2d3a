"""Opening and saving models.

The native format is a directory: ``architecture.json`` (adapter, format version, every hyperparameter),
``weights.safetensors``, ``provenance.json`` (licence, and every step since the original checkpoint). It never holds a
pickle or a class path. Upstream formats are the adapters' business. Whatever is written is read back and compared
before it gets its name.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_safetensors

from equiprune.adapters import Architecture, Checkpoint, ModelAdapter, adapter_for, adapter_named
from equiprune.adapters.capabilities import Exports
from equiprune.adapters.hyperparameters import hyperparameters_from_json, hyperparameters_to_json
from equiprune.adapters.registry import check_adapter
from equiprune.errors import CheckpointError, OutputError
from equiprune.files.atomic import check_writable, read_json, replacing, write_json
from equiprune.models import shipped_model
from equiprune.potentials.potential import Potential
from equiprune.structures.probes import probe_structures

FORMAT = 3
"""Version of the native format that is written; every version from 1 is read."""

_STOCK_TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
"""eV per atom by precision: rounding between two evaluations of the same weights, at least."""


def read_checkpoint(
    source: str | Path, *, trust: bool = False, adapter: str | None = None
) -> tuple[ModelAdapter, Checkpoint]:
    """The adapter and plain data of an alias, an upstream file or a native directory; nothing is built.

    ``trust`` and ``adapter`` as for `load`.

    Raises:
        CheckpointError: missing, broken, foreign or unsafe.
    """
    shipped = shipped_model(source)
    path = shipped.folder if shipped else Path(source)
    if path.is_dir():
        found, checkpoint = _read_native(path)
        return check_adapter(found, adapter, source), replace(checkpoint, source=str(source))
    opening = adapter_for(source, adapter)
    return opening, opening.read(source, trust=trust)


def load(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    head: str | None = None,
    device: torch.device | str = "cpu",
    trust: bool = False,
    adapter: str | None = None,
) -> Potential:
    """Open a model: an alias (``7net-compact``, ``7net-l3i5``), an upstream checkpoint, or a native directory.

    Args:
        source: what to open.
        dtype: precision of weights and arithmetic.
        head: level of theory, for a multi-head model.
        device: where to evaluate.
        trust: open a pickle that could run code; only for files whose origin you trust.
        adapter: the name of the architecture, for an upstream file that several recognise; it is found unless given.

    Raises:
        CheckpointError: missing, broken, foreign or unsafe file.
        TargetError: ``head`` is missing or unknown.
    """
    opening, checkpoint = read_checkpoint(source, trust=trust, adapter=adapter)
    return Potential.create(opening, checkpoint, dtype, head, device)


def save(potential: Potential, path: str | Path) -> tuple[Path, ...]:
    """Write a model; the suffix chooses the format (none: the native directory). Returns what was written.

    The file is written beside its final name, read back, compared, and only then renamed: the weights bit by bit, and
    for an upstream format the energies of the stock calculator as well.

    Raises:
        OutputError: exists, cannot be written, or does not read back as what was meant.
    """
    path, adapter = Path(path), potential.adapter
    check_output(adapter, path)
    if not path.suffix:
        return _save_native(potential, path)
    check_export(adapter, potential.architecture, path)
    assert isinstance(adapter, Exports)  # or `check_output` had refused the suffix
    with replacing(path, new=True) as temporary:
        written = adapter.export(potential.checkpoint, temporary)
        reread = adapter.read(temporary)
        _check_same_weights(potential, reread)
        _check_stock_energies(potential, adapter, temporary, reread.dtype)
        companions = [(w, path.parent / w.name) for w in written if w != temporary]
        for _, companion in companions:
            check_writable(companion)
        for source, companion in companions:
            source.replace(companion)
    return (path, *(companion for _, companion in companions))


def check_output(adapter: ModelAdapter, path: Path) -> None:
    """Raise `OutputError` before long work: `save` would refuse this path."""
    check_writable(path)
    written = adapter.suffixes if isinstance(adapter, Exports) else ()
    if path.suffix and not path.name.endswith(written):
        allowed = ", ".join(written) or "none"
        raise OutputError(
            f"A {adapter.name} model cannot be written as '{path.suffix}'. Upstream suffixes: {allowed}; "
            "no suffix writes equiprune's own directory."
        )


def check_export(adapter: ModelAdapter, architecture: Architecture, path: Path) -> None:
    """Raise `OutputError` when the format that the suffix stands for cannot hold this model."""
    why_not = adapter.why_not_exported(architecture) if path.suffix and isinstance(adapter, Exports) else ""
    if why_not:
        raise OutputError(
            f"This model cannot be written as '{path.suffix}': {why_not}, or save to a directory (no suffix)."
        )


def _save_native(potential: Potential, path: Path) -> tuple[Path, ...]:
    checkpoint = potential.checkpoint
    with replacing(path) as temporary:
        temporary.mkdir()
        architecture = hyperparameters_to_json(checkpoint.architecture)
        write_json(
            temporary / "architecture.json",
            {"format": FORMAT, "adapter": potential.adapter.name, "architecture": architecture},
        )
        weights = save_safetensors({n: w.contiguous().cpu() for n, w in checkpoint.weights.items()})
        (temporary / "weights.safetensors").write_bytes(weights)  # a full disk is then an OSError, as everywhere
        write_json(
            temporary / "provenance.json",
            {
                "licence": checkpoint.licence,
                "source": checkpoint.source,
                "history": [dict(step) for step in checkpoint.history],
                "versions": package_versions(*potential.adapter.packages),
            },
        )
        _check_same_weights(potential, _read_native(temporary)[1])
    return (path,)


def package_versions(*packages: str) -> dict[str, str]:
    """Versions of what computed the numbers, for provenance: of what all models need, and of an architecture's own."""
    versions = {}
    for name in ("equiprune", "torch", "numpy", "ase", "e3nn", *packages):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _read_native(path: Path) -> tuple[ModelAdapter, Checkpoint]:
    adapter, architecture = _read_architecture(path)
    provenance = read_json(path / "provenance.json", "provenance record")
    try:
        weights = load_file(path / "weights.safetensors")
        licence, history = provenance["licence"], tuple(map(_step, provenance["history"]))
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"'{path}' is damaged ({type(error).__name__}: {reason}). Write it again.") from error
    _check_shapes(adapter, architecture, weights, path)
    return adapter, Checkpoint(architecture, weights, licence, _native_sha256(path), str(path), history)


def _step(recorded: Any) -> dict[str, Any]:
    """A step of a history; raises `TypeError` or `KeyError` for what has no name of a step."""
    return {"step": recorded["step"], **recorded}


def _read_architecture(path: Path) -> tuple[ModelAdapter, Any]:
    """The adapter and the hyperparameters of a native directory."""
    file = path / "architecture.json"
    if not file.is_file():
        raise CheckpointError(f"The directory '{path}' is not a model that equiprune wrote (no architecture.json).")
    description = read_json(file, "model description")
    version = description.get("format") if isinstance(description, dict) else "?"
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise CheckpointError(
            f"'{path}' is in format {version}; this version of equiprune reads formats 1 to {FORMAT}. Update equiprune."
        )
    adapter = adapter_named(str(description.get("adapter")))
    try:
        return adapter, hyperparameters_from_json(adapter.architecture_type, description.get("architecture"), version)
    except CheckpointError as error:
        raise CheckpointError(f"'{file}' is damaged. {error} Mend it, or write the model again.") from error


def _check_shapes(adapter: ModelAdapter, architecture: Any, weights: dict[str, torch.Tensor], path: Path) -> None:
    try:
        _check_elements_and_cutoff(architecture)
        expected = {name: layout.shape for name, layout in adapter.layouts(architecture).items()}
    except Exception as error:  # hyperparameters that no model has can break an adapter anywhere
        raise CheckpointError(f"'{path}' is damaged: its architecture is impossible ({error}).") from error
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise CheckpointError(f"'{path}' is damaged: weights {wrong[:3]} do not fit its architecture. Write it again.")


def _check_elements_and_cutoff(architecture: Any) -> None:
    elements = architecture.elements
    if len(set(elements)) != len(elements) or not set(elements) <= set(range(len(chemical_symbols))):
        raise ValueError(f"elements {elements} are not distinct atomic numbers")
    if not 0 < architecture.cutoff < float("inf"):
        raise ValueError(f"a cutoff of {architecture.cutoff} Angstrom")


def _native_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for name in ("architecture.json", "weights.safetensors"):
        digest.update((path / name).read_bytes())
    return digest.hexdigest()


def _check_same_weights(potential: Potential, reread: Checkpoint) -> None:
    """Raise `OutputError` unless the file holds the weights, rounded to its precision."""
    for name, weight in potential.checkpoint.weights.items():
        if not weight.isfinite().all():
            raise OutputError(f"Weight {name} holds NaN or infinity; such a model is not written. Nothing was saved.")
        if not torch.equal(weight.to(reread.weights[name].dtype).cpu(), reread.weights[name]):
            raise OutputError(f"The file did not read back as written: weight {name} differs. Nothing was saved.")


def _check_stock_energies(potential: Potential, adapter: Exports, path: Path, dtype: torch.dtype) -> None:
    architecture = potential.architecture
    head = potential.head or (architecture.heads[0] if architecture.heads else None)
    own = replace(potential.on("cpu").with_dtype(dtype), head=head)
    structures = list(probe_structures(architecture.elements).values())
    stock = adapter.stock_energies(path, structures, head)
    exact = own.with_dtype(torch.float64).predict(structures)
    for atoms, theirs, ours, truth in zip(structures, stock, own.predict(structures), exact, strict=True):
        rounding = 10 * abs(ours.energy.item() - truth.energy.item()) + _STOCK_TOLERANCE[dtype] * len(atoms)
        if not abs(theirs - ours.energy.item()) <= rounding:
            raise OutputError(
                f"The stock calculator gives {theirs:.6f} eV for {atoms.get_chemical_formula()} from the written file, "
                f"equiprune {ours.energy.item():.6f} eV. Nothing was saved; please report this."
            )

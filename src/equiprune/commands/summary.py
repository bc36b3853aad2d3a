"""Models in words and numbers, for people and for JSON."""

from typing import Any

from ase.data import chemical_symbols

from equiprune.adapters import Checkpoint, ModelAdapter
from equiprune.adapters.precision import dtype_name
from equiprune.blocks import FeatureSpace, Role
from equiprune.models import ShippedModel
from equiprune.potentials.potential import Potential
from equiprune.pruning.cost import count_parameters
from equiprune.pruning.dead_blocks import dead_blocks, describe


def describe_model(adapter: ModelAdapter, checkpoint: Checkpoint) -> dict[str, Any]:
    """Facts of a model for `equiprune info`; nothing is built, so it is quick."""
    architecture = checkpoint.architecture
    spaces = adapter.spaces(architecture)
    count = count_parameters(adapter, architecture)
    dtypes = sorted({dtype_name(weight.dtype) for weight in checkpoint.weights.values()})
    assembled = {"assembled": architecture.why_not_stock} if architecture.why_not_stock else {}
    inputs = {each.key: f"{each.allowed} ({each.default:g} where there is none)" for each in architecture.global_inputs}
    broken = [name for name, weight in checkpoint.weights.items() if not weight.isfinite().all()]
    return {
        "adapter": adapter.name,
        "source": checkpoint.source,
        "parameters": {"all": count.all, "trainable": count.trainable},
        "hidden_irreps": [str(space.irreps) for space in spaces if space.role == Role.NODE_FEATS],
        "elements": [chemical_symbols[z] for z in architecture.elements],
        "heads": list(architecture.heads),
        **({"global_inputs": inputs} if inputs else {}),
        **assembled,
        "cutoff": architecture.cutoff,
        "dtype": ", ".join(dtypes),
        "licence": checkpoint.licence,
        "sha256": checkpoint.sha256,
        "steps": [str(step.get("step")) for step in checkpoint.history],
        **({"not_finite": broken} if broken else {}),
        "dead": describe(dead_blocks(adapter, checkpoint)),
        "spaces": [_described(space) for space in spaces],
    }


def describe_shipped(model: ShippedModel) -> dict[str, Any]:
    """Essentials of the card of a model that comes with equiprune, for `equiprune info`."""
    measured, parent = model.measured, model.measured["model"]["parent"]
    engines = {name: of["ms_per_atom"] for name, of in measured["speed"]["engines"].items()}
    errors = {data: of["errors"][model.name] for data, of in measured["accuracy"].items()}
    return {
        "about": model.about,
        "parent": parent,
        "energy_mae": {data: of["energy"][0] for data, of in errors.items()},
        "forces_mae": {data: of["forces"][0] for data, of in errors.items()},
        "speed_of_parent": {name: round(ms[parent] / ms[model.name], 1) for name, ms in engines.items()},
        "certificate": "passed" if measured["certificate"]["passed"] else "failed",
        "card": str(model.card),
    }


def _described(space: FeatureSpace) -> dict[str, str]:
    tying = "across_l" if space.joins_irreps else "independent"
    return {"name": space.name, "irreps": str(space.irreps), "tying": tying, "role": space.role.name}


def compare_models(parent: Potential, child: Potential) -> dict[str, tuple[Any, Any]]:
    """Parent and child side by side."""
    before, after = (describe_model(p.adapter, p.checkpoint) for p in (parent, child))
    sizes = {
        "trainable parameters": tuple(value["parameters"]["trainable"] for value in (before, after)),
        "hidden irreps": (before["hidden_irreps"], after["hidden_irreps"]),
        "elements": (len(before["elements"]), len(after["elements"])),
    }
    if before["heads"] != after["heads"]:
        sizes["heads"] = (before["heads"], after["heads"] or "one, as a single-head model")
    shown = ("node", "edge_irreps", "elements", "heads")
    others = {s["name"]: s["irreps"] for s in before["spaces"] if not s["name"].startswith(shown)}
    now = {s["name"]: s["irreps"] for s in after["spaces"]}
    changed = {name: (irreps, now.get(name, "none")) for name, irreps in others.items() if now.get(name) != irreps}
    return {**sizes, **changed}

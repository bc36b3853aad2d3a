"""Files for the leaderboard: predictions as CSV, and a model's metadata with its metrics as YAML.

Layout as in models/*/*.yml and tests/model-schema.yml of janosh/matbench-discovery. What equiprune cannot know is
marked `TO_FILL_IN`.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from equiprune.evaluation.discovery.metrics import UNITS
from equiprune.evaluation.discovery.relaxation import Outcome
from equiprune.evaluation.discovery.result import DiscoveryResult, ModelPredictions
from equiprune.evaluation.relaxation import RelaxationRules
from equiprune.files.atomic import replacing
from equiprune.potentials.potential import Potential

TO_FILL_IN = "TO FILL IN"

WHOLE_SET = 256_963
"""Materials of the whole test set."""


def model_key(model: str) -> str:
    """A model's name, as files and columns are called: letters, digits, dots, plus and hyphens.

    >>> model_key("runs/small.pth"), model_key("7net-0")
    ('runs-small', '7net-0')
    """
    path = Path(model)
    stem = str(path.with_suffix("")) if path.suffix in (".pth", ".model", ".pt") else model
    return re.sub(r"[^a-zA-Z0-9.+-]+", "-", stem).strip("-.") or "model"


def prediction_column(model: str) -> str:
    """The column of formation energies."""
    return f"e_form_per_atom_{model_key(model)}"


def write_predictions(path: Path, result: DiscoveryResult, model: ModelPredictions) -> None:
    """Write a line for each material that was asked for, as ``.csv.gz``; what is missing stays empty.

    Columns: ``material_id``; ``energy`` (eV, of the cell, without corrections); the formation energy (eV/atom, with
    corrections); ``converged``, ``n_steps``, ``outcome`` and ``rmsd`` (in units of (volume per atom)^(1/3)).

    Raises:
        OutputError: the file cannot be written.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    column = prediction_column(model.model)
    lines.writerow(["material_id", "energy", column, "converged", "n_steps", "outcome", "rmsd"])
    for material in result.materials:
        found = model.predictions.get(material.name)
        if found is None:
            lines.writerow([material.name, "", "", False, 0, "unknown_elements", ""])
            continue
        energies = [_written(found.energy), _written(found.formation_energy)]
        converged = found.outcome is Outcome.CONVERGED
        lines.writerow([material.name, *energies, converged, found.steps, found.outcome.value, _written(found.rmsd)])
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))


def _written(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def metadata(
    result: DiscoveryResult, model: ModelPredictions, potential: Potential, rules: RelaxationRules
) -> dict[str, Any]:
    """A model's metadata in the public layout, with metrics on all materials; what is missing counts as unstable."""
    licence = potential.checkpoint.licence
    return {
        "model_name": model.model,
        "model_key": model_key(model.model),
        "model_version": TO_FILL_IN,
        **dict.fromkeys(("date_added", "date_published", "authors", "repo", "doi", "paper", "pr_url"), TO_FILL_IN),
        "checkpoint_url": TO_FILL_IN,
        "license": {"code": TO_FILL_IN, "checkpoint": licence or TO_FILL_IN},
        "requirements": {name: version(name) for name in ("equiprune", "torch", "ase", "numpy")},
        **dict.fromkeys(("openness", "trained_for_benchmark", "train_task", "training_cost"), TO_FILL_IN),
        "training_set": [TO_FILL_IN],
        "test_task": "IS2RE-SR",
        "targets": "EFS_G",
        "model_type": "UIP",
        "model_params": potential.parameters(),
        "n_estimators": 1,
        "hyperparams": {
            "max_force": rules.fmax,
            "max_steps": rules.steps,
            "ase_optimizer": rules.optimiser,
            "cell_filter": rules.filter,
            "graph_construction_radius": float(potential.architecture.cutoff),
            "max_neighbors": potential.architecture.max_neighbors or "missing",
        },
        "metrics": {
            "phonons": "not available",
            "geo_opt": "not available",
            "discovery": _discovery(result, model),
        },
    }


def _discovery(result: DiscoveryResult, model: ModelPredictions) -> dict[str, Any]:
    found: dict[str, Any] = {"pred_col": prediction_column(model.model), "pred_file": None, "pred_file_url": None}
    for subset, metrics in result.metrics(model, result.materials).items():
        values = metrics.to_json().items()
        found[subset] = {key: round(value, 3) if isinstance(value, float) else value for key, value in values}
    return found


def metadata_text(
    result: DiscoveryResult, model: ModelPredictions, potential: Potential, rules: RelaxationRules
) -> str:
    """The same as YAML, headed by what the numbers are of."""
    import yaml  # slow to import, and only needed here

    about = [
        f"Written by equiprune. Replace what says '{TO_FILL_IN}'.",
        f"{', '.join(f'{name} in {unit}' for name, unit in UNITS.items())}; others are counts and shares.",
    ]
    if (count := len(result.materials)) != WHOLE_SET:
        about.append(f"NOT FOR THE LEADERBOARD: {count:,} materials, where the test set has {WHOLE_SET:,}.")
    if not result.has_hull:
        about.append("NOT FOR THE LEADERBOARD: stable is what forms from its elements; no convex hull was given.")
    head = "".join(f"# {line}\n" for line in about)
    return head + yaml.safe_dump(metadata(result, model, potential, rules), sort_keys=False, allow_unicode=True)

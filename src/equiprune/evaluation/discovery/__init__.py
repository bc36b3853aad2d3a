"""Discovery of stable materials: the task of Matbench Discovery (arXiv:2308.14920), from files that the user gives.

A model relaxes structures that nobody has relaxed before, and its energies say which of the materials are stable. Many
models stand side by side on the materials that all of them finished.
"""

from equiprune.evaluation.discovery.entries import check_entries, read_entries
from equiprune.evaluation.discovery.materials import Material, described, read_summary, sampled
from equiprune.evaluation.discovery.metrics import StabilityMetrics, classified, stability_metrics
from equiprune.evaluation.discovery.relaxation import (
    LEADERBOARD,
    Outcome,
    RelaxationFolder,
    RelaxationWork,
    Relaxed,
    finished,
    relax,
)
from equiprune.evaluation.discovery.result import DiscoveryResult, ModelPredictions, Prediction
from equiprune.evaluation.discovery.starts import open_starts
from equiprune.evaluation.discovery.task import (
    ModelRelaxations,
    compared_with_entries,
    compared_with_starts,
    known_to,
    predictions,
)

__all__ = [
    "LEADERBOARD",
    "DiscoveryResult",
    "Material",
    "ModelPredictions",
    "ModelRelaxations",
    "Outcome",
    "Prediction",
    "RelaxationFolder",
    "RelaxationWork",
    "Relaxed",
    "StabilityMetrics",
    "check_entries",
    "classified",
    "compared_with_entries",
    "compared_with_starts",
    "described",
    "finished",
    "known_to",
    "open_starts",
    "predictions",
    "read_entries",
    "read_summary",
    "relax",
    "sampled",
    "stability_metrics",
]

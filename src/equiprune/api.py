"""The public interface, all of it; `equiprune` gives it when it is asked, since it is slow to import."""

from equiprune.adapters import Architecture, Checkpoint, ModelAdapter
from equiprune.adapters.growth import GrowRadialBasis, NativeGrids, NonlinearReadout
from equiprune.blocks import BlockMask, FeatureSpace, Irrep, Irreps, PruningPlan, WeightLayout
from equiprune.errors import EquipruneError
from equiprune.evaluation.accuracy import Accuracy, evaluate
from equiprune.evaluation.benchmark import Timing, benchmark
from equiprune.evaluation.discovery import (
    DiscoveryResult,
    Material,
    StabilityMetrics,
    stability_metrics,
)
from equiprune.evaluation.dynamics.engines import AseEngine
from equiprune.evaluation.dynamics.lammps import LammpsEngine
from equiprune.evaluation.dynamics.measured import DynamicsAnalysis, ModelDynamics
from equiprune.evaluation.dynamics.protocol import NPT, NVE, NVT, DynamicsProtocol
from equiprune.evaluation.dynamics.simulation import molecular_dynamics
from equiprune.evaluation.dynamics.torch_sim import TorchSimEngine
from equiprune.evaluation.machine import Machine, doctor
from equiprune.evaluation.memory import keep_freed_memory
from equiprune.evaluation.properties.bulk import Elasticity, EquationOfState, RelaxedCrystal
from equiprune.evaluation.properties.diatomics import read_curves
from equiprune.evaluation.properties.dimers import Dimers
from equiprune.evaluation.properties.locality import Locality
from equiprune.evaluation.properties.measuring import properties
from equiprune.evaluation.properties.phonons import Phonons
from equiprune.evaluation.relaxation import RelaxationRules
from equiprune.evaluation.scaling import Scaling, scaling
from equiprune.evaluation.scaling_figure import plot_scaling
from equiprune.labelling.augmentation import Augmentation, augmented
from equiprune.labelling.dynamics import Dynamics, simulated
from equiprune.labelling.hessian_labels import with_products
from equiprune.labelling.label import label
from equiprune.labelling.relaxation import Relaxation
from equiprune.labelling.substitution import Substitution, substituted
from equiprune.labelling.walks import Driver, EarlyEnd, Visit, visited
from equiprune.potentials.checkpoint import load, read_checkpoint, save
from equiprune.potentials.hessian import RandomProbes, Rows, hessian
from equiprune.potentials.lammps_input import lammps_input
from equiprune.potentials.masking import masked
from equiprune.potentials.potential import Potential, Prediction
from equiprune.potentials.torch_sim_model import torch_sim_model
from equiprune.pruning.allocation import allocate
from equiprune.pruning.calibration import Resume, calibrate
from equiprune.pruning.cost import count_parameters
from equiprune.pruning.criteria import Activation, Magnitude, Random, Taylor, TaylorEnergy, TaylorForces
from equiprune.pruning.dead_blocks import dead_blocks, lossless_plan
from equiprune.pruning.figure import plot_importance
from equiprune.pruning.growing import grow
from equiprune.pruning.importance import ImportanceScores, data_free_scores
from equiprune.pruning.repair import Repair, repair
from equiprune.pruning.slicing import prune
from equiprune.pruning.stability import Stability, stability
from equiprune.pruning.targets import (
    BasisLmax,
    Channels,
    Correlation,
    EdgeLmax,
    Elements,
    FromPlan,
    Heads,
    HiddenChannels,
    HiddenIrreps,
    Interactions,
    Lmax,
    Lossless,
    Parameters,
    RadialBasis,
    RadialWidth,
)
from equiprune.report.report import write_report
from equiprune.searching.budget import Budget, Cost
from equiprune.searching.found import Found
from equiprune.searching.material import Effort
from equiprune.searching.search import Constraints, SearchData, SearchSettings, search
from equiprune.structures.converting import Conversion, convert
from equiprune.structures.global_inputs import GlobalInput
from equiprune.structures.graph import AtomicGraph
from equiprune.structures.labels import Labels
from equiprune.structures.probes import probe_structures
from equiprune.structures.reading import open_structures, read_structures
from equiprune.structures.sampling import held_out_frames, sample_frames, structure_ids
from equiprune.structures.starting import starting_structures
from equiprune.training.arguments import Resources, TrainingData, Watchers
from equiprune.training.from_scratch import from_scratch
from equiprune.training.objective import FeatureTerm, Objective, Term
from equiprune.training.observers import Observer
from equiprune.training.optimisation import Optimisation
from equiprune.training.recipe import PRESETS, Recipe
from equiprune.training.references import GivenReferences, KeepReferences, RefitReferences
from equiprune.training.replay import Replay, relabelled
from equiprune.training.trainer import train
from equiprune.verification.certificate import Certificate, certify
from equiprune.verification.measurement import Measurement
from equiprune.verification.physics import equivariance

__all__ = [
    "NPT",
    "NVE",
    "NVT",
    "PRESETS",
    "Accuracy",
    "Activation",
    "Architecture",
    "AseEngine",
    "AtomicGraph",
    "Augmentation",
    "BasisLmax",
    "BlockMask",
    "Budget",
    "Certificate",
    "Channels",
    "Checkpoint",
    "Constraints",
    "Conversion",
    "Correlation",
    "Cost",
    "Dimers",
    "DiscoveryResult",
    "Driver",
    "Dynamics",
    "DynamicsAnalysis",
    "DynamicsProtocol",
    "EarlyEnd",
    "EdgeLmax",
    "Effort",
    "Elasticity",
    "Elements",
    "EquationOfState",
    "EquipruneError",
    "FeatureSpace",
    "FeatureTerm",
    "Found",
    "FromPlan",
    "GivenReferences",
    "GlobalInput",
    "GrowRadialBasis",
    "Heads",
    "HiddenChannels",
    "HiddenIrreps",
    "ImportanceScores",
    "Interactions",
    "Irrep",
    "Irreps",
    "KeepReferences",
    "Labels",
    "LammpsEngine",
    "Lmax",
    "Locality",
    "Lossless",
    "Machine",
    "Magnitude",
    "Material",
    "Measurement",
    "ModelAdapter",
    "ModelDynamics",
    "NativeGrids",
    "NonlinearReadout",
    "Objective",
    "Observer",
    "Optimisation",
    "Parameters",
    "Phonons",
    "Potential",
    "Prediction",
    "PruningPlan",
    "RadialBasis",
    "RadialWidth",
    "Random",
    "RandomProbes",
    "Recipe",
    "RefitReferences",
    "Relaxation",
    "RelaxationRules",
    "RelaxedCrystal",
    "Repair",
    "Replay",
    "Resources",
    "Resume",
    "Rows",
    "Scaling",
    "SearchData",
    "SearchSettings",
    "Stability",
    "StabilityMetrics",
    "Substitution",
    "Taylor",
    "TaylorEnergy",
    "TaylorForces",
    "Term",
    "Timing",
    "TorchSimEngine",
    "TrainingData",
    "Visit",
    "Watchers",
    "WeightLayout",
    "allocate",
    "augmented",
    "benchmark",
    "calibrate",
    "certify",
    "convert",
    "count_parameters",
    "data_free_scores",
    "dead_blocks",
    "doctor",
    "equivariance",
    "evaluate",
    "from_scratch",
    "grow",
    "held_out_frames",
    "hessian",
    "keep_freed_memory",
    "label",
    "lammps_input",
    "load",
    "lossless_plan",
    "masked",
    "molecular_dynamics",
    "open_structures",
    "plot_importance",
    "plot_scaling",
    "probe_structures",
    "properties",
    "prune",
    "read_checkpoint",
    "read_curves",
    "read_structures",
    "relabelled",
    "repair",
    "sample_frames",
    "save",
    "scaling",
    "search",
    "simulated",
    "stability",
    "stability_metrics",
    "starting_structures",
    "structure_ids",
    "substituted",
    "torch_sim_model",
    "train",
    "visited",
    "with_products",
    "write_report",
]

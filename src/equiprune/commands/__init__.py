"""The commands as values: what ``equiprune train`` does, ``Train(...).run()`` does.

A request is a frozen dataclass, complete when constructed. Arguments that belong together are a value of their own::

    from equiprune.commands import Prune, ScoreOptions, TargetOptions

    small = TargetOptions(irreps="64x0e+32x1e+16x2e", edge_lmax="2")
    Prune("7net-l3i5", output="small.pth", target=small, importance=ScoreOptions(data="structures.extxyz")).run()

Text is taken where a path is meant. `run` prints nothing: it gives a value whose ``to_json`` is what ``--json`` prints,
remarks go to the logger ``equiprune``, and a display may be given that shows progress.
"""

from equiprune.commands.benchmark import Benchmark
from equiprune.commands.calibrate import Calibrate
from equiprune.commands.certify import Certify
from equiprune.commands.convert import Convert
from equiprune.commands.crystals import Crystals
from equiprune.commands.discovery import Discovery
from equiprune.commands.doctor import Doctor
from equiprune.commands.evaluate import Evaluate
from equiprune.commands.export import Export
from equiprune.commands.info import Info
from equiprune.commands.label import Label
from equiprune.commands.md import Md
from equiprune.commands.options.budget import BudgetOptions, EffortOptions
from equiprune.commands.options.dashboards import WatchOptions
from equiprune.commands.options.features import FeatureOptions
from equiprune.commands.options.growth import GrowthOptions
from equiprune.commands.options.labelling import (
    CopyOptions,
    DynamicsOptions,
    ProbeOptions,
    RelaxationOptions,
    ScreeningOptions,
    SubstitutionOptions,
)
from equiprune.commands.options.labels import LabelOptions
from equiprune.commands.options.loading import LoadingOptions
from equiprune.commands.options.opening import OpeningOptions
from equiprune.commands.options.processes import ProcessOptions
from equiprune.commands.options.properties import PairOptions, RelaxationRuleOptions
from equiprune.commands.options.protocol import AnalysisOptions, ProtocolOptions
from equiprune.commands.options.reading import SymbolOptions
from equiprune.commands.options.recipe import RecipeOptions, WeightOptions
from equiprune.commands.options.sample import SampleOptions
from equiprune.commands.options.scores import ScoreOptions
from equiprune.commands.options.sharing import SharingOptions
from equiprune.commands.options.targets import ShapeOptions, TargetOptions
from equiprune.commands.options.theory import TheoryOptions
from equiprune.commands.properties import Properties
from equiprune.commands.prune import Prune
from equiprune.commands.repair import Repair
from equiprune.commands.report import Report
from equiprune.commands.request import Request, Result
from equiprune.commands.search import Search
from equiprune.commands.stability import Stability
from equiprune.commands.train import Train

__all__ = [
    "AnalysisOptions",
    "Benchmark",
    "BudgetOptions",
    "Calibrate",
    "Certify",
    "Convert",
    "CopyOptions",
    "Crystals",
    "Discovery",
    "Doctor",
    "DynamicsOptions",
    "EffortOptions",
    "Evaluate",
    "Export",
    "FeatureOptions",
    "GrowthOptions",
    "Info",
    "Label",
    "LabelOptions",
    "LoadingOptions",
    "Md",
    "OpeningOptions",
    "PairOptions",
    "ProbeOptions",
    "ProcessOptions",
    "Properties",
    "ProtocolOptions",
    "Prune",
    "RecipeOptions",
    "RelaxationOptions",
    "RelaxationRuleOptions",
    "Repair",
    "Report",
    "Request",
    "Result",
    "SampleOptions",
    "ScoreOptions",
    "ScreeningOptions",
    "Search",
    "ShapeOptions",
    "SharingOptions",
    "Stability",
    "SubstitutionOptions",
    "SymbolOptions",
    "TargetOptions",
    "TheoryOptions",
    "Train",
    "WatchOptions",
    "WeightOptions",
]

"""Named recipes: where each value comes from is said beside it. Every value can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from equiprune.training.objective import Objective, mace_universal, mace_weighted, sevennet_huber
from equiprune.training.optimisation import Linear, Optimisation, Plateau


@dataclass(frozen=True)
class Preset:
    """An objective and an optimisation under a name."""

    source: str
    objective: Objective
    optimisation: Optimisation


_MACE = (
    "AMSGrad, clipping and averaging as in mace/tools/arg_parser.py; learning rate 0.001, less after 5 epochs without "
    "progress (MACE: 0.01, 50 epochs), no weight decay"
)

PRESETS: Mapping[str, Preset] = {
    "mace-universal": Preset(
        f"mace_run_train --loss universal with the forces weight 10; {_MACE}",
        mace_universal(),
        Optimisation(learning_rate=1e-3, schedule=Plateau(0.8, 5), amsgrad=True, clip=10.0, average=0.99),
    ),
    "mace-weighted": Preset(
        f"mace_run_train --loss weighted; {_MACE}",
        mace_weighted(),
        Optimisation(learning_rate=1e-3, schedule=Plateau(0.8, 5), amsgrad=True, clip=10.0, average=0.99),
    ),
    "sevennet": Preset(
        "the loss of SevenNet-0's config; learning rate from 0.004 linearly to 1 % of it (the config: 0.01 to 0.01 %)",
        sevennet_huber(),
        Optimisation(learning_rate=4e-3, schedule=Linear(0.01), clip=None, average=None),
    ),
}

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


PRESETS: Mapping[str, Preset] = {
    "mace-universal": Preset(
        "mace_run_train --loss universal, and the defaults of mace/tools/arg_parser.py",
        mace_universal(),
        Optimisation(learning_rate=1e-3, schedule=Plateau(0.8, 5), amsgrad=True, clip=10.0, average=0.99),
    ),
    "mace-weighted": Preset(
        "mace_run_train --loss weighted, and the defaults of mace/tools/arg_parser.py",
        mace_weighted(),
        Optimisation(learning_rate=1e-3, schedule=Plateau(0.8, 5), amsgrad=True, clip=10.0, average=0.99),
    ),
    "sevennet": Preset(
        "the config of SevenNet-0: Huber 0.01, stress in kbar, learning rate falling linearly to 1 %",
        sevennet_huber(),
        Optimisation(learning_rate=4e-3, schedule=Linear(0.01), clip=None, average=None),
    ),
}

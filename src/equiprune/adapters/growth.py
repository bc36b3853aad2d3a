"""Changes other than removing, the counterpart of a plan.

Most add to a model and come in two forms: one that leaves the function as it is, so that training starts where the
smaller model was, and one that draws the new weights at random, as an architecture change without inheritance would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from equiprune.errors import PlanError
from equiprune.files.settings import from_json, kind


@kind("grow_radial_basis", "GrowRadialBasis")
@dataclass(frozen=True)
class GrowRadialBasis:
    """More radial functions (the paper's small and large embedding, arXiv 2605.08885, appendix D.3).

    Attributes:
        functions: how many there will be.
        preserve: new functions start with weight zero; otherwise the first layer of every radial network is drawn
            anew, and in MACE's density blocks the density network.
        seed: of what is drawn.
    """

    functions: int
    preserve: bool = True
    seed: int = 0


@kind("nonlinear_readout", "NonlinearReadout")
@dataclass(frozen=True)
class NonlinearReadout:
    """A readout with one hidden layer in place of the last, linear one, as models pruned in depth want.

    Attributes:
        width: hidden neurons per head.
        preserve: two neurons reproduce the linear readout, since silu(x) - silu(-x) = x, and the others start with no
            effect; otherwise the readout is drawn anew.
        seed: of what is drawn.
    """

    width: int = 16
    preserve: bool = True
    seed: int = 0


@kind("native_grids", "NativeGrids")
@dataclass(frozen=True)
class NativeGrids:
    """The points on spheres that upstream's own constructor takes (eSCN), in place of those of an unpruned parent.

    Stock tools can open the model then; its function changes a little.
    """

    @property
    def preserve(self) -> bool:
        """Values at other points are activated: nothing is drawn, but the function is another."""
        return False


Growth = GrowRadialBasis | NonlinearReadout | NativeGrids


def growth_from_json(value: Any) -> Growth:
    """Read what `equiprune.files.settings.to_json` wrote of a growth; raises `PlanError` when it is something else."""
    try:
        growth = from_json(value)
    except ValueError as error:
        raise PlanError(f"{value} is not a change that this version of equiprune knows. Update equiprune.") from error
    if not isinstance(growth, Growth):
        raise PlanError(f"{value} is not a change that this version of equiprune knows. Update equiprune.")
    return growth

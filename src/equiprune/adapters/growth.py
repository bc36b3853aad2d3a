"""Changes other than removing, the counterpart of a plan.

Most add to a model and come in two forms: one that leaves the function as it is, so that training starts where the
smaller model was, and one that draws the new weights at random, as an architecture change without inheritance would.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from equiprune.errors import PlanError


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

_KINDS: dict[str, type[GrowRadialBasis] | type[NonlinearReadout] | type[NativeGrids]] = {
    "grow_radial_basis": GrowRadialBasis,
    "nonlinear_readout": NonlinearReadout,
    "native_grids": NativeGrids,
}


def growth_to_json(growth: Growth) -> dict[str, Any]:
    """A JSON value; `growth_from_json` reads it back.

    >>> growth_to_json(NonlinearReadout(8))
    {'kind': 'nonlinear_readout', 'width': 8, 'preserve': True, 'seed': 0}
    """
    kind = next(name for name, made in _KINDS.items() if isinstance(growth, made))
    return {"kind": kind, **asdict(growth)}


def growth_from_json(value: Any) -> Growth:
    """Read what `growth_to_json` wrote; raises `PlanError` when it is something else."""
    try:
        fields = dict(value)
        return _KINDS[fields.pop("kind")](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"{value} is not a change that this version of equiprune knows. Update equiprune.") from error

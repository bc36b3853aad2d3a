"""Growth: additions and changes after pruning."""

from __future__ import annotations

from dataclasses import dataclass

from cyclopts import Parameter

from equiprune.adapters.growth import GrowRadialBasis, Growth, NativeGrids, NonlinearReadout
from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Positive, Switch
from equiprune.errors import TargetError


@Parameter(name="*", group=panel("What to add"))
@dataclass(frozen=True)
class GrowthOptions(Complete):
    """Additions and changes after pruning. The function stays unless weights are drawn anew or grids change.

    Attributes:
        grow_radial_basis: this many radial functions, more than there are (MACE).
        nonlinear_readout: hidden neurons of a readout in place of the last, linear one (MACE).
        native_grids: upstream's own points on spheres instead of the parent's, so that stock tools open it (eSCN).
        reinitialise: draw what these add at random instead, by --seed; the function changes.
    """

    grow_radial_basis: Positive | None = None
    nonlinear_readout: Positive | None = None
    native_grids: Switch = False
    reinitialise: Switch = False

    def check(self) -> None:
        if self.reinitialise and self.grow_radial_basis is None and self.nonlinear_readout is None:
            raise TargetError("`reinitialise` draws what `grow_radial_basis` or `nonlinear_readout` add; give one.")

    def growths(self, seed: int) -> list[Growth]:
        """The same as values of the API."""
        added: list[Growth] = []
        if self.grow_radial_basis is not None:
            added.append(GrowRadialBasis(self.grow_radial_basis, not self.reinitialise, seed))
        if self.nonlinear_readout is not None:
            added.append(NonlinearReadout(self.nonlinear_readout, not self.reinitialise, seed))
        if self.native_grids:
            added.append(NativeGrids())
        return added


NO_GROWTH = GrowthOptions()
"""Nothing said."""

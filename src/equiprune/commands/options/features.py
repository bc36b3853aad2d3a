"""Features of the parent as labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Switch
from equiprune.commands.stages import Product, Step, Takes, Value, parent
from equiprune.errors import TargetError
from equiprune.training.objective import FeatureTerm


def _parent_where_weighed(values: Mapping[str, Value], before: Sequence[Step]) -> Value:
    return parent(values, before) if "features_weight" in values else ()


ParentModel = Annotated[str | None, Takes.of(Product.MODEL, rule=_parent_where_weighed)]


@Parameter(name="*", group=panel("Features of the parent"))
@dataclass(frozen=True)
class FeatureOptions(Complete):
    """Features of the model that was pruned, as labels of what was kept of them.

    Attributes:
        features_weight: of the parent's features between interactions, relative to their size; no preset has one.
        parent: the model that this one was pruned from.
        block_by_block: every interaction starts from the parent's features instead of the model's own.
    """

    features_weight: float = 0.0
    parent: ParentModel = None
    block_by_block: Switch = False

    def check(self) -> None:
        term = self.term
        if (self.parent is None) == (term.weight > 0):
            raise TargetError("`features_weight` and `parent`, the model that was pruned, need each other: give both.")
        if self.block_by_block and not term.weight:
            raise TargetError("`block_by_block` says how features are learnt: give `features_weight` too.")

    @property
    def term(self) -> FeatureTerm:
        """The same as a value of the API."""
        return FeatureTerm(self.features_weight, self.block_by_block)


NO_FEATURES = FeatureOptions()
"""Nothing said."""

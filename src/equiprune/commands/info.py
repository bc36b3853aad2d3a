"""Looking at models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from equiprune.adapters.base import check_head
from equiprune.commands.opening import read_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Model
from equiprune.commands.request import Request
from equiprune.commands.summary import describe_model, describe_shipped
from equiprune.models import shipped_model
from equiprune.progress import Display, unseen


@dataclass(frozen=True)
class Description:
    """Facts of a model, by the names of `to_json`."""

    model: str
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return dict(self.facts)


@dataclass(frozen=True)
class Info(Request[Description]):
    """Show what a model is: architecture, spaces, parameters, elements, licence, dead blocks.

    Attributes:
        model: an alias such as 7net-compact, an upstream checkpoint, or a directory that equiprune wrote.
    """

    model: Model
    _: KW_ONLY
    opening: OpeningOptions = AS_IT_IS

    def run(self, display: Display = unseen) -> Description:
        """Read the file; nothing is built."""
        adapter, checkpoint = read_model(self.model, self.opening)
        if self.opening.head is not None:
            check_head(checkpoint.architecture, self.opening.head)
        facts, shipped = describe_model(adapter, checkpoint), shipped_model(self.model)
        return Description(self.model, facts | describe_shipped(shipped) if shipped else facts)

"""Looking at models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from equiprune.adapters import adapter_for
from equiprune.adapters.base import check_head
from equiprune.commands.known_models import KnownModels, describe_file, describe_missing, known_models, published_file
from equiprune.commands.opening import read_model
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.values import Model
from equiprune.commands.request import Request
from equiprune.commands.summary import describe_model, describe_shipped
from equiprune.errors import TargetError
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
class Info(Request[Description | KnownModels]):
    """Show what a model is: architecture, spaces, parameters, elements, licence, dead blocks.

    Attributes:
        model: an alias such as 7net-compact, an upstream checkpoint, or a directory that equiprune wrote; without one,
            every alias is listed with its licence.
    """

    model: Model | None = None
    _: KW_ONLY
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        if self.model is None and self.opening != AS_IT_IS:
            raise TargetError("`head`, `trust` and `adapter` are about a model. Give `model`.")

    def run(self, display: Display = unseen) -> Description | KnownModels:
        """Read the file; nothing is built.

        While downloads are forbidden, a file that is not here is described as far as that goes without it.
        """
        if self.model is None:
            return known_models()
        file = published_file(self.model)
        if file is not None:
            adapter = adapter_for(self.model, self.opening.adapter)
            if missing := describe_missing(self.model, adapter.name, file):
                return Description(self.model, {"about": adapter.aliases[self.model.lower()], **missing})
        return Description(self.model, self._opened(self.model) | (describe_file(file) if file else {}))

    def _opened(self, model: str) -> dict[str, Any]:
        adapter, checkpoint = read_model(model, self.opening)
        if self.opening.head is not None:
            check_head(checkpoint.architecture, self.opening.head)
        facts, shipped = describe_model(adapter, checkpoint), shipped_model(model)
        return facts | describe_shipped(shipped) if shipped else facts

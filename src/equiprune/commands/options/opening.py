"""Options for opening a model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cyclopts import Parameter

from equiprune.commands.options.panels import panel
from equiprune.commands.options.values import Complete, Switch


@Parameter(name="*", group=panel("Common"))
@dataclass(frozen=True)
class OpeningOptions(Complete):
    """Options for opening models, of every command.

    Attributes:
        head: level of theory, for a multi-head model.
        trust: open a pickle that could run code; only for files whose origin you trust.
        adapter: the name of the architecture, for a file that several adapters recognise.
    """

    head: str | None = None
    trust: Switch = False
    adapter: str | None = None

    @property
    def headless(self) -> OpeningOptions:
        """The same for a model whose head is not meant."""
        return replace(self, head=None)


AS_IT_IS = OpeningOptions()
"""Nothing said."""

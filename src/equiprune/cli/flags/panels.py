"""The boxes of a help page, and the flags of every command."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cyclopts import Group, Parameter

from equiprune.cli.flags.values import Switch

PANELS = (
    "What to reach",
    "What to add",
    "Where importance comes from",
    "Distorted copies",
    "Molecular dynamics",
    "Labels",
    "Which structures",
    "How to train",
    "What is minimised",
    "Second derivatives",
    "Another level of theory",
    "Where it runs",
    "Loading",
    "Dashboards",
    "Common",
)
"""Of a help page, in their order."""


def panel(name: str) -> Group:
    """A box of a help page that holds flags of one kind."""
    return Group(name, sort_key=PANELS.index(name))


@Parameter(name="*", group=panel("Common"))
@dataclass(frozen=True)
class Common:
    """Flags of every command.

    Attributes:
        json: print one JSON document on stdout instead of text.
        head: level of theory, for a multi-head model.
        trust: open a pickle that could run code; only for files whose origin you trust.
        adapter: the name of the architecture, for a file that several adapters recognise.
    """

    json: Switch = False
    head: str | None = None
    trust: Switch = False
    adapter: str | None = None

    @property
    def headless(self) -> Common:
        """The same for a model whose head is not meant."""
        return replace(self, head=None)


COMMON = Common()
"""No flag given."""

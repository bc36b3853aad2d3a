"""The boxes of a help page."""

from __future__ import annotations

from cyclopts import Group

PANELS = (
    "What you can afford",
    "What to reach",
    "What to add",
    "Where importance comes from",
    "How long it searches",
    "Other elements",
    "Distorted copies",
    "Molecular dynamics",
    "Protocol",
    "What is looked at",
    "Pairs of atoms",
    "Relaxation",
    "Which labels are kept",
    "Labels",
    "Names of atoms",
    "Which structures",
    "How to train",
    "What is minimised",
    "Features of the parent",
    "Second derivatives",
    "Another level of theory",
    "Where it runs",
    "Loading",
    "Dashboards",
    "Common",
)
"""Panels of a help page, in their order."""


def panel(name: str) -> Group:
    """A box of a help page that holds arguments of one kind."""
    return Group(name, sort_key=PANELS.index(name))

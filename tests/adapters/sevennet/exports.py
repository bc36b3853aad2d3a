"""Pruned and shipped models as files for SevenNet's own tools."""

import equiprune as ep
from equiprune.models import shipped_models

PARENT = "7net-l3i5"

ODD = "96x0e,96x0e+48x1e+24x2e+8x3e,80x0e+16x2e+16x3e,64x0e+32x1e+16x2e,64x0e+16x1e,50x0e"
"""Other counts in every interaction, with l = 1 missing in one."""

PRUNED: dict[str, tuple[str, str | None, list]] = {
    "odd": (PARENT, None, [ep.HiddenIrreps.parse(ODD), ep.Elements.parse("Na,Cl,Si,Cu,O,H,C")]),
    "single-head": ("7net-mf-0", "PBE", [ep.Heads(("PBE",)), ep.HiddenIrreps.parse("64x0e+32x1e+16x2e")]),
}
SHIPPED = [name for name, model in shipped_models().items() if model.adapter == "sevennet"]
"""Among them one of SevenNet-0's irreps."""


def pruned(name: str) -> ep.Potential:
    """One of `PRUNED`, by the size of its weights."""
    source, head, targets = PRUNED[name]
    potential = ep.load(source, head=head)
    return ep.prune(potential, ep.allocate(potential, targets, ep.data_free_scores(potential, ep.Magnitude())))

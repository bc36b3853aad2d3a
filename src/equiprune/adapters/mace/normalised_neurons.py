"""Neurons that a layer norm looks at together, so that none can go."""

from __future__ import annotations

from equiprune.blocks import BlockMask, Rule


class NormalisedNeurons(Rule):
    """All neurons stay: a layer norm subtracts their mean and divides by their spread, which a cut would change."""

    def broken_by(self, mask: BlockMask) -> str:
        if mask == self.widened(mask):
            return ""
        return (
            "cannot be cut exactly: the radial network of a RealAgnosticResidualNonLinearInteractionBlock has a "
            "LayerNorm over these neurons, and their mean and spread would change"
        )

    def widened(self, mask: BlockMask) -> BlockMask:
        return BlockMask.keep(mask.irreps, {ir: range(mul) for mul, ir in mask.irreps})

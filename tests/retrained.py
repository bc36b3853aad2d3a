"""Pruning and retraining of a small model, as every architecture must allow it."""

from pathlib import Path

from ase import Atoms

import equiprune as ep
from equiprune.training.optimisation import Optimisation


def pruned_and_retrained(parent: ep.Potential, irreps: str, folder: Path) -> tuple[ep.Potential, list[Atoms]]:
    """A child that was trained on its parent's labels and is nearer to it than before, and the crystals of these."""
    targets = [ep.HiddenIrreps.parse(irreps)]
    child = ep.prune(parent, ep.allocate(parent, targets, ep.data_free_scores(parent, ep.Magnitude())))
    assert child.parameters() < parent.parameters()
    crystals = [atoms for atoms in ep.probe_structures(parent.elements).values() if atoms.pbc.all()][:2]
    labelled = list(ep.label(parent, ep.augmented(crystals, ep.Augmentation(copies=1, strain=0.03))))
    recipe = ep.Recipe(ep.PRESETS["sevennet"].objective, Optimisation(1e-2, average=None), epochs=12, batch_size=2)
    trained = ep.train(child, labelled, recipe, folder)
    before, after = ep.evaluate({"before": child, "after": trained}, labelled)
    assert after.mae("forces") < 0.9 * before.mae("forces")
    assert after.mae("energy") < 0.5 * before.mae("energy")
    return trained, crystals

"""Distance of a child's features from its parent's, and that training brings them nearer, for tests of adapters."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ase import Atoms

import equiprune as ep
from equiprune.training.arguments import TrainingData
from equiprune.training.batches import with_labels
from equiprune.training.feature_labels import FeatureTeacher
from equiprune.training.objective import FeatureTerm, Objective, Square, Term
from equiprune.training.optimisation import Optimisation
from equiprune.training.recipe import Recipe

_NONE = Term(0.0, Square())
ALONE = Objective(_NONE, _NONE, features=FeatureTerm(1.0))
"""Nothing but features."""
BLOCKS = Objective(_NONE, _NONE, features=FeatureTerm(1.0, block_by_block=True))


def feature_loss(
    parent: ep.Potential, child: ep.Potential, structures: Sequence[Atoms], objective: Objective = ALONE
) -> float:
    """Mean over the structures."""
    teacher = FeatureTeacher.of(parent, child, structures)
    data = with_labels(child.graph(structures), structures)
    labels = teacher.labels(data.graph)
    given = labels.values if objective.features.block_by_block else {}
    predicted = child.for_training(tuple(teacher.columns), derived=False)(data.graph, data.targets.vectors, given)
    part = objective.sums(predicted, replace(data.targets, features=labels), data.graph)["features"]
    return float(part.total.detach()) / part.count


def assert_features_are_learnt(
    parent: ep.Potential, child: ep.Potential, structures: Sequence[Atoms], folder: Path
) -> None:
    """Assert that a child that lost nothing has its parent's features, and that others get nearer, in both ways."""
    whole = ep.prune(parent, ep.PruningPlan.nothing())
    recipe = Recipe(ALONE, Optimisation(5e-3, clip=None, average=None), epochs=5, batch_size=2)
    for objective in (ALONE, BLOCKS):
        assert feature_loss(parent, whole, structures, objective) < 1e-9
        start = feature_loss(parent, child, structures, objective)
        data = TrainingData(structures, parent=parent)
        name = "blocks" if objective.features.block_by_block else "alone"
        trained = ep.train(child, data, replace(recipe, objective=objective), folder / name)
        assert 1e-6 < feature_loss(parent, trained, structures, objective) < 0.95 * start

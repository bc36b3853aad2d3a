"""Total charge and total spin as MACE sees them: ``embedding_specs``, and the weights of ``GenericJointEmbedding``.

A whole number picks a row of a table (``categorical``); any number passes a network of one hidden layer
(``continuous``). What all of them give is put side by side, and a linear map with SiLU after it makes as many scalars
of it as there are channels, which are added to those of the species (mace/modules/embeddings.py, models.py). The
stock calculator reads both numbers from ``info["charge"]`` and ``info["spin"]``, and takes 0 and 1 where there are
none (mace/calculators/mace.py, mace/data/atomic_data.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equiprune.blocks import Axis, Segment, WeightLayout
from equiprune.errors import CheckpointError
from equiprune.structures.global_inputs import GlobalInput

_READ = {"total_charge": ("charge", 0.0), "total_spin": ("spin", 1.0)}
"""Entry of info and default by upstream's name."""

_JOINT = "joint_embedding"


@dataclass(frozen=True)
class Embedding:
    """An embedded number of the whole structure: an entry of ``embedding_specs``.

    Attributes:
        name: upstream's, total_charge or total_spin.
        width: numbers that it becomes (``emb_dim``).
        classes: rows of the table (``num_classes``); 0 where a network takes the place of the table.
        offset: is added to the number to find its row.
        bias: the network has biases (``use_bias``).
        key: entry of info that ``mace_run_train`` reads, where the specification names one.
    """

    name: str
    width: int
    classes: int = 0
    offset: int = 0
    bias: bool = True
    key: str = ""

    def __post_init__(self) -> None:
        if self.name not in _READ or self.width < 1 or self.classes < 0:
            raise ValueError(f"{' or '.join(_READ)} with one number or more")

    @property
    def input(self) -> GlobalInput:
        """The number as a structure gives it."""
        key, default = _READ[self.name]
        whole = range(-self.offset, self.classes - self.offset) if self.classes else None
        return GlobalInput(key, default, whole, (self.name,))

    @property
    def specification(self) -> dict[str, Any]:
        """The entry of ``embedding_specs``.

        >>> Embedding("total_charge", 8, classes=5, offset=2).specification
        {'type': 'categorical', 'per': 'graph', 'in_dim': 1, 'emb_dim': 8, 'num_classes': 5, 'offset': 2}
        """
        of_table = {"num_classes": self.classes, "offset": self.offset} if self.classes else {"use_bias": self.bias}
        kind = "categorical" if self.classes else "continuous"
        key = {"key": self.key} if self.key else {}
        return {"type": kind, "per": "graph", "in_dim": 1, "emb_dim": self.width, **of_table, **key}

    def layouts(self) -> dict[str, WeightLayout]:
        """Layouts of the table, or of the network."""
        prefix, width = f"{_JOINT}.embedders.{self.name}", (Segment.fixed(self.width),)
        if self.classes:
            return {f"{prefix}.weight": WeightLayout.dense((Segment.fixed(self.classes),), width)}
        layouts = {
            f"{prefix}.0.weight": WeightLayout.linear(width, (Segment.fixed(1),)),
            f"{prefix}.2.weight": WeightLayout.linear(width, width),
        }
        biases = {f"{prefix}.{i}.bias": WeightLayout.bias(width) for i in (0, 2)} if self.bias else {}
        return layouts | biases


def joint_layouts(embeddings: tuple[Embedding, ...], channels: Axis) -> dict[str, WeightLayout]:
    """Layouts of all embeddings, and of the map from them to the channels of the species."""
    if not embeddings:
        return {}
    layouts = {name: layout for each in embeddings for name, layout in each.layouts().items()}
    together = (Segment.fixed(sum(each.width for each in embeddings)),)
    return {**layouts, f"{_JOINT}.project.0.weight": WeightLayout.linear(channels, together)}


def embeddings_of(specifications: Mapping[str, Mapping[str, Any]]) -> tuple[Embedding, ...]:
    """Embeddings that a file specifies, in their order.

    Raises:
        CheckpointError: another number than charge and spin, or one of every atom.
    """
    return tuple(_embedding(name, spec) for name, spec in specifications.items())


def _embedding(name: str, spec: Mapping[str, Any]) -> Embedding:
    if name not in _READ or spec["per"] != "graph" or spec.get("in_dim", 1) != 1:
        raise CheckpointError(
            f"it embeds '{name}' (embedding_specs: per {spec['per']}, in_dim {spec.get('in_dim', 1)}); "
            f"{' and '.join(_READ)} can be given to a structure (per graph, in_dim 1)."
        )
    if spec["type"] not in ("categorical", "continuous"):
        raise CheckpointError(f"it embeds '{name}' as {spec['type']}; categorical and continuous are supported.")
    width, key = int(spec["emb_dim"]), str(spec.get("key", ""))
    if spec["type"] == "continuous":
        return Embedding(name, width, bias=bool(spec.get("use_bias", True)), key=key)
    return Embedding(name, width, int(spec["num_classes"]), int(spec.get("offset", 0)), key=key)

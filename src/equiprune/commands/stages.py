"""Commands as stages of a pipeline, said beside their fields: what they take, write and leave unrecorded.

A field that says nothing is a setting, or a file that is read, by its type. What a stage does not say it takes from
the stages before it, by the rule of the field (`Takes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

PARENT = "parent"
"""Name of the model that everything starts from."""


class Product(Enum):
    """Products that a stage gives to later ones."""

    MODEL = "a model"
    SCORES = "scores"
    DATA = "labelled structures"
    STRUCTURES = "structures without labels"
    PLAN = "a plan"
    NUMBERS = "numbers measured of models"


@dataclass(frozen=True)
class From:
    """Reference to what an earlier stage gave; from `PARENT`, to the model that everything starts from."""

    stage: str


RESULT = "result.json"
"""The file in the folder of a stage that has the JSON of its command."""


Value = tuple[str | From, ...]
"""Words and stages that a key is given."""


@dataclass(frozen=True)
class Kind:
    """A command as a stage.

    Attributes:
        output: name of what it writes, unless it says.
        gives: what later stages take.
        product: where that is, below the folder of the stage.
        keeps: what an interrupted stage goes on from.
        ended: called with the product before a begun stage goes on: lets one that had ended, unrecorded, end the same.
    """

    output: str | None = None
    gives: Product | None = None
    product: str = "{output}"
    keeps: str | None = None
    ended: Callable[[Path], None] = lambda _product: None


@dataclass(frozen=True)
class Step:
    """A stage that knows where everything comes from: its name, its command, and what each key is given."""

    name: str
    command: str
    kind: Kind
    values: Mapping[str, Value]

    @property
    def where(self) -> str:
        """The stage, in an error."""
        return f"Stage '{self.name}' ({self.command})"

    @property
    def product(self) -> str | None:
        """Path that later stages take, below the folder of the stage."""
        return self._named(self.kind.product) if self.kind.gives else None

    @property
    def keeps(self) -> str | None:
        """Path that an interrupted stage goes on from, below the folder of the stage."""
        return self._named(self.kind.keeps) if self.kind.keeps else None

    @property
    def upstream(self) -> set[str]:
        """Stages whose products it reads."""
        return {v.stage for values in self.values.values() for v in values if isinstance(v, From)} - {PARENT}

    def _named(self, pattern: str) -> str:
        return pattern.format(output=self.values.get("output", ("",))[0])


Rule = Callable[[Mapping[str, Value], Sequence[Step]], Value]
"""Rule for a field that its stage does not give, from the values so far and the stages before it."""


def nothing(_: Mapping[str, Value], __: Sequence[Step]) -> Value:
    """The default of a key that takes nothing from earlier stages."""
    return ()


def parent(_: Mapping[str, Value], __: Sequence[Step]) -> Value:
    """The model that everything starts from."""
    return (From(PARENT),)


def every_model(_: Mapping[str, Value], before: Sequence[Step]) -> Value:
    """The model that everything starts from, and all that came of it."""
    return (From(PARENT), *(From(step.name) for step in before if step.kind.gives is Product.MODEL))


def newest_model(values: Mapping[str, Value], before: Sequence[Step]) -> Value:
    """The last of them."""
    return every_model(values, before)[-1:]


def newest_data(_: Mapping[str, Value], before: Sequence[Step]) -> Value:
    """The last labelled structures."""
    return tuple(From(step.name) for step in before if step.kind.gives is Product.DATA)[-1:]


def newest_structures(_: Mapping[str, Value], before: Sequence[Step]) -> Value:
    """The last structures, with labels or without."""
    gives = (Product.DATA, Product.STRUCTURES)
    return tuple(From(step.name) for step in before if step.kind.gives in gives)[-1:]


def scores_of_the_model(values: Mapping[str, Value], before: Sequence[Step]) -> Value:
    """The last scores of the model that is pruned, unless something else says what matters."""
    return () if values.keys() & {"data", "criterion", "plan"} else scores_of_this_model(values, before)


def scores_of_this_model(values: Mapping[str, Value], before: Sequence[Step]) -> Value:
    """The last scores of the model that the stage is about."""
    scores = (s for s in before if s.kind.gives is Product.SCORES and s.values.get("model") == values["model"])
    return tuple(From(step.name) for step in scores)[-1:]


def pruned_from(values: Mapping[str, Value], before: Sequence[Step]) -> Value:
    """The model that was pruned, if nothing has happened to it since."""
    return _starts("prune", before).get(values["model"], ())


def trained_from(values: Mapping[str, Value], before: Sequence[Step]) -> Value:
    """The model before all its training."""
    starts, after = _starts("train", before), values.get("after") or newest_model(values, before)
    model = after
    while model in starts:
        model = starts[model]
    return model if model != after else ()


def _starts(command: str, before: Sequence[Step]) -> dict[Value, Value]:
    """Start of each stage of a command, by what it gave."""
    return {(From(step.name),): step.values["model"] for step in before if step.command == command}


@dataclass(frozen=True)
class Takes:
    """Mark of a field that may name a stage.

    Attributes:
        products: what such a stage must give, one of these.
        rule: what the field takes when nothing is said.
        other: whether a word, in the folder of the recipe, is neither a model nor a file.
    """

    products: frozenset[Product]
    rule: Rule = nothing
    other: Callable[[str, Path], bool] = lambda _word, _folder: False

    @classmethod
    def of(cls, *products: Product, rule: Rule = nothing, **more: Any) -> Takes:
        return cls(frozenset(products), rule, **more)


class Mark(Enum):
    """Marks of other fields."""

    WRITTEN = "names what the command writes"
    UNRECORDED = "changes nothing of the result, so that a stage is the same with and without it"

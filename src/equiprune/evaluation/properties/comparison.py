"""Comparing models: means, errors against known values, differences from the first model, and what was left out.

Every number is over the structures that all models have it of, so that models are compared on the same ones; how many
these are, and why others are not among them, is part of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equiprune.errors import TargetError, closest
from equiprune.evaluation.properties.outcomes import Outcome, Value
from equiprune.evaluation.properties.quantity import Examination, Property, Quantity

DATA = "data"
"""Standards of comparison: values known of the structures, or the first model."""

_SHOWN = 10
"""Structures that were left out, named in a table."""


@dataclass(frozen=True)
class Errors:
    """Errors of one quantity.

    Attributes:
        mae: mean absolute error, in the unit of the quantity; a curve counts as the mean over its points.
        rmse: root mean squared error.
        structures: that it is over.
    """

    mae: float
    rmse: float
    structures: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[Value, Value]]) -> Errors | None:
        """Errors of values against others; None without any.

        >>> Errors.of([(1.0, 2.0), ([0.0, 4.0], [0.0, 1.0])])
        Errors(mae=1.25, rmse=1.6583123951777, structures=2)
        """
        if not pairs:
            return None
        errors = [np.asarray(found, dtype=float) - np.asarray(known, dtype=float) for found, known in pairs]
        absolute = float(np.mean([abs(error).mean() for error in errors]))
        squared = float(np.mean([(error**2).mean() for error in errors]))
        return cls(absolute, squared**0.5, len(pairs))

    def to_json(self) -> dict[str, Any]:
        """``mae``, ``rmse`` and ``structures``."""
        return {"mae": self.mae, "rmse": self.rmse, "structures": self.structures}


@dataclass(frozen=True)
class LeftOut:
    """A structure that one model has no values of.

    Attributes:
        structure: by name.
        model: by name.
        outcome: with the reason.
    """

    structure: str
    model: str
    outcome: Outcome

    def to_json(self) -> dict[str, str]:
        """``structure``, ``model``, ``why`` and the reason in words."""
        why = self.outcome.why.value if self.outcome.why else ""
        return {"structure": self.structure, "model": self.model, "why": why, "said": self.outcome.said}


@dataclass(frozen=True)
class Measured:
    """One property of all structures with all models.

    Attributes:
        examination: the property and its structures.
        outcomes: by model, in the order of the structures; the first model is what others are compared with.
    """

    examination: Examination
    outcomes: Mapping[str, Sequence[Outcome]]

    @property
    def examined(self) -> Property:
        """The property."""
        return self.examination.examined

    @property
    def models(self) -> tuple[str, ...]:
        """Their names; the first is what others are compared with."""
        return tuple(self.outcomes)

    @property
    def left_out(self) -> list[LeftOut]:
        """Structures that a model has no values of, and why, in the order of the structures."""
        return [
            LeftOut(subject.name, model, self.outcomes[model][i])
            for i, subject in enumerate(self.examination.subjects)
            for model in self.models
            if self.outcomes[model][i].why is not None
        ]

    @property
    def complete(self) -> list[int]:
        """Numbers of the structures that all models have values of."""
        return [
            i
            for i in range(len(self.examination.subjects))
            if all(found[i].why is None for found in self.outcomes.values())
        ]

    def compared(self, quantity: Quantity) -> list[int]:
        """Numbers of the structures that all models have this quantity of."""
        return [
            i
            for i in self.complete
            if all(found[i].values.get(quantity.name) is not None for found in self.outcomes.values())
        ]

    def mean(self, model: str, quantity: Quantity) -> float | None:
        """Mean of a quantity, of a curve over its points, over the structures that all have it of; None without any."""
        values = [np.mean(self._value(model, quantity, i)) for i in self.compared(quantity)]  # type: ignore[arg-type]
        return float(np.mean(values)) if values else None

    def errors(self, model: str, quantity: Quantity, against: str) -> Errors | None:
        """Errors of a model against another one, or against known values (`DATA`); None where there is nothing."""
        if against != DATA:
            return Errors.of(
                [(self._value(model, quantity, i), self._value(against, quantity, i)) for i in self.compared(quantity)]
            )
        references = [subject.references.get(quantity.name) for subject in self.examination.subjects]
        known = [i for i in self.compared(quantity) if references[i] is not None]
        return Errors.of([(self._value(model, quantity, i), references[i]) for i in known])

    def judged_by(self, quantity: Quantity) -> str:
        """Standard for errors of a quantity: known values where there are any, else the first model."""
        has_data = any(quantity.name in subject.references for subject in self.examination.subjects)
        return DATA if has_data else self.models[0]

    def _value(self, model: str, quantity: Quantity, number: int) -> Value:
        return self.outcomes[model][number].values[quantity.name]

    def to_json(self) -> dict[str, Any]:
        """Everything but the values of single structures, which the folder of the work keeps."""
        return {
            "property": self.examined.name,
            "structures": len(self.examination.subjects),
            "compared": len(self.complete),
            "left_out": [each.to_json() for each in self.left_out],
            "models": {model: self._of_model(model) for model in self.models},
        }

    def _of_model(self, model: str) -> dict[str, Any]:
        found = {}
        for quantity in self.examined.quantities:
            against = {name: self.errors(model, quantity, name) for name in (DATA, self.models[0])}
            found[quantity.name] = {
                "unit": quantity.unit,
                "mean": self.mean(model, quantity),
                "structures": len(self.compared(quantity)),
                "against": {name: errors.to_json() for name, errors in against.items() if errors is not None},
            }
        return found


@dataclass(frozen=True)
class Limit:
    """A limit of the mean absolute error of one quantity, for every model.

    Attributes:
        property_name: of the property.
        quantity: by name.
        most: in the unit of the quantity.
    """

    property_name: str
    quantity: str
    most: float

    @classmethod
    def parse(cls, text: str, properties: Sequence[type[Property] | Property]) -> Limit:
        """From words such as ``elasticity.shear_modulus=15``.

        Raises:
            TargetError: no such property or quantity among these, or no number that is 0 or more.
        """
        name, equals, number = text.partition("=")
        known = {f"{each.name}.{quantity.name}" for each in properties for quantity in each.quantities}
        if name not in known:
            raise TargetError(
                f"There is no quantity '{name}' to limit.{closest(name, known)} Write property.quantity=number, with "
                f"one of {', '.join(sorted(known))}."
            )
        try:
            most = float(number)
        except ValueError:
            most = -1.0
        if not equals or not 0 <= most < float("inf"):
            raise TargetError(f"The limit '{text}' needs a number that is 0 or more: {name}=10.")
        examined, _, quantity = name.partition(".")
        return cls(examined, quantity, most)

    def held(self, measured: Sequence[Measured]) -> bool:
        """True if the error of every model is within the limit, of at least one structure."""
        found = next(each for each in measured if each.examined.name == self.property_name)
        quantity = next(each for each in found.examined.quantities if each.name == self.quantity)
        errors = [found.errors(model, quantity, found.judged_by(quantity)) for model in found.models]
        return all(error is not None and error.mae <= self.most for error in errors)


def table(measured: Measured) -> list[list[str]]:
    """Rows for display: means of each model, then MAE (RMSE) against what is known and against the first model."""
    quantities = measured.examined.quantities
    rows = [["model", "", *map(_heading, quantities)]]
    for model in measured.models:
        means = [measured.mean(model, quantity) for quantity in quantities]
        rows.append([model, "mean", *("none" if mean is None else number(mean) for mean in means)])
        for against in (DATA, *(measured.models[:1] if model != measured.models[0] else ())):
            errors = [measured.errors(model, quantity, against) for quantity in quantities]
            if any(errors):
                said = ["" if e is None else f"{number(e.mae)} ({number(e.rmse)})" for e in errors]
                rows.append(["", f"MAE (RMSE), {'the data' if against == DATA else against}", *said])
    return rows


def _heading(quantity: Quantity) -> str:
    return f"{quantity.title}, {quantity.unit}" if quantity.unit else quantity.title


def number(value: float) -> str:
    """A number with about four digits.

    >>> [number(value) for value in (0.0, 1234.56, 98.76, 0.01234, 1.2e-7)]
    ['0', '1234.6', '98.76', '0.01234', '1.2e-07']
    """
    return f"{value:.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def said(measured: Measured) -> list[str]:
    """Sentences on what numbers are over, and on what was left out and why."""
    count, total = len(measured.complete), len(measured.examination.subjects)
    sentences = [f"Over {count} of {total}, the same for all models."]
    fewer = {quantity.title: len(measured.compared(quantity)) for quantity in measured.examined.quantities}
    sentences += [f"{title} over {number_of}." for title, number_of in fewer.items() if number_of != count]
    references = {q.title: measured.errors(measured.models[0], q, DATA) for q in measured.examined.quantities}
    known = {title: errors.structures for title, errors in references.items() if errors is not None}
    sentences += [f"Data on {title} of {number_of}." for title, number_of in known.items() if number_of != count]
    lost = measured.left_out
    shown = [f"{each.structure} ({each.model}: {each.outcome.said})" for each in lost[:_SHOWN]]
    more = [f"and {len(lost) - _SHOWN} more in the JSON"] if len(lost) > _SHOWN else []
    return [*sentences, *([f"Left out: {'; '.join([*shown, *more])}."] if lost else [])]

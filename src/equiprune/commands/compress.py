"""From a budget to a finished model: the recipe of all stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from cyclopts import Parameter

from equiprune.adapters.base import Architecture, ModelAdapter
from equiprune.adapters.capabilities import HasLinearMaps
from equiprune.commands.opening import check_device, read_model
from equiprune.commands.options.budget import NO_BUDGET, USUAL_EFFORT, BudgetOptions, EffortOptions, timed_atoms
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.processes import DeviceName
from equiprune.commands.options.recipe import LONG_RECIPE, NO_WEIGHTS, LongRecipeOptions, RecipeOptions
from equiprune.commands.options.targets import NO_SHAPE, ShapeOptions
from equiprune.commands.options.values import Complete, Model, NotNegative, Output, Patterns, Positive
from equiprune.commands.request import remarks
from equiprune.errors import StructureError, TargetError
from equiprune.evaluation.accuracy import check_some_labels
from equiprune.pruning.allocation import asked_for
from equiprune.pruning.counts import PruningProblem
from equiprune.pruning.parent_view import FEWEST
from equiprune.searching.budget import Budget
from equiprune.structures.reading import open_structures, read_structures

_CALIBRATED = 200
"""Structures that importance is the mean over."""
_PARITY = "300"
"""Structures of the parity plots of a report."""
_HELD_OUT, _HELD_OUT_OF_SEARCH = "0.1", "0.2"
"""Share of the structures that training holds out; with a limit to the error the one of a search, so that both judge by
the same structures."""
MEMORY = "memory"
"""Name of the stage that evaluates as many atoms as the budget of memory is for."""
_SHARED = ("preset", "batch_size", "learning_rate")
"""Keys of a recipe of training that brief training has, too."""

Settings = dict[str, str | list[str]]


@Parameter(name="*")
@dataclass(frozen=True)
class Compress(Complete):
    """Make a model that keeps a budget: search, prune, repair, train, check. Interrupted, the same command goes on.

    Attributes:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        data: structures of your system; labels are not needed, the model's own are used.
        output: folder of everything; the result is its subdirectory "model", and "report.md" says what it is.
        copies: displaced copies of each structure, to label and to train on as well.
        test: structures with labels of your own, such as DFT, to evaluate parent and result on.
        beside: other models to time, and with ``test`` to evaluate, beside parent and result, e.g. 7net-0.
        timed_atoms: models are timed on at least so many, copies of the largest structure; 64 on a CPU, 2048 on a GPU
            unless given.
        seed: of displacements, of what is held out and drawn, and of the order of training.
        device: cpu or cuda.
    """

    model: Model
    _: KW_ONLY
    data: Path
    output: Output
    budget: BudgetOptions = NO_BUDGET
    target: ShapeOptions = NO_SHAPE
    copies: NotNegative = 3
    effort: EffortOptions = USUAL_EFFORT
    recipe: LongRecipeOptions = LONG_RECIPE
    test: Path | None = None
    beside: Patterns | None = None
    timed_atoms: Positive | None = None
    seed: NotNegative = 0
    device: DeviceName = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_device(self.device)
        self.asked  # noqa: B018 (raises what is wrong with it)
        self.budget.check_memory(self.device)

    @property
    def asked(self) -> Budget:
        """The budget as a value."""
        return self.budget.budget()

    def stages(self) -> list[dict[str, Settings]]:
        """The stages of the recipe, in order; the models and all structures are looked at.

        Raises:
            EquipruneError: a model or structures that cannot be used.
        """
        adapter, checkpoint = read_model(self.model, self.opening)
        architecture = checkpoint.architecture
        self._check_preset(adapter, architecture)
        numbers = [set(atoms.numbers.tolist()) for atoms in open_structures(self.data)]
        if len(numbers) * (1 + self.copies) < FEWEST:
            raise StructureError(
                f"{len(numbers)} structures with {self.copies} copies of each are too few: {FEWEST} are needed. Give "
                "more structures, or more `copies`."
            )
        seen = set[int]().union(*numbers)
        self._check_elements(seen, self._kept(adapter, architecture))
        if self.target.elements is None:
            _remark_elements(seen, architecture.elements)
        return list(self._stages(isinstance(adapter, HasLinearMaps), len(numbers)))

    def _check_preset(self, adapter: ModelAdapter, architecture: Architecture) -> None:
        recipe = self.recipe.recipe(NO_WEIGHTS, self.seed, suited=adapter.preset)
        if architecture.direct_forces and recipe.objective.stress.weight > 0:
            raise TargetError(
                f"`preset` {self.recipe.preset} gives stress a weight, and {adapter.name} models "
                "have none. Give one that does not, such as escn."
            )

    def _kept(self, adapter: ModelAdapter, architecture: Architecture) -> Sequence[int]:
        """Elements that the result knows; raises `TargetError` for targets that the model cannot reach."""
        model = PruningProblem(adapter, architecture, adapter.spaces(architecture), self.target.heterogeneous)
        _, explicit = asked_for(model, self.target.shape())
        return adapter.shrink(architecture, explicit).elements

    def _check_elements(self, seen: set[int], kept: Sequence[int]) -> None:
        """Refuse structures that the result or a model beside it does not know, or without the labels they are for."""
        known = {"the result": kept}
        for name in self.beside or []:
            known[f"'{name}'"] = read_model(name, self.opening.headless)[1].architecture.elements
        files = {self.data: seen}
        if self.test is not None:
            check_some_labels(read_structures(self.test))
            files[self.test] = {int(z) for atoms in read_structures(self.test) for z in atoms.numbers}
        for path, there in files.items():
            for model, elements in known.items():
                if unknown := sorted(there - set(elements)):
                    raise StructureError(
                        f"'{path}' has {_symbols(unknown)}, which {model} would not know: it knows "
                        f"{_symbols(elements)}. Take those structures out, or choose other `elements` or models."
                    )

    def _stages(self, repairs: bool, structures: int) -> Iterator[dict[str, Settings]]:
        """``repairs`` says whether models of this architecture can be repaired; a lone head has no name any more."""
        data, seed, common = str(self.data.absolute()), str(self.seed), self._common
        yield {"calibrate": {"data": data, "limit": str(min(structures, _CALIBRATED)), **common}}
        yield {"label": {"data": data, "copies": str(self.copies), "origins": "true", "seed": seed, **common}}
        yield {"search": self._search | common}
        yield {"prune": {"plan": "search", **common}}
        alone = {key: value for key, value in common.items() if key != "head" or self.target.heads is None}
        if repairs:
            yield {"repair": {"data": "label", "keep_if_worse": "true", "seed": seed, **alone}}
        share = _HELD_OUT if self.budget.max_force_error is None else _HELD_OUT_OF_SEARCH
        split: Settings = {"validation_share": share, "structure_key": "labelled_from"}
        training = {"data": "label", **split, **_given(self.recipe, RecipeOptions()), "seed": seed}
        yield {"train": {**training, **alone}}
        yield {"certify": {"model": "train", "parent": "parent", **alone}}
        models = ["parent", "train", *map(anywhere, self.beside or [])]
        if self.test is not None:
            compared: Settings = {"models": models, "data": str(self.test.absolute()), "parity": _PARITY}
            yield {"evaluate": {**compared, **common}}
        engine: Settings = {} if self.budget.engine == NO_BUDGET.engine else {"engine": self.budget.engine}
        atoms = str(timed_atoms(self.timed_atoms, self.device))
        yield {"benchmark": {"models": models, "data": "label", "atoms": atoms, **engine, **common}}
        if self.budget.atoms is not None:
            limit: Settings = {"atoms": str(self.budget.atoms), "memory": str(self.budget.memory)}
            promised: Settings = {"name": MEMORY, "models": "train", **limit, "repeats": "1"}
            yield {"benchmark": {**promised, "data": "label", **engine, **common}}

    @property
    def _common(self) -> Settings:
        device: Settings = {} if self.device == "cpu" else {"device": self.device}
        return device | _given(self.opening, AS_IT_IS)

    @property
    def _search(self) -> Settings:
        training = _given(self.recipe, LONG_RECIPE)
        shared = {key: value for key, value in training.items() if key in _SHARED}
        target = _given(self.target, NO_SHAPE)
        own: Settings = {"data": "label", "structure_key": "labelled_from", "plot": "front.png"}
        own |= {"beside": list(map(anywhere, self.beside))} if self.beside else {}
        own |= {"seed": str(self.seed), "timed_atoms": str(timed_atoms(self.timed_atoms, self.device))}
        return own | _given(self.budget, NO_BUDGET) | target | _given(self.effort, USUAL_EFFORT) | shared


def anywhere(model: str) -> str:
    """A model as it is named in any folder: an alias, or the absolute path of a file."""
    return str(Path(model).absolute()) if Path(model).exists() else model


def _remark_elements(seen: set[int], known: Sequence[int]) -> None:
    """Say which elements the model could do without."""
    if unseen := set(known) - seen:
        remarks.info(
            f"{len(unseen)} of the model's {len(known)} elements are in none of the structures, so that nobody will "
            f"know what becomes of them. If you do not need them, `elements` {_symbols(sorted(seen))} makes the model "
            "smaller, exactly."
        )


def _symbols(numbers: Sequence[int]) -> str:
    return ",".join(chemical_symbols[z] for z in numbers)


def _given(options: Any, defaults: Any) -> Settings:
    """Keys of options that are not what they would be anyway, as texts of a recipe."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {name: _text(value) for name, value in values.items() if value != getattr(defaults, name)}


def _text(value: Any) -> str | list[str]:
    if isinstance(value, bool):
        return str(value).lower()
    return [str(each) for each in value] if isinstance(value, list) else str(value)

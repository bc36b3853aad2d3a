"""Looking for the best model that keeps a budget."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import equiprune as ep
from equiprune.commands.opening import check_compared, check_suffix, open_model
from equiprune.commands.options.budget import NO_BUDGET, USUAL_EFFORT, BudgetOptions, EffortOptions, timed_atoms
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.recipe import PresetName
from equiprune.commands.options.targets import NO_SHAPE, ShapeOptions
from equiprune.commands.options.values import Device, Dtype, Model, NotNegative, Output, Patterns, Positive
from equiprune.commands.request import Request, remarks
from equiprune.commands.resuming import resumable
from equiprune.commands.stages import Kind, Mark, Product, Takes, newest_data, scores_of_this_model
from equiprune.errors import OutputError, TargetError
from equiprune.evaluation.engines import engine_named
from equiprune.files.atomic import check_writable, make_folder, read_json, replacing, write_json
from equiprune.progress import Display, Task, unseen
from equiprune.searching.budget import Budget
from equiprune.searching.figure import plot_front
from equiprune.searching.found import Found
from equiprune.searching.journal import Journal, journal_of
from equiprune.searching.search import Constraints, SearchData, SearchSettings
from equiprune.structures.reading import check_apart, fingerprint, open_structures
from equiprune.structures.sampling import structure_ids
from equiprune.training.recipe import PRESETS, Recipe


def partial_folder(output: Path) -> Path:
    """The folder that a search goes on from, beside its outcome."""
    return output.with_name(output.name + ".partial")


def go_on_from(journal: Journal, output: Path) -> None:
    """Let the search for this output go on from a journal."""
    partial = partial_folder(output)
    make_folder(partial, "the folder of a search")
    journal.save(journal_of(partial))


def end_again(output: Path) -> None:
    """Let a search whose outcome is there end in the same choice, measuring and training nothing."""
    if output.exists() and not journal_of(partial_folder(output)).exists():
        go_on_from(Journal.from_json(read_json(output, "outcome of a search")), output)


@dataclass(frozen=True)
class Searched:
    """Outcome of a search, and the files that hold it: the plan first."""

    found: Found
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        return {"written": list(map(str, self.files)), **self.found.to_json()}


@dataclass(frozen=True)
class Search(Request[Searched]):
    """Look for the best model that keeps a budget; 'prune --plan' makes it. Interrupted, the same command goes on.

    Attributes:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        data: structures with labels of forces, usually the model's own ('equiprune label'). A fifth is held out.
        output: the plan, and everything that was tried (.json).
        scores: importance scores from 'equiprune calibrate'; made on the data unless given.
        preset: objective and optimisation of brief training.
        batch_size: structures per step of it.
        learning_rate: of it; the preset's unless given.
        structure_key: the info entry that says which structure a copy is of, so that copies are held out together.
        timed_atoms: models are timed on at least so many, copies of the largest structure; 64 on a CPU, 2048 on a GPU
            unless given.
        seed: of what is held out and drawn.
        dtype: precision that models are timed and trained in.
        plot: also draw errors of forces against speed (.png or .svg).
        beside: other models to measure as they are and to show in the picture, e.g. 7net-0.
    """

    stage: ClassVar[Kind] = Kind("search.json", Product.PLAN, keeps="{output}.partial", ended=end_again)
    measures: ClassVar[bool] = True

    model: Model
    _: KW_ONLY
    data: Annotated[Path, Takes.of(Product.DATA, rule=newest_data)]
    output: Output
    budget: BudgetOptions = NO_BUDGET
    target: ShapeOptions = NO_SHAPE
    effort: EffortOptions = USUAL_EFFORT
    scores: Annotated[Path | None, Takes.of(Product.SCORES, rule=scores_of_this_model)] = None
    preset: PresetName = "sevennet"
    batch_size: Positive = 4
    learning_rate: float | None = None
    structure_key: str | None = None
    timed_atoms: Positive | None = None
    seed: NotNegative = 0
    dtype: Dtype = "float32"
    plot: Annotated[Path | None, Mark.WRITTEN] = None
    beside: Patterns | None = None
    device: Device = "cpu"
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_compared([self.model, *(self.beside or [])], self.device)
        check_suffix(self.output, "A search", ".json")
        if self.plot is not None:
            check_suffix(self.plot, "A plot", ".png", ".svg")
        self._budget  # noqa: B018 (raises what is wrong with it)
        self.budget.check_memory(self.device)
        self._recipe  # noqa: B018

    @property
    def _budget(self) -> Budget:
        return self.budget.budget()

    @property
    def _recipe(self) -> Recipe:
        chosen = PRESETS[self.preset]
        rate = chosen.optimisation.learning_rate if self.learning_rate is None else self.learning_rate
        optimisation = replace(chosen.optimisation, learning_rate=rate)
        return Recipe(chosen.objective, optimisation, batch_size=self.batch_size, seed=self.seed)

    def run(self, display: Display = unseen) -> Searched:
        """Search and write the plan; what an interrupted attempt has found is kept.

        Raises:
            TargetError: no model keeps the budget.
            EquipruneError: files, structures, labels or models that cannot be used.
        """
        files = tuple(path for path in (self.output, self.plot) if path)
        for path in files:
            check_writable(path)
            check_apart(path, [self.data])
        if len(set(files)) < len(files):
            raise OutputError(f"'{self.plot}' cannot be both the plan and the plot. Choose another name for one.")
        parent = open_model(
            self.model,
            self.dtype,
            self.opening,
            any_head=True,
            preferred=self.target.only_head(self.opening.head),
            device=self.device,
        )
        folder = partial_folder(self.output)
        with resumable(folder), display(Task("search", self.effort.effort().total(self._budget), 1)) as [step]:
            found = self._found(parent, folder, ep.Watchers(note=remarks.info, progress=step))
            self._write(found)
        shutil.rmtree(folder, ignore_errors=True)
        return Searched(found, files)

    def _write(self, found: Found) -> None:
        """Write the plan and the picture, or neither: with one of them there the same command would be refused."""
        with ExitStack() as pictures:
            if self.plot is not None:
                plot_front(found, pictures.enter_context(replacing(self.plot)))
            write_json(self.output, found.to_json(), new=True)

    def _found(self, parent: ep.Potential, folder: Path, watchers: ep.Watchers) -> Found:
        structures, key = open_structures(self.data), self.structure_key
        ids = None if key is None else structure_ids(structures, key)
        data = SearchData(list(structures), ids, fingerprint(self.data))
        timed = timed_atoms(self.timed_atoms, self.device)
        engine = engine_named(self.budget.engine)
        settings = SearchSettings(self._constraints, self.effort.effort(), self._recipe, timed, self.seed, engine)
        scores, budget = self._read_scores(parent), self._budget
        beside = {
            name: open_model(name, self.dtype, self.opening.headless, any_head=True, device=self.device)
            for name in self.beside or []
        }
        return ep.search(
            parent, data, budget, folder, scores=scores, settings=settings, beside=beside, watchers=watchers
        )

    @property
    def _constraints(self) -> Constraints:
        asked = self.target
        return Constraints(tuple(asked.shape()), self.budget.keep_lmax, asked.round_to, asked.heterogeneous)

    def _read_scores(self, parent: ep.Potential) -> ep.ImportanceScores | None:
        if self.scores is None:
            return None
        scores = ep.ImportanceScores.from_json(read_json(self.scores, "scores file"))
        scores.check(parent.spaces)
        if scores.provenance.get("model_sha256") != parent.checkpoint.sha256:
            raise TargetError(f"`scores` '{self.scores}' are of another model. Calibrate this one, or leave them out.")
        return scores

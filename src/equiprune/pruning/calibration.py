"""Scoring every block on structures, in the backward pass that gives the forces anyway."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from ase import Atoms

from equiprune.adapters.precision import dtype_name
from equiprune.blocks import FeatureSpace, Site
from equiprune.errors import PlanError, StructureError, TargetError
from equiprune.files.atomic import read_json, write_json
from equiprune.files.settings import current, to_json
from equiprune.files.shared_work import Shared
from equiprune.potentials.derivatives import Derivatives
from equiprune.potentials.potential import Potential
from equiprune.progress import Progress, silent
from equiprune.pruning.criteria import Criterion, DataCriterion, Taylor
from equiprune.pruning.importance import ImportanceScores, RunningScores, current_provenance, data_free_scores
from equiprune.structures.batching import batch_ranges, located_batches
from equiprune.structures.reading import fingerprint, read_structures
from equiprune.structures.sequences import Origin, origin, sizes


@dataclass(frozen=True)
class Resume:
    """File of the sums of an interrupted calibration.

    Attributes:
        path: of the file.
        every: structures after which it is written.
        leave: at the end too, for whoever has yet to write the scores; else it is removed then.
    """

    path: Path
    every: int = 64
    leave: bool = False


def calibrate(
    potential: Potential,
    structures: Iterable[Atoms] | str | Path,
    criterion: Criterion | None = None,
    *,
    limit: int | None = None,
    batch_atoms: int = 128,
    resume: Resume | None = None,
    progress: Progress = silent,
) -> ImportanceScores:
    """Mean importance of every block over structures.

    One evaluation and one backward pass per batch give energies, forces, stress and all scores; memory does not grow
    with the number of structures. Sums are accumulated in float64. Where forces are an output of their own, energies
    and forces are scored both, from a backward pass each: `RunningScores.of_batch` says how.

    Args:
        potential: the model to score.
        structures: atoms without labels are enough; a path is streamed (see `read_structures`).
        criterion: `Taylor` unless given.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
        resume: keep partial sums here, continue from them, and remove them at the end unless they are to be left.
        progress: called with the number of structures finished.

    Raises:
        StructureError: unreadable or unknown structures.
        PlanError: the partial sums belong to another model or other data.
        TargetError: a criterion of forces alone, where they are the gradient of the energy.
    """
    criterion = criterion or Taylor()
    if not isinstance(criterion, DataCriterion):
        return data_free_scores(potential, criterion)
    _check_outputs(potential, criterion)
    provenance = calibration_provenance(potential, structures, criterion) | {"limit": limit}
    running = _partial(resume, provenance, potential.spaces)
    if running.structures:
        progress(running.structures)
    stream = read_structures(structures) if isinstance(structures, str | Path) else structures
    located = _located(stream, running.structures, limit, batch_atoms)
    scored = (score_batch(potential, batch, criterion, places) for places, batch in located)
    every = resume.every if resume else math.inf
    running = _accumulate(running, scored, partial(_keep, resume, provenance), every, progress)
    if not running.structures:
        raise StructureError("There are no structures to calibrate on. Give at least one.")
    if resume and not resume.leave:
        resume.path.unlink(missing_ok=True)
    return running.scores(provenance)


def calibrate_shared(
    potential: Potential,
    structures: Sequence[Atoms],
    shared: Shared,
    criterion: DataCriterion,
    *,
    batch_atoms: int = 128,
    progress: Progress = silent,
) -> ImportanceScores:
    """The same as `calibrate`, bit for bit, by several processes that call this with the same folder.

    The settings of what is shared become the provenance of the scores (see `calibration_provenance`). The folder is
    left: remove it once the scores are written.

    Raises:
        StructureError, TargetError: as for `calibrate`.
        OutputError: the folder is of other work, or cannot be written.
        UnfinishedError: another process gives the result.
    """
    _check_outputs(potential, criterion)
    batches = batch_ranges(sizes(structures).tolist(), batch_atoms)

    def scored(number: int) -> dict[str, Any]:
        batch = [structures[i] for i in batches[number]]
        places = [origin(structures, i) for i in batches[number]]
        return score_batch(potential, batch, criterion, places).to_json()

    found = shared.work(batches).finish(scored, shared.share, progress)
    running = sum(map(RunningScores.from_json, found), RunningScores.nothing())
    return running.scores(shared.settings)


def _keep(resume: Resume | None, provenance: Mapping[str, Any], sums: RunningScores) -> None:
    if resume and sums.structures:
        _save(resume, provenance, sums)


def _located(
    stream: Iterable[Atoms], first: int, limit: int | None, batch_atoms: int
) -> Iterator[tuple[Sequence[Origin], list[Atoms]]]:
    """Batches of the structures from the ``first`` on, each structure with its origin."""
    origins = (origin(stream, i) for i in count(first))
    return located_batches(islice(stream, first, limit), batch_atoms, origins)


def _check_outputs(potential: Potential, criterion: DataCriterion) -> None:
    if not potential.direct_forces and "energy" not in criterion.outputs:
        raise TargetError(
            f"Forces of {potential.adapter.name} models are the gradient of the energy, so {criterion.name} says "
            "nothing of its own. Use taylor."
        )


def _accumulate(
    running: RunningScores,
    scored: Iterable[RunningScores],
    keep: Callable[[RunningScores], None],
    every: float,
    progress: Progress,
) -> RunningScores:
    """Add up scored batches; ``keep`` the sums every so many structures, and when interrupted."""
    kept = running.structures
    try:
        for batch in scored:
            running = running + batch
            progress(batch.structures)
            if running.structures - kept >= every:
                keep(running)
                kept = running.structures
    except KeyboardInterrupt:
        keep(running)
        raise
    return running


def score_batch(
    potential: Potential, batch: list[Atoms], criterion: DataCriterion, origins: Sequence[Origin] | None = None
) -> RunningScores:
    """Scores of one batch, from one backward pass. ``origins`` say in errors where its structures are from."""
    places = [Origin(i) for i in range(len(batch))] if origins is None else origins
    spaces = {space.name: space for space in potential.spaces if space.scored}
    graph = potential.graph(batch, places)
    result = potential.differentiate(graph, tuple(spaces))
    _check_finite(batch, places, result)
    sites = {Site.ATOM: graph.structure_of_atom, Site.EDGE: graph.structure_of_edge}
    return RunningScores.of_batch(
        criterion,
        result.features,
        {name: space.irreps for name, space in spaces.items()},
        {name: sites[space.site] for name, space in spaces.items()},
        graph.n_structures,
    )


def _check_finite(batch: list[Atoms], places: Sequence[Origin], result: Derivatives) -> None:
    forces = result.forces.split([len(atoms) for atoms in batch])
    for atoms, place, energy, force in zip(batch, places, result.energies, forces, strict=True):
        if not (energy.isfinite() and force.isfinite().all()):
            raise StructureError(
                f"{place.of(atoms)}: the model's energy or forces are not finite numbers, so there is nothing to "
                "score. Look at that structure, and at the model with 'equiprune certify'."
            )


def calibration_provenance(potential: Potential, structures: Any, criterion: DataCriterion) -> dict[str, Any]:
    """Everything that scores depend on, as JSON: criterion, model, precision and data."""
    return {
        "criterion": to_json(criterion),
        "model": potential.checkpoint.source,
        "model_sha256": potential.checkpoint.sha256,
        "head": potential.head,
        "dtype": dtype_name(potential.dtype),
        "data": str(structures) if isinstance(structures, str | Path) else "in memory",
        "data_sha256": fingerprint(structures) if isinstance(structures, str | Path) else "",
    }


def _partial(resume: Resume | None, provenance: dict[str, Any], spaces: Iterable[FeatureSpace]) -> RunningScores:
    if resume is None or not resume.path.exists():
        return RunningScores.nothing()
    stored = read_json(resume.path, "partial calibration")
    if not _is_of(stored, provenance):
        raise PlanError(
            f"'{resume.path}' is an interrupted calibration of another model, data or setting. "
            "Remove it to start anew, or repeat the command it belongs to."
        )
    try:
        found = RunningScores.from_json(stored["sums"])
        _check_fit(found, spaces)
        return found
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, PlanError) as error:
        raise PlanError(f"'{resume.path}', an interrupted calibration, is damaged. Remove it to start anew.") from error


def _check_fit(sums: RunningScores, spaces: Iterable[FeatureSpace]) -> None:
    """Raise `ValueError` for sums that are not one number for every block of every space that is scored.

    Nor are those of fewer structures than one, or of more than can be counted.
    """
    if not 0 < sums.structures <= sys.maxsize:
        raise ValueError(f"sums of {sums.structures} structures")
    for by_space in (sums.total, sums.squares):
        there = {name: {ir: len(values) for ir, values in by.items()} for name, by in by_space.items()}
        expected = {s.name: {ir: mul for mul, ir, _ in s.irreps.slices()} for s in spaces if s.scored}
        if there != expected:
            raise ValueError(f"sums of {there} instead of {expected}")


def _is_of(stored: Any, provenance: dict[str, Any]) -> bool:
    """True for partial sums of this provenance, whichever version wrote them."""
    try:
        return bool(current(current_provenance(stored["provenance"])) == provenance)
    except (KeyError, TypeError, ValueError):
        return False


def _save(resume: Resume, provenance: Mapping[str, Any], running: RunningScores) -> None:
    write_json(resume.path, {"provenance": provenance, "sums": running.to_json()})

"""Discovery of stable materials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms

import equiprune as ep
from equiprune.commands.opening import Identities, check_compared, identities, open_models
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.sharing import BY_ITSELF, Launched, SharingOptions, device_of
from equiprune.commands.options.values import Bare, Device, Dtype, Models, NotNegative, Output, Positive, Switch
from equiprune.commands.resuming import resumable
from equiprune.commands.sharing import SharedRequest, check_unfinished
from equiprune.commands.stages import RESULT, Kind, Product
from equiprune.errors import TargetError
from equiprune.evaluation.discovery import (
    LEADERBOARD,
    DiscoveryResult,
    Material,
    ModelRelaxations,
    RelaxationFolder,
    RelaxationWork,
    check_entries,
    compared_with_entries,
    compared_with_starts,
    described,
    finished,
    known_to,
    open_starts,
    predictions,
    read_entries,
    read_summary,
    sampled,
)
from equiprune.evaluation.discovery.against_dft import Difference, check_pymatgen
from equiprune.evaluation.discovery.submission import metadata_text, model_key, write_predictions
from equiprune.files.atomic import check_writable, make_folder, write_json, write_text
from equiprune.files.shared_work import Share
from equiprune.progress import Display, Task, unseen
from equiprune.structures.reading import fingerprint, open_structures

_EVERY = 10
"""Relaxations from one line of progress to the next."""


@dataclass(frozen=True)
class Discovered:
    """Predictions of models.

    Attributes:
        result: predictions and metrics.
        identities: digest and head of every model, by name.
        files: that all this is in.
    """

    result: DiscoveryResult
    identities: Identities
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        return {**self.result.to_json(), "identities": self.identities, "written": list(map(str, self.files))}


@dataclass(frozen=True)
class Discovery(SharedRequest[Discovered]):
    """Do models find the stable materials? Matbench Discovery's task. Interrupted, the same command goes on.

    Attributes:
        models: aliases, upstream checkpoints, or directories that equiprune wrote.
        initial: structures to relax: a zip file with an extxyz file for each material, or structures with names.
        output: folder of relaxations, predictions and metrics.
        summary: DFT's energies of the materials (.csv.gz); without it, the structures have them in their info.
        entries: DFT's computed structure entries (.jsonl.gz), to correct for another kind of anion, and to say how far
            relaxed structures are from DFT's.
        rmsd: say how far relaxed structures are from DFT's without entries, which the initial structures then are.
        leaderboard: also write each model's metadata with its metrics, as the leaderboard has it.
        sample: take this many of the materials, drawn by --seed.
        seed: of the sample.
        fmax: eV/Angstrom, at which a structure is at rest.
        steps: of a relaxation, at most.
        dtype: precision of the models.
    """

    stage: ClassVar[Kind] = Kind("discovery", Product.NUMBERS, RESULT, keeps="{output}")

    models: Models
    _: KW_ONLY
    initial: Bare
    output: Output
    summary: Path | None = None
    entries: Path | None = None
    rmsd: Switch = False
    leaderboard: Switch = False
    sample: Positive | None = None
    seed: NotNegative = 0
    fmax: float = 0.05
    steps: Positive = 500
    dtype: Dtype = "float32"
    device: Device = "cpu"
    sharing: SharingOptions = BY_ITSELF
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_compared(self.models, self.device)
        if self.entries is not None and self.summary is None:
            raise TargetError("`entries` are those of the materials of a `summary`; give that too, or leave both out.")
        if self.rmsd and self.summary is not None:
            raise TargetError(
                "`rmsd` compares with the initial structures, which a `summary` is not of. Give `entries` instead."
            )
        if len({model_key(model) for model in self.models}) < len(self.models):
            raise TargetError(f"Models {', '.join(self.models)} would write the same files. Give them other names.")
        self._rules()  # refuses what cannot be

    def _rules(self) -> ep.RelaxationRules:
        return replace(LEADERBOARD, fmax=self.fmax, steps=self.steps)

    @property
    def _files(self) -> dict[str, Path]:
        """All that is written besides relaxations, by name."""
        keys = list(map(model_key, self.models))
        files = {f"{key}.csv.gz": self.output / f"{key}.csv.gz" for key in keys}
        if self.leaderboard:
            files |= {f"{key}.yml": self.output / f"{key}.yml" for key in keys}
        return {**files, "result.json": self.output / "result.json"}

    def take_part(self, place: Launched, display: Display = unseen) -> Discovered:
        """Relax, compare, write; what an interrupted attempt has finished is kept.

        Raises:
            EquipruneError: interrupted, or a file, a structure or a model that cannot be used.
            UnfinishedError: another process gives the result.
        """
        check_unfinished(place, self._files["result.json"])
        if self.entries is not None or self.rmsd:
            check_pymatgen()
        if self.entries is not None:
            check_entries(self.entries)
        available, starts = self._data()
        materials = sampled(available, self.sample, self.seed)
        potentials = open_models(self.models, self.dtype, self.opening, device_of(self.device, place.local))
        known = {name: known_to(potential, materials) for name, potential in potentials.items()}
        make_folder(self.output, "a folder of results")
        self._check_room()
        with resumable(self.output / "relaxations"):
            works = self._works(potentials, known, starts, place.share)
            for name, work in works.items():
                with display(Task(f"relax with {name}", len(known[name]), _EVERY)) as [step]:
                    work.do(step)
            relaxed = [ModelRelaxations(name, found) for name, found in finished(works).items()]
        different = self._compared(relaxed, starts, display)
        made = [predictions(each, known[each.model], different.get(each.model, {})) for each in relaxed]
        result = DiscoveryResult(tuple(materials), tuple(made), len(available))
        return Discovered(result, identities(potentials), self._written(result, potentials))

    def _check_room(self) -> None:
        """Raise `OutputError` for files that are in the way; those of an attempt that did not end are replaced."""
        begun = (self.output / "relaxations").exists()
        for path in [self._files["result.json"]] if begun else self._files.values():
            check_writable(path)

    def _data(self) -> tuple[list[Material], Mapping[str, Atoms]]:
        """Materials and the structures to start from."""
        if self.summary is not None:
            return read_summary(self.summary), open_starts(self.initial)
        structures = list(open_structures(self.initial))
        materials = list(described(structures))
        return materials, dict(zip((each.name for each in materials), structures, strict=True))

    def _works(
        self,
        potentials: Mapping[str, ep.Potential],
        known: Mapping[str, Sequence[Material]],
        starts: Mapping[str, Atoms],
        share: Share,
    ) -> dict[str, RelaxationWork]:
        """The relaxations of each model."""
        sha256, works = fingerprint(self.initial), {}
        for name, potential in potentials.items():
            folder = RelaxationFolder(self.output / "relaxations" / model_key(name), sha256, share)
            works[name] = RelaxationWork(potential, known[name], starts, self._rules(), folder)
        return works

    def _compared(
        self, relaxed: Sequence[ModelRelaxations], starts: Mapping[str, Atoms], display: Display
    ) -> Mapping[str, Mapping[str, Difference]]:
        """Differences from DFT's structures, by model and material."""
        if self.entries is not None:
            wanted = {name for model in relaxed for name in model.relaxed}
            with display(Task("compare", len(wanted))) as [step]:
                return compared_with_entries(read_entries(self.entries, wanted), relaxed, starts, step)
        if not self.rmsd:
            return {}
        with display(Task("compare", sum(len(model.relaxed) for model in relaxed))) as [step]:
            return compared_with_starts(relaxed, starts, step)

    def _written(self, result: DiscoveryResult, potentials: Mapping[str, ep.Potential]) -> tuple[Path, ...]:
        for model in result.models:
            key = model_key(model.model)
            write_predictions(self._files[f"{key}.csv.gz"], result, model)
            if self.leaderboard:
                text = metadata_text(result, model, potentials[model.model], self._rules())
                write_text(self._files[f"{key}.yml"], text)
        write_json(self._files["result.json"], {**result.to_json(), "identities": identities(potentials)})
        return tuple(self._files.values())

"""Accuracy of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, ClassVar

import equiprune as ep
from equiprune.commands.opening import Identities, check_compared, identities, open_models
from equiprune.commands.options.labels import NO_KEYS, LabelOptions
from equiprune.commands.options.opening import AS_IT_IS, OpeningOptions
from equiprune.commands.options.sharing import BY_ITSELF, Launched, SharingOptions, device_of
from equiprune.commands.options.values import Data, Device, Dtype, Models, Positive
from equiprune.commands.request import remarks
from equiprune.commands.resuming import resumable
from equiprune.commands.sharing import SharedRequest
from equiprune.commands.stages import RESULT, Kind, Mark, Product
from equiprune.errors import TargetError
from equiprune.evaluation.accuracy import UnlabelledError, evaluate_shared
from equiprune.files.shared_work import Share, Shared
from equiprune.progress import Display, Task, unseen
from equiprune.structures.label_checks import LOOKED_AT, label_doubts, likely_keys_said
from equiprune.structures.reading import fingerprint


@dataclass(frozen=True)
class Evaluated:
    """Errors of every model against the same labels.

    Attributes:
        data: the labelled structures.
        accuracies: of every model.
        identities: digest and head of every model, by name.
    """

    data: Path
    accuracies: tuple[ep.Accuracy, ...]
    identities: Identities

    def to_json(self) -> list[dict[str, Any]]:
        return [{**accuracy.to_json(), **self.identities[accuracy.model]} for accuracy in self.accuracies]


@dataclass(frozen=True)
class Evaluate(SharedRequest[Evaluated]):
    """Errors of one or more models against labelled structures, side by side.

    Attributes:
        models: aliases, upstream checkpoints, or directories that equiprune wrote.
        data: structures with energy, forces or stress labels.
        dtype: precision of the models.
        limit: use only the first this many structures.
        batch_atoms: atoms evaluated at once.
        parity: also give labels and predictions of so many structures, for the parity plots of a report.
        work: folder that keeps what is finished until all is: interrupted, the same command goes on. Processes of a
            launcher need it.
    """

    stage: ClassVar[Kind] = Kind(gives=Product.NUMBERS, product=RESULT)

    models: Models
    _: KW_ONLY
    data: Data
    dtype: Dtype = "float32"
    device: Device = "cpu"
    limit: Positive | None = None
    batch_atoms: Positive = 256
    parity: Positive | None = None
    work: Annotated[Path | None, Mark.UNRECORDED] = None
    sharing: SharingOptions = BY_ITSELF
    labels: LabelOptions = NO_KEYS
    opening: OpeningOptions = AS_IT_IS

    def check(self) -> None:
        check_compared(self.models, self.device)

    def run(self, display: Display = unseen) -> Evaluated | None:
        """Evaluate all models on one pass over the structures."""
        if self.work is not None or self.sharing.processes == 1:
            return super().run(display)
        with TemporaryDirectory() as folder:
            return replace(self, work=Path(folder) / "work").run(display)

    def take_part(self, place: Launched, display: Display = unseen) -> Evaluated:
        if self.work is None and place.share.count > 1:
            raise TargetError("Processes of a launcher need `work`, a folder that all of them see.")
        device = device_of(self.device, place.local)
        potentials = open_models(self.models, self.dtype, self.opening, device)
        evaluate = self._alone if self.work is None else partial(self._together, self.work, place.share)
        first = [self.labels.keys.on(atoms) for atoms in islice(ep.read_structures(self.data), self._few)]
        try:
            accuracies = tuple(evaluate(potentials, display))
        except UnlabelledError as error:
            raise UnlabelledError(f"{error}{likely_keys_said(first)}") from error
        remarks.info(str(accuracies[0].labels))
        for doubt in label_doubts(first):
            remarks.info(doubt)
        return Evaluated(self.data, accuracies, identities(potentials))

    @property
    def _few(self) -> int:
        """Structures whose labels are looked at first."""
        return LOOKED_AT if self.limit is None else min(LOOKED_AT, self.limit)

    def _alone(self, potentials: Mapping[str, ep.Potential], display: Display) -> list[ep.Accuracy]:
        keys = self.labels.keys
        keys.check(islice(ep.read_structures(self.data), self.limit))
        structures = map(keys.on, islice(ep.read_structures(self.data), self.limit))
        with display(Task("evaluate", self.limit)) as [step]:
            return ep.evaluate(potentials, structures, **self._how, progress=step)

    def _together(
        self, folder: Path, share: Share, potentials: Mapping[str, ep.Potential], display: Display
    ) -> list[ep.Accuracy]:
        """The same with other processes, or from where it was interrupted."""
        structures = self.labels.keys.on_all(ep.open_structures(self.data)[: self.limit])
        shared = Shared(folder, self._settings(potentials), share)
        with resumable(folder), display(Task("evaluate", len(structures))) as [step]:
            return evaluate_shared(potentials, structures, shared, **self._how, progress=step)

    @property
    def _how(self) -> dict[str, int]:
        return {"batch_atoms": self.batch_atoms, "parity": self.parity or 0}

    def _settings(self, potentials: Mapping[str, ep.Potential]) -> dict[str, Any]:
        """Everything that the errors depend on."""
        models = {name: [potential.checkpoint.sha256, potential.head] for name, potential in potentials.items()}
        how = {"dtype": self.dtype, "limit": self.limit, **self._how}
        return {"models": models, "data_sha256": fingerprint(self.data), "labels": asdict(self.labels), **how}

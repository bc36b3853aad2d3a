"""A job of labelling that several processes share: each labels groups of starts, and one puts them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ase import Atoms

from equiprune.files.atomic import replacing
from equiprune.files.shared_work import Shared, SharedWork
from equiprune.labelling.job import LabellingJob, LabellingModels, labelled_group
from equiprune.labelling.tally import Tally
from equiprune.labelling.walks import Place
from equiprune.progress import Progress, silent
from equiprune.structures.sequences import sizes


def label_together(
    models: LabellingModels,
    structures: Sequence[Atoms],
    asked: LabellingJob,
    shared: Shared,
    output: Path,
    step: Progress,
    objection: Callable[[int, Tally], Exception | None],
) -> tuple[int, Tally]:
    """Label and write what one process alone would write, byte for byte; how many structures, and their tally.

    ``objection`` says why such a result is not worth a file; then nothing is left behind.

    Raises:
        Exception: the objection.
        StructureError: unknown elements, a calculator that fails, labels that are not finite.
        OutputError: the folder is of other work, or something cannot be written.
        UnfinishedError: another process gives the result.
    """
    from ase.io import write  # slow to import, and only needed here

    groups = asked.groups(sizes(structures).tolist())

    def labelled(number: int) -> dict[str, Any]:
        group, text, count = groups[number], StringIO(), 0
        starts, tally = asked.starts_of(group, structures, models), Tally(Place(group.start))
        for batch, after in labelled_group(models, starts, group.start, asked, tally, silent):
            count, tally = count + len(batch), after
            if batch:
                write(text, batch, format="extxyz")
        return {"structures": count, "tally": tally.to_json(), "text": text.getvalue()}

    work = shared.work(groups)
    total, tally = 0, Tally()
    for result in work.finish(labelled, shared.share, step):
        total += result["structures"]
        tally = tally + Tally.from_json(result["tally"])
    if (refused := objection(total, tally)) is None:
        _write(work, output)
    work.discard()
    if refused:
        raise refused
    return total, tally


def _write(work: SharedWork, output: Path) -> None:
    with replacing(output, new=True) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(result["text"] for result in work.results())

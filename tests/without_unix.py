"""A small job in a Python that has none of what Windows lacks: ``python without_unix.py FOLDER``."""

import importlib.abc
import signal
import sys
from pathlib import Path
from typing import Any

LACKING = {"fcntl", "grp", "pwd", "resource", "termios"}


class Absent(importlib.abc.MetaPathFinder):
    """Modules of Unix are not there."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name in LACKING:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def take_away() -> None:
    """Before anything else is imported."""
    for name in LACKING:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Absent())
    for name in ("SIGHUP", "SIGKILL", "SIGALRM", "pthread_sigmask", "pthread_kill"):
        delattr(signal, name)


def main(folder: Path) -> None:
    """Prune, save, open, measure, train, be stopped and go on; only one process at a time trains in a folder."""
    import torch

    import equiprune as ep
    from equiprune.cli import main as command_line
    from equiprune.cli.process import launch
    from equiprune.errors import OutputError
    from equiprune.files.atomic import holding
    from equiprune.labelling.label import label
    from equiprune.training.arguments import Resources, Watchers
    from equiprune.training.objective import mace_universal
    from equiprune.training.recipe import Recipe
    from equiprune.training.signals import StoppedError
    from equiprune.training.trainer import train

    torch.set_num_threads(1)
    toy = ep.load("toy")
    structures = list(label(toy, ep.probe_structures([1, 6, 8, 14]).values()))
    child = ep.prune(toy, ep.allocate(toy, [ep.Channels(4)], ep.calibrate(toy, structures)))
    ep.save(child, folder / "child")
    child = ep.load(folder / "child")
    [timing] = ep.benchmark({"child": child}, structures[0], repeats=1, warmup=1)
    print("memory", timing.peak_memory_bytes, timing.peak_mebibytes)
    recipe, run = Recipe(mace_universal(), epochs=2, batch_size=2, save_every=1), folder / "run"
    try:
        watchers = Watchers(progress=lambda _: signal.raise_signal(signal.SIGINT))
        train(child, structures, recipe, run, resources=Resources(workers=1), watchers=watchers)
    except StoppedError as error:
        print("stopped", error)
    with holding(run, "Somebody trains.") as handle:
        print("handle", handle)
        try:
            train(child, structures, recipe, run)
        except OutputError as error:
            print("held", error)
    trained = train(child, structures, recipe, run)
    print("trained", trained.checkpoint.history[-1]["steps"])
    print("stage", launch(["info", str(run / "model"), "--json"], None).code)
    print("command", command_line(["info", str(run / "model"), "--json"]))


if __name__ == "__main__":
    take_away()
    main(Path(sys.argv[1]))

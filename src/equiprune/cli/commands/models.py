"""Looking at models and moving them between formats."""

from __future__ import annotations

from pathlib import Path

import equiprune as ep
from equiprune.adapters.base import check_head
from equiprune.cli.display import plain, show, show_json, show_table
from equiprune.cli.flags.panels import COMMON, Common
from equiprune.cli.flags.values import Output
from equiprune.cli.opening import open_model, read_model
from equiprune.cli.summary import describe_model, written
from equiprune.files.atomic import check_writable


def info(model: str, /, *, common: Common = COMMON) -> int:
    """Show what a model is: architecture, spaces, parameters, elements, licence, dead blocks.

    Args:
        model: an alias such as 7net-l3i5, an upstream checkpoint, or a directory that equiprune wrote.
    """
    adapter, checkpoint = read_model(model, common)
    if common.head is not None:
        check_head(checkpoint.architecture, common.head)
    value = describe_model(adapter, checkpoint)
    if common.json:
        show_json(value)
        return 0
    columns = ("name", "irreps", "role", "tying")
    spaces = [[space[column] for column in columns] for space in value.pop("spaces")]
    show_table("", [["", model], *([_label(key), plain(item)] for key, item in value.items())])
    show_table("Feature spaces: what a plan can prune", [columns, *spaces])
    return 0


def export(model: str, /, *, output: Output, common: Common = COMMON) -> int:
    """Write a model in another format, chosen by the suffix, and compare it with the stock tool before saying done.

    Args:
        model: an alias, an upstream checkpoint, or a directory that equiprune wrote.
        output: .pth for SevenNet, .model for MACE, no suffix for equiprune's own directory.
    """
    check_writable(output)
    paths = ep.save(open_model(model, None, common, any_head=True), output)
    show_json({"written": list(map(str, paths))}) if common.json else show(written(paths))
    return 0


def demo(output: Path = Path("demo_output"), /) -> int:
    """The main job on a real model that comes with pip install: calibrate, prune, certify, evaluate, time, save.

    Args:
        output: folder for what the demo writes; must not exist yet.
    """
    from equiprune.cli.demo import run_demo

    run_demo(output)
    return 0


def _label(key: str) -> str:
    units = {"cutoff": "cutoff (Angstrom)", "dead": "dead blocks", "assembled": "assembled, because"}
    return units.get(key, key.replace("_", " "))

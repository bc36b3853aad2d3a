"""Pages of the API reference: every public name of `equiprune`, in the folder that defines it.

Nothing is listed here by hand but what the folders are called, so that a new name is in the reference once it is in
`equiprune.api`.
"""

from __future__ import annotations

import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).parents[2] / "src"
FOLDERS = {
    "potentials": ("Models", "open, evaluate, save"),
    "structures": ("Structures", "read, sample, describe atoms"),
    "pruning": ("Pruning", "score, choose, cut, grow, repair"),
    "searching": ("Search", "from a budget to a plan"),
    "labelling": ("Labels", "from a teacher"),
    "training": ("Training", "retrain, fine-tune, distil"),
    "evaluation": ("Evaluation", "accuracy, speed, dynamics, properties, discovery"),
    "verification": ("Verification", "what is true of a file"),
    "report": ("Report", "one page about a run"),
    "blocks": ("Blocks", "irreps, feature spaces, plans: plain data"),
    "adapters": ("Architectures", "what an adapter gives"),
    "errors": ("Errors", "what a user can mend"),
    "commands": ("Commands", "each command of the command line as one value"),
}
"""Title of a folder's page, and what is there, in the order of the reference."""

_ERRORS = ("CheckpointError", "TargetError", "PlanError", "StructureError", "OutputError", "RecipeError")
"""Kinds of `EquipruneError`, which `equiprune.errors` has: docstrings name them."""


def public_objects() -> dict[str, list[griffe.Object]]:
    """Objects behind the public names, by the folder of `equiprune` that defines them."""
    package = griffe.load("equiprune", search_paths=[SOURCE], resolve_aliases=True, resolve_external=False)
    found: dict[str, list[griffe.Object]] = {folder: [] for folder in FOLDERS}
    for module in (package["api"], package["commands"]):
        for name in module.exports or ():
            member = module[str(name)]
            thing = member.final_target if member.is_alias else member
            found[thing.canonical_path.split(".")[1]].append(thing)
    found["errors"] += [package["errors"][name] for name in _ERRORS]
    return found


def first_sentence(thing: griffe.Object) -> str:
    """First sentence of a docstring."""
    text = thing.docstring.value if thing.docstring else ""
    return re.split(r"(?<=[.:])\s", re.sub(r"\s+", " ", text.split("\n\n")[0]))[0].rstrip(":")


def folder_page(folder: str, things: list[griffe.Object]) -> str:
    """Page of a folder: what is there, then every name with its documentation."""
    title, about = FOLDERS[folder]
    where = "equiprune.commands" if folder == "commands" else "equiprune.errors" if folder == "errors" else "equiprune"
    said = f"# {title}\n\n{about[0].upper()}{about[1:]}. Import from `{where}`.\n\n"
    return said + "\n\n".join(f"::: {thing.canonical_path}" for thing in things) + "\n"


def overview(found: dict[str, list[griffe.Object]]) -> str:
    """Page that lists every public name with one sentence."""
    lines = [
        "# API\n",
        "Every public name of `equiprune`. Units inside are eV, Angstrom, eV/Angstrom and eV/Angstrom^3 with ASE's sign"
        " of the stress. [A tour with code that runs](../python-api.md).\n",
    ]
    for folder, things in found.items():
        title, about = FOLDERS[folder]
        lines += [f"## [{title}]({folder}.md)\n", f"{about[0].upper()}{about[1:]}.\n", "| | |", "|---|---|"]
        lines += [f"| [`{t.name}`]({folder}.md#{t.canonical_path}) | {_cell(first_sentence(t))} |" for t in things]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference."""
    found = {folder: sorted(things, key=lambda thing: thing.name) for folder, things in public_objects().items()}
    pages = {folder: folder_page(folder, things) for folder, things in found.items()} | {"index": overview(found)}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files

"""The published SevenNet models: four come with sevenn, others are at the addresses in sevenn's own tables.

The licence is that of the repository that publishes them, github.com/MDIL-SNU/SevenNet. Neither it nor sevenn 0.13
says a digest of what is downloaded: that of the first file is recorded (`PublishedFile.sha256`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from equiprune.adapters.upstream_tables import package_folder, upstream_tables
from equiprune.errors import CheckpointError
from equiprune.files.download import PackagedFile, PublishedFile

LICENCE = "MIT"
"""Licence of the weights published with sevenn 0.13."""

_REPOSITORY = "https://github.com/MDIL-SNU/SevenNet/"
_FOLDER = "pretrained_potentials"
_DOWNLOADED = "~/.cache/sevennet"
"""Folder for downloads of sevenn, if it cannot write into its own (``pretrained_name_to_path``)."""

_SHIPPED: Mapping[str, tuple[str, str]] = {
    "7net-0": ("SevenNet-0 (11Jul2024)", "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth"),
    "7net-0_22may2024": ("SevenNet-0 (22May2024)", "SevenNet_0__22May2024/checkpoint_sevennet_0.pth"),
    "7net-l3i5": ("SevenNet-l3i5", "SevenNet_l3i5/checkpoint_l3i5.pth"),
    "7net-mf-0": ("SevenNet-MF-0, heads R2SCAN and PBE", "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth"),
}
"""Description and file of those that come with sevenn; known where it is not installed, too."""


def descriptions() -> Mapping[str, str]:
    """Every alias and what it stands for."""
    shipped = {alias: about for alias, (about, _) in _SHIPPED.items()}
    return {**shipped, **{alias: f"SevenNet-{alias.removeprefix('7net-')}" for alias in downloads()}}


def published() -> Mapping[str, PublishedFile | PackagedFile]:
    """The file of every alias."""
    return {**{alias: PackagedFile("sevenn", LICENCE) for alias in _SHIPPED}, **downloads()}


@cache
def downloads() -> Mapping[str, PublishedFile]:
    """Files that the installed sevenn downloads, by its own names; none where it is not installed.

    ``sevenn._const`` imports torch and half of sevenn, so its tables are read from its source. Its folder of models,
    which keys of the table of addresses begin with, is worked out there and is given here.
    """
    folder = package_folder("sevenn")
    if folder is None:
        return MappingProxyType({})
    prefix = str(folder / _FOLDER)
    constants = upstream_tables("sevenn", "_const.py", _prefix=prefix)
    addresses: Mapping[str, str] = constants.get("CHECKPOINT_DOWNLOAD_LINKS", {})
    names = upstream_tables("sevenn", "util.py", "get_available_pretrained_models").get("checkpoint_to_name", {})
    paths = {alias: constants[constant] for constant, alias in names.items() if constant in constants}
    return MappingProxyType(
        {
            alias: _download(addresses[path], path, path.replace(prefix, _DOWNLOADED))
            for alias, path in paths.items()
            if path in addresses
        }
    )


def shipped(alias: str) -> Path | None:
    """The file of an alias inside the installed sevenn, None for any other alias.

    Raises:
        CheckpointError: it is such an alias, and sevenn is not installed.
    """
    if alias not in _SHIPPED:
        return None
    folder = package_folder("sevenn")
    if folder is None:
        raise CheckpointError(
            f"'{alias}' comes with sevenn, which is not installed. pip install 'equiprune[sevennet]'."
        )
    return folder / _FOLDER / _SHIPPED[alias][1]


def _download(url: str, *elsewhere: str) -> PublishedFile:
    licence = LICENCE if url.startswith(_REPOSITORY) else f"unknown: see {url.rpartition('/')[0]}"
    return PublishedFile(url.rpartition("/")[2], url, licence, elsewhere=elsewhere)

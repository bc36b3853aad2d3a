"""The published Nequix models: where they are, under which licence, and the sha256 of those that were seen.

Addresses are those of ``NequixCalculator.URLS`` (nequix/calculator.py), which cannot be imported without jax; the
licence is that of the repository they are in.
"""

from __future__ import annotations

from collections.abc import Mapping

from equiprune.files.download import PublishedFile

_FIRST, _LATER = "7c2854de8e754b1a60274c7d9d2e014989ed632e", "9c852a9c4cce69ae5e75bc5a2cf670be21ff8c28"
"""Commits of atomicarchitects/nequix."""


def _file(name: str, commit: str, sha256: str = "") -> PublishedFile:
    url = f"https://github.com/atomicarchitects/nequix/raw/{commit}/models/{name}.nqx"
    return PublishedFile(f"{name}.nqx", url, "MIT", sha256, (f"~/.cache/nequix/models/{name}.nqx",))


PUBLISHED: Mapping[str, tuple[str, PublishedFile]] = {
    "nequix-mp-1": (
        "Nequix MP-1, of MPtrj",
        _file("nequix-mp-1", _FIRST, "1647af8e627e1afa11e2bfadeab0797326513a521afd7dd01606a96f56783eee"),
    ),
    "nequix-mp-1-pft": ("Nequix MP-1, then of phonons", _file("nequix-mp-1-pft", _FIRST)),
    "nequix-mp-1-pft-no-cotrain": (
        "Nequix MP-1, then of phonons alone",
        _file("nequix-mp-1-pft-no-cotrain", _FIRST),
    ),
    "nequix-omat-1": ("Nequix OMat-1, of OMat24", _file("nequix-omat-1", _LATER)),
    "nequix-oam-1": (
        "Nequix OAM-1, of OMat24, sAlex and MPtrj",
        _file("nequix-oam-1", _LATER, "6a43475eaeb32a7a049f36c1306d78aa1e7a17e8af37aeda7901c8fec0ca845c"),
    ),
    "nequix-oam-1-pft": ("Nequix OAM-1, then of phonons", _file("nequix-oam-1-pft", _LATER)),
}


def licence_of(sha256: str) -> str:
    """The licence of a published file, wherever it lies, and "unknown" for any other."""
    return next((file.licence for _, file in PUBLISHED.values() if file.sha256 == sha256), "unknown")

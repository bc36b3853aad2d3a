"""The official MACE checkpoints, where they are published, under which licence, and their sha256.

Digests: ACEsuit/mace tests/golden/foundation_artifacts.py (MP-0 small, MPA-0, OFF23 small), ComDec/3DCS and
bonan-group/symmetrix-xl manifests (the others); the licences are those of the mace-foundations and mace-off READMEs.
"""

from __future__ import annotations

from collections.abc import Mapping

from equiprune.files.download import PublishedFile

_MP = "https://github.com/ACEsuit/mace-mp/releases/download"
_OFF = "https://raw.githubusercontent.com/ACEsuit/mace-off/v0.2/mace_off23"
_MIT = "MIT"
_ASL = "ASL (academic, non-commercial; github.com/gabor1/ASL)"


def _file(url: str, licence: str, sha256: str) -> PublishedFile:
    name = url.rpartition("/")[2]
    bare = "".join(c for c in name if c.isalnum() or c == "_")  # mace's own cache has MACE-MP so, MACE-OFF by its name
    caches = ("$XDG_CACHE_HOME/mace", "~/.cache/mace")
    in_mace = tuple(f"{cache}/{cached}" for cache in caches for cached in (bare, name))
    return PublishedFile(name, url, licence, sha256, in_mace)


PUBLISHED: Mapping[str, tuple[str, PublishedFile]] = {
    "mace-mp-small": (
        "MACE-MP-0 small (L = 0, 128 channels)",
        _file(
            f"{_MP}/mace_mp_0/2023-12-10-mace-128-L0_energy_epoch-249.model",
            _MIT,
            "2ddb079cee0e131eaaf6912ba581b394551ead283e95c99cfe78c605d10b5736",
        ),
    ),
    "mace-mp-medium": (
        "MACE-MP-0 medium (L = 1, 128 channels)",
        _file(
            f"{_MP}/mace_mp_0/2023-12-03-mace-128-L1_epoch-199.model",
            _MIT,
            "01bfe22100139f424713cf921144e5509cbe353d67aa9fa1be9c6e1e0ed35845",
        ),
    ),
    "mace-mp-large": (
        "MACE-MP-0 large (L = 2, 128 channels)",
        _file(
            f"{_MP}/mace_mp_0/MACE_MPtrj_2022.9.model",
            _MIT,
            "f80e992b65ab8f88fdf26964511357c022e92704e4d9bcd086652635a8495b32",
        ),
    ),
    "mace-mpa-0": (
        "MACE-MPA-0 medium",
        _file(
            f"{_MP}/mace_mpa_0/mace-mpa-0-medium.model",
            _MIT,
            "75428afe3a1d7d8062e19bcaabd5c433623cabf308242ec9fb493e38604fb638",
        ),
    ),
    "mace-omat-0-small": (
        "MACE-OMAT-0 small",
        _file(
            f"{_MP}/mace_omat_0/mace-omat-0-small.model",
            _ASL,
            "0abfde07862cf1e93b8b4d03cb702f29ce9c344ff2fc4de2ec0d7166d6c113a5",
        ),
    ),
    "mace-omat-0": (
        "MACE-OMAT-0 medium",
        _file(
            f"{_MP}/mace_omat_0/mace-omat-0-medium.model",
            _ASL,
            "d4b14be9afa294eebdbe31a0280b26a0fa29715771e978cbfd3ca24e0d90307a",
        ),
    ),
    "mace-off-small": (
        "MACE-OFF23 small",
        _file(
            f"{_OFF}/MACE-OFF23_small.model",
            _ASL,
            "165cce4cfec5a34b9c64d4ebf95de15d71106bb584b7291c8470f0749977c46f",
        ),
    ),
    "mace-off-medium": (
        "MACE-OFF23 medium",
        _file(
            f"{_OFF}/MACE-OFF23_medium.model",
            _ASL,
            "4842c52ad210d6e1f84d6cf1ffa70fae25a7e0d755ed55cf223f43913f587db7",
        ),
    ),
    "mace-off-large": (
        "MACE-OFF23 large",
        _file(
            f"{_OFF}/MACE-OFF23_large.model",
            _ASL,
            "a29e397dbf3e7a24ac50a9b0dfc919bd5a62efa346f5895a6237b0950c1d76f4",
        ),
    ),
}


def licence_of(sha256: str) -> str:
    """The licence of an official file, wherever it lies, and "unknown" for any other."""
    return next((file.licence for _, file in PUBLISHED.values() if file.sha256 == sha256), "unknown")

"""The official MACE checkpoints, where they are published, under which licence, and their sha256.

Nine are written down here, with their digests: ACEsuit/mace tests/golden/foundation_artifacts.py (MP-0 small, MPA-0,
OFF23 small), ComDec/3DCS and bonan-group/symmetrix-xl manifests (the others). All others come from the tables of the
mace-torch that is installed, which publishes no digests: that of the first file is recorded (`PublishedFile.sha256`).
Licences are those of the READMEs of mace-torch 0.3.16, mace-foundations and mace-off.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from equiprune.adapters.upstream_tables import upstream_tables
from equiprune.files.download import PublishedFile

_MP = "https://github.com/ACEsuit/mace-mp/releases/download"
_OFF = "https://raw.githubusercontent.com/ACEsuit/mace-off/v0.2/mace_off23"
_MIT = "MIT"
_ASL = "ASL (academic, non-commercial; github.com/gabor1/ASL)"
_UNKNOWN = "unknown: see github.com/ACEsuit/mace-foundations"


def _file(url: str, licence: str, sha256: str = "") -> PublishedFile:
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


_TABLES = "calculators/foundations_models.py"
"""A module of mace-torch whose import takes torch, ase and seconds. PolarMACE (``polar_model_urls``) is left out: this
adapter opens no model of it. Addresses of MACE-OMOL are a dictionary inside a function."""

_RELEASES: Mapping[str, tuple[str, str]] = {
    "mace_mp_0": ("MACE-MP-0", _MIT),
    "mace_mp_0b": ("MACE-MP-0b", _MIT),
    "mace_mp_0b2": ("MACE-MP-0b2", _MIT),
    "mace_mp_0b3": ("MACE-MP-0b3", _MIT),
    "mace_mpa_0": ("MACE-MPA-0", _MIT),
    "mace_omat_0": ("MACE-OMAT-0", _ASL),
    "mace_matpes_0": ("MACE-MatPES-0", _ASL),
    "mace_mh_1": ("MACE-MH, of several heads", _ASL),
    "mace_omol_0": ("MACE-OMOL-0, of charge and spin", _ASL),
    "mace_off23": ("MACE-OFF23", _ASL),
}
"""Name and licence of what is in a folder of an address."""


def published() -> Mapping[str, tuple[str, PublishedFile]]:
    """Description and file of every alias: those of `PUBLISHED`, and what the installed mace-torch publishes besides.

    Such an alias is upstream's own name with ``mace-`` before it: ``mace-medium-0b3``, ``mace-mh-1``.
    """
    return {**PUBLISHED, **_from_upstream()}


@cache
def _from_upstream() -> Mapping[str, tuple[str, PublishedFile]]:
    tables = upstream_tables("mace", _TABLES)
    omol = upstream_tables("mace", _TABLES, function="mace_omol").get("urls", {})
    found = {
        **tables.get("mace_mp_urls", {}),
        **{f"off-{name}": url for name, url in tables.get("mace_off_urls", {}).items()},
        **{f"omol-{name.replace('_', '-')}": url for name, url in omol.items()},
    }
    written_down = {file.name for _, file in PUBLISHED.values()}
    others = {
        f"mace-{name.removeprefix('mace-')}": url for name, url in found.items() if _name(url) not in written_down
    }
    return MappingProxyType({alias: _other(url) for alias, url in others.items()})


def _other(url: str) -> tuple[str, PublishedFile]:
    about, licence = _RELEASES.get(url.split("/")[-2], ("MACE", _UNKNOWN))
    return f"{about} ({_name(url)})", _file(url, licence)


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def licence_of(sha256: str) -> str:
    """The licence of an official file, wherever it lies, and "unknown" for any other."""
    return next((file.licence for _, file in PUBLISHED.values() if file.sha256 == sha256), "unknown")

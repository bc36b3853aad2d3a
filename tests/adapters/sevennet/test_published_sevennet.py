"""Aliases of published SevenNet models: those that come with sevenn, and those in its tables."""

from pathlib import Path

import pytest
import torch
from random_models import architecture, random_checkpoint

import equiprune as ep
from equiprune.adapters.sevennet import SevenNetAdapter, export, published
from equiprune.errors import CheckpointError
from equiprune.files.download import PackagedFile, PublishedFile


def test_aliases_and_addresses_are_those_of_the_installed_sevenn() -> None:
    from sevenn import _const
    from sevenn.util import get_available_pretrained_models

    found = SevenNetAdapter().published()
    assert list(found) == get_available_pretrained_models()
    downloads = {alias: file for alias, file in found.items() if isinstance(file, PublishedFile)}
    assert {file.elsewhere[0]: file.url for file in downloads.values()} == _const.CHECKPOINT_DOWNLOAD_LINKS
    assert {file.licence for file in found.values()} == {"MIT"}
    assert {alias for alias, file in found.items() if isinstance(file, PackagedFile)} == {
        "7net-0",
        "7net-0_22may2024",
        "7net-l3i5",
        "7net-mf-0",
    }
    assert downloads["7net-omni"].elsewhere[1] == "~/.cache/sevennet/SevenNet_omni/checkpoint_sevennet_omni.pth"
    assert SevenNetAdapter().aliases.keys() == found.keys()


def test_without_sevenn_its_own_files_are_known_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "package_folder", lambda _: None)
    published.downloads.cache_clear()
    assert len(published.published()) == len(published.descriptions()) == 4
    with pytest.raises(CheckpointError, match="comes with sevenn, which is not installed"):
        published.shipped("7net-0")
    published.downloads.cache_clear()


def test_files_of_another_host_have_an_unknown_licence() -> None:
    assert published._download("https://x.org/models/new.pth").licence == "unknown: see https://x.org/models"


def test_an_alias_opens_what_lies_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model stands for the published one; its digest is recorded, and another file is then refused."""
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    lies = tmp_path / published.downloads()["7net-mf-ompa"].name
    with pytest.raises(CheckpointError, match=f"EQUIPRUNE_OFFLINE forbids downloading .*Put it at '{lies}'"):
        ep.read_checkpoint("7net-mf-ompa")
    random = random_checkpoint(architecture(("3x0e", "3x0e"), edge_lmax=0))
    export.write(random, lies)
    read = ep.read_checkpoint("7NET-MF-ompa")[1]
    assert read.licence == "MIT"
    assert torch.equal(read.weights["0_convolution.denominator"], random.weights["0_convolution.denominator"])
    with lies.open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(CheckpointError, match="is not the published file"):
        ep.read_checkpoint("7net-mf-ompa")

"""Facts of an alias without its file, and the list of all."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import Run

from equiprune.adapters import aliases, file_of
from equiprune.adapters.capabilities import Publishes
from equiprune.adapters.toy import ToyAdapter
from equiprune.commands import Info
from equiprune.commands.info import Description
from equiprune.commands.known_models import known_models
from equiprune.files.download import PackagedFile, PublishedFile

ALIAS = "nequix-oam-1-pft"
"""A file whose digest nobody publishes."""
WITH_DIGEST = "nequix-oam-1"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, of a user who has no other, without a network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    return tmp_path / "cache"


def published(alias: str) -> PublishedFile:
    found = file_of(alias)
    assert isinstance(found, PublishedFile)
    return found


def put(path: Path, content: bytes = b"no model") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(("written", "digest"), [(ALIAS, False), (WITH_DIGEST.upper(), True)])
def test_an_alias_is_described_without_its_file(written: str, digest: bool, cli: Run, offline: Path) -> None:
    file = published(written)
    value = cli("info", written, "--json").json
    assert (value["adapter"], value["source"], value["licence"]) == ("nequix", written, "MIT")
    assert (value["url"], value["file"]) == (file.url, str(offline / file.name))
    assert value["on_this_machine"] is False
    assert value["published_sha256"] == (file.sha256 if digest else None)
    assert value["missing"] == f"Download {file.url} where there is a network, and put it at '{offline / file.name}'."
    assert not offline.exists()


def test_the_same_for_people(cli: Run) -> None:
    shown = " ".join(cli("info", ALIAS).out.split())
    for words in ("Nequix OAM-1, then of phonons", "on this machine", "False", "the first file is recorded"):
        assert words in shown


def test_a_file_that_is_there_is_opened_and_not_described_as_missing(refused_in_one_line: Run, offline: Path) -> None:
    name = published(ALIAS).name
    put(offline / name)
    put(offline / f"{name}.sha256", hashlib.sha256(b"no model").hexdigest().encode())
    refused_in_one_line("info", ALIAS, says=(f"{ALIAS}.nqx", "does not begin with a line of JSON"))


def test_a_file_with_another_digest_is_refused_and_left_alone(refused_in_one_line: Run, offline: Path) -> None:
    file = published(WITH_DIGEST)
    put(offline / file.name)
    found = hashlib.sha256(b"no model").hexdigest()
    refused_in_one_line("info", WITH_DIGEST, says=("is not the published file", found, file.sha256, "Remove it"))
    assert (offline / file.name).read_bytes() == b"no model"


def test_the_adapter_that_is_named_must_be_the_one_of_the_alias(refused_in_one_line: Run) -> None:
    refused_in_one_line("info", ALIAS, "--adapter", "toy", says=("is a model of nequix, not of toy",))


def test_other_commands_are_refused_at_once(refused_in_one_line: Run, tmp_path: Path) -> None:
    refused_in_one_line("export", ALIAS, "-o", tmp_path / "x", says=("EQUIPRUNE_OFFLINE", published(ALIAS).url))


def test_a_directory_of_that_name_comes_first(
    refused_in_one_line: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ALIAS).mkdir()
    monkeypatch.chdir(tmp_path)
    refused_in_one_line("info", ALIAS, says=("not a model that equiprune wrote",))


def test_every_alias_is_listed_once_with_its_licence(cli: Run) -> None:
    listed = cli("info", "--json").json
    assert sorted(model["alias"] for model in listed) == sorted(aliases())
    by_alias = {model["alias"]: model for model in listed}
    assert by_alias["7net-compact"]["where"] == "comes with equiprune"
    assert (by_alias["7net-0"]["licence"], by_alias["7net-0"]["where"]) == ("MIT", "comes with sevenn")
    assert by_alias[ALIAS]["where"] == "to be downloaded"
    assert by_alias["mace-off-small"]["licence"].startswith("ASL (academic, non-commercial")
    assert {model["alias"] for model in listed if not model["licence"]} == {"toy"}


def test_what_lies_in_the_cache_is_said(cli: Run, offline: Path) -> None:
    put(offline / published(ALIAS).name)
    [found] = [model for model in known_models().models if model.alias == ALIAS]
    assert found.where == "in the cache"
    assert ALIAS in cli("info").out


def test_online_a_missing_file_is_fetched(monkeypatch: pytest.MonkeyPatch, refused_in_one_line: Run) -> None:
    """From an address that does not answer: the message has it, and the place for the file."""
    monkeypatch.delenv("EQUIPRUNE_OFFLINE")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    os.mkdir(os.environ["EQUIPRUNE_CACHE"])
    file = published(ALIAS)
    place = os.path.join(os.environ["EQUIPRUNE_CACHE"], file.name)
    refused_in_one_line("info", ALIAS, says=(f"could not be downloaded from {file.url}", f"put the file at '{place}'"))


class PublishingToy(ToyAdapter):
    """One alias of a file, one of a package."""

    def published(self) -> Mapping[str, PublishedFile | PackagedFile]:
        return {"toy": PackagedFile("toys", "CC0-1.0")}


def test_an_adapter_that_publishes_has_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(PublishingToy(), Publishes)
    assert not isinstance(ToyAdapter(), Publishes)
    monkeypatch.setattr("equiprune.adapters.registry._opened", lambda _: PublishingToy())
    assert file_of("TOY") == PackagedFile("toys", "CC0-1.0")
    assert isinstance(Info("toy").run(), Description)

"""Aliases of published MACE models: found, downloaded once, verified, and known by their licence."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from stock_modules import assert_stock, unpickled

import equiprune as ep
from equiprune.adapters.mace import MaceAdapter
from equiprune.adapters.mace.published import PUBLISHED, _from_upstream, _other, published
from equiprune.errors import CheckpointError

LICENCES = {
    "mace-mp-small": "MIT",
    "mace-mp-medium": "MIT",
    "mace-mp-large": "MIT",
    "mace-mpa-0": "MIT",
    "mace-omat-0-small": "ASL",
    "mace-omat-0": "ASL",
    "mace-off-small": "ASL",
    "mace-off-medium": "ASL",
    "mace-off-large": "ASL",
}


def test_every_alias_has_its_licence_digest_and_address() -> None:
    """Commercial use of a model under the ASL is not allowed, so the licence must be said."""
    assert {alias: file.licence.partition(" ")[0] for alias, (_, file) in PUBLISHED.items()} == LICENCES
    assert len({file.sha256 for _, file in PUBLISHED.values()}) == len(LICENCES)
    for _, file in PUBLISHED.values():
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.url.startswith("https://")
        assert file.url.endswith(f"/{file.name}")


FROM_UPSTREAM = {
    "mace-small-0b": "MIT",
    "mace-medium-0b": "MIT",
    "mace-small-0b2": "MIT",
    "mace-medium-0b2": "MIT",
    "mace-large-0b2": "MIT",
    "mace-medium-0b3": "MIT",
    "mace-matpes-pbe-0": "ASL",
    "mace-matpes-r2scan-0": "ASL",
    "mace-mh-0": "ASL",
    "mace-mh-1": "ASL",
    "mace-omol-extra-large": "ASL",
}


def test_the_installed_mace_says_what_else_there_is() -> None:
    """Its tables, as they are when it is imported."""
    from mace.calculators.foundations_models import mace_mp_urls, mace_off_urls

    files = MaceAdapter().published()
    others = {alias: file for alias, file in files.items() if alias not in PUBLISHED}
    assert {alias: file.licence.partition(" ")[0] for alias, file in others.items()} == FROM_UPSTREAM
    assert not any(file.sha256 for file in others.values())
    assert {file.url for file in files.values() if "/mace-off/" not in file.url} == {
        *mace_mp_urls.values(),
        others["mace-omol-extra-large"].url,
    }
    assert {file.name for file in files.values()} >= {url.rpartition("/")[2] for url in mace_off_urls.values()}
    assert "~/.cache/mace/macemh1model" in others["mace-mh-1"].elsewhere  # as mace_mp names it
    assert "~/.cache/mace/MACE-omol-0-extra-large-1024.model" in others["mace-omol-extra-large"].elsewhere


def test_without_mace_the_models_with_digests_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equiprune.adapters.mace.published.upstream_tables", lambda *_, **__: {})
    _from_upstream.cache_clear()
    assert published().keys() == LICENCES.keys()
    _from_upstream.cache_clear()


def test_a_release_that_nobody_knows_has_no_licence() -> None:
    """One that a later mace-torch may publish."""
    about, file = _other("https://github.com/ACEsuit/mace-foundations/releases/download/mace_new_1/new.model")
    assert (about, file.licence) == ("MACE (new.model)", "unknown: see github.com/ACEsuit/mace-foundations")


def test_aliases_are_described() -> None:
    described = MaceAdapter().aliases
    assert described.keys() == LICENCES.keys() | FROM_UPSTREAM.keys()
    assert described["mace-mp-small"] == "MACE-MP-0 small (L = 0, 128 channels)"
    assert described["mace-medium-0b3"] == "MACE-MP-0b3 (mace-mp-0b3-medium.model)"


@pytest.mark.parametrize("written", ["mace-mp-small", "MACE-MP-small"])
def test_an_alias_in_the_cache_needs_no_network(written: str, alias: str, official: Path) -> None:
    _, checkpoint = ep.read_checkpoint(written)
    assert written.lower() == alias
    assert checkpoint.sha256 == hashlib.sha256(official.read_bytes()).hexdigest()
    assert (checkpoint.source, checkpoint.licence) == (written, "MIT")


@pytest.mark.parametrize(
    ("variable", "folder", "name"),
    [
        ("HOME", ".cache/mace", "20231210mace128L0_energy_epoch249model"),
        ("XDG_CACHE_HOME", "mace", "20231210mace128L0_energy_epoch249model"),
    ],
)
def test_a_file_that_mace_downloaded_is_used(
    variable: str, folder: str, name: str, official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As mace_mp names it in its own cache (mace/calculators/foundations_models.py)."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / name).symlink_to(official)
    assert ep.read_checkpoint("mace-mp-small")[1].licence == "MIT"
    assert not (tmp_path / "own").exists()


def test_mace_keeps_its_organic_models_under_their_names() -> None:
    _, file = PUBLISHED["mace-off-small"]
    assert "~/.cache/mace/MACE-OFF23_small.model" in file.elsewhere


def test_offline_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    with pytest.raises(CheckpointError) as caught:
        ep.load("mace-off-large")
    for word in ("EQUIPRUNE_OFFLINE", PUBLISHED["mace-off-large"][1].url, str(tmp_path / "cache" / "MACE-OFF23_large")):
        assert word in str(caught.value)


class Site(ThreadingHTTPServer):
    """A web site with one file."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.hits = content, 0
        self.url = f"http://127.0.0.1:{self.server_port}/ordinary.model"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.hits += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def site(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """It publishes the template as ``mace-mp-small``."""
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("EQUIPRUNE_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with Site(template.read_bytes()) as site:
        description, file = PUBLISHED["mace-mp-small"]
        digest = hashlib.sha256(site.content).hexdigest()
        published = replace(file, name="ordinary.model", url=site.url, sha256=digest, licence="CC0-1.0")
        monkeypatch.setitem(PUBLISHED, "mace-mp-small", (description, published))  # type: ignore[arg-type]
        threading.Thread(target=site.serve_forever, args=(0.005,), daemon=True).start()
        yield site
        site.shutdown()


def test_an_alias_is_downloaded_once_and_has_its_licence(
    site: Site, template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ep.load("mace-mp-small", dtype=torch.float64)
    assert "licence: CC0-1.0" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ordinary.model"]
    assert ep.load("mace-mp-small").checkpoint.sha256 == first.checkpoint.sha256
    assert site.hits == 1
    assert first.checkpoint.licence == ep.load(template).checkpoint.licence == "CC0-1.0"
    assert_stock(first, unpickled(template), list(ep.probe_structures(first.elements).values()))


def test_an_alias_without_a_digest_has_the_licence_of_its_release(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what lies in the cache first is what holds from then on."""
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path))
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    lies = tmp_path / MaceAdapter().published()["mace-matpes-pbe-0"].name
    lies.write_bytes(template.read_bytes())
    assert ep.read_checkpoint("mace-matpes-pbe-0")[1].licence.startswith("ASL")
    with lies.open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(CheckpointError, match=r"not the published file: its sha256 .*\.sha256' to accept it"):
        ep.read_checkpoint("mace-matpes-pbe-0")


def test_a_download_of_other_content_is_refused_and_not_kept(site: Site, tmp_path: Path) -> None:
    site.content += b"\0"
    with pytest.raises(CheckpointError, match=r"is not 'ordinary\.model' or is damaged: its sha256 is"):
        ep.load("mace-mp-small")
    assert list(tmp_path.iterdir()) == []
    assert site.hits == 1


def test_a_changed_file_in_the_cache_is_refused(site: Site, tmp_path: Path) -> None:
    ep.read_checkpoint("mace-mp-small")
    with (tmp_path / "ordinary.model").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(CheckpointError, match=r"ordinary\.model' is not the published file: its sha256"):
        ep.read_checkpoint("mace-mp-small")

"""A published file is on this machine or is downloaded once, and is always the file that was meant."""

import hashlib
import os
import pwd
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
from full_disk import files_of_at_most

from equiprune.errors import CheckpointError
from equiprune.files import download as published
from equiprune.files.download import PublishedFile, fetch, found_here, place_of

CONTENT = bytes(range(256)) * 4096  # 1 MiB: more than one piece
OTHER = CONTENT[::-1]
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OTHER_DIGEST = hashlib.sha256(OTHER).hexdigest()

Answer = Callable[[BaseHTTPRequestHandler], None]


def answer_with(content: bytes, announced: int | None = None, code: int = 200, **headers: str) -> Answer:
    """An answer whose Content-Length may be wrong (``announced``) or missing (-1)."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        if announced != -1:
            handler.send_header("Content-Length", str(len(content) if announced is None else announced))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


class Handler(BaseHTTPRequestHandler):
    """Answers as the site says."""

    server: "Site"

    def do_GET(self) -> None:
        self.server.hits += 1
        self.server.answer(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


class Site(ThreadingHTTPServer):
    """A web site with one file."""

    daemon_threads, block_on_close = True, False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hits, self.answer = 0, answer_with(CONTENT)
        self.url = f"http://127.0.0.1:{self.server_port}/small.model"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error here."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        threading.Thread(target=site.serve_forever, args=(0.005,), daemon=True).start()
        yield site
        site.shutdown()


@pytest.fixture
def small(site: Site) -> PublishedFile:
    """A file whose digest is known."""
    return PublishedFile("small.model", site.url, "MIT", DIGEST)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EQUIPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EQUIPRUNE_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(folder: Path) -> list[str]:
    """Everything below a folder, whatever its name."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refusal(file: PublishedFile) -> str:
    """The message of the error, which always ends with the way out."""
    with pytest.raises(CheckpointError) as caught:
        fetch(file)
    message = str(caught.value)
    assert message.endswith("or give the path of a file you have.")
    assert file.name in message
    return message


def test_a_file_is_downloaded_once(site: Site, small: PublishedFile, cache: Path) -> None:
    assert fetch(small) == cache / "small.model"
    assert (cache / "small.model").read_bytes() == CONTENT
    site.shutdown()
    site.server_close()
    assert fetch(small) == cache / "small.model"
    assert names(cache) == ["small.model"]
    assert site.hits == 1


def test_a_download_is_announced_and_followed(small: PublishedFile, capsys: pytest.CaptureFixture[str]) -> None:
    pieces: list[int] = []
    fetch(small, pieces.append)
    fetch(small, pieces.append)
    assert sum(pieces) == len(CONTENT)
    assert len(pieces) > 1
    assert capsys.readouterr() == ("", f"Downloading small.model from {small.url} (1.0 MB, licence: MIT)\n")


def test_a_server_need_not_say_how_long_a_file_is(
    site: Site, small: PublishedFile, capsys: pytest.CaptureFixture[str]
) -> None:
    site.answer = answer_with(CONTENT, announced=-1)
    assert fetch(small).read_bytes() == CONTENT
    assert "(size unknown, licence: MIT)" in capsys.readouterr().err


def test_a_file_may_have_moved(site: Site, small: PublishedFile) -> None:
    def moved(handler: BaseHTTPRequestHandler) -> None:
        site.answer = answer_with(CONTENT)
        answer_with(b"", code=302, Location="/elsewhere")(handler)

    site.answer = moved
    assert fetch(small).read_bytes() == CONTENT
    assert site.hits == 2


@pytest.mark.parametrize(
    ("own", "shared", "folder"),
    [
        ("{0}/own", "{0}/shared", "own"),
        ("~/own", "", "home/own"),
        ("own", "", "own"),
        ("", "{0}/shared", "shared/equiprune"),
        ("", "", "home/.cache/equiprune"),
    ],
)
def test_the_environment_says_where_the_cache_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: PublishedFile, own: str, shared: str, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EQUIPRUNE_CACHE", own.format(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", shared.format(tmp_path))
    assert fetch(small) == tmp_path / folder / "small.model"
    assert names(tmp_path / folder) == ["small.model"]


def test_a_user_without_a_home_is_told_to_name_a_cache(monkeypatch: pytest.MonkeyPatch, small: PublishedFile) -> None:
    def nobody(_: int) -> NoReturn:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "EQUIPRUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert "Set EQUIPRUNE_CACHE" in refusal(small)


def test_capital_digits_are_the_same_digest(small: PublishedFile) -> None:
    assert fetch(replace(small, sha256=DIGEST.upper())).read_bytes() == CONTENT


def test_a_corrupted_download_is_refused(site: Site, small: PublishedFile, cache: Path) -> None:
    site.answer = answer_with(OTHER)
    message = refusal(small)
    assert f"its sha256 is {OTHER_DIGEST}, expected {DIGEST}" in message
    assert message.startswith(f"What {small.url} sends is not 'small.model' or is damaged")
    assert "accept" not in message
    assert names(cache) == []


@pytest.mark.parametrize("digest", [DIGEST, ""])
def test_a_truncated_download_is_refused(site: Site, small: PublishedFile, cache: Path, digest: str) -> None:
    site.answer = answer_with(CONTENT[:-1], announced=len(CONTENT))
    assert f"it ended after {len(CONTENT) - 1} of {len(CONTENT)} bytes" in refusal(replace(small, sha256=digest))
    assert names(cache) == []


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Nothing for longer than a reader waits."""
    time.sleep(0.3)


def stall(handler: BaseHTTPRequestHandler) -> None:
    """Half of the file, and then silence."""
    answer_with(CONTENT[: len(CONTENT) // 2], announced=len(CONTENT))(handler)
    silence(handler)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answer_with(b"gone", code=404), "the server answers 404 Not Found"),
        (answer_with(b"", code=503), "the server answers 503 Service Unavailable"),
        (silence, "timed out"),
        (stall, "timed out"),
        (lambda handler: handler.wfile.write(b"hello\r\n"), "hello"),
        (lambda handler: None, "without response"),
        (answer_with(b"ff\r\nhalf a chunk", announced=-1, **{"Transfer-Encoding": "chunked"}), "IncompleteRead"),
    ],
)
def test_a_server_that_fails_is_named(
    site: Site, small: PublishedFile, cache: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, reason: str
) -> None:
    monkeypatch.setattr(published, "_TIMEOUT", 0.1)
    site.answer = answer
    message = refusal(small)
    assert f"could not be downloaded from {small.url}: " in message
    assert reason in message
    assert f"put the file at '{cache / 'small.model'}'" in message
    assert names(cache) == []


def test_a_server_that_is_down_is_named(site: Site, small: PublishedFile, cache: Path) -> None:
    site.shutdown()
    site.server_close()
    message = refusal(small)
    assert "Connection refused. Try again" in message
    assert "urlopen error" not in message
    assert names(cache) == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/small.model", "small.model", "https:/broken"])
def test_only_web_addresses_are_opened(small: PublishedFile, url: str) -> None:
    assert f"has the URL '{url}'. Give one that begins with https://" in refusal(replace(small, url=url))


@pytest.mark.parametrize("url", ["https://", "http://[::1/small.model", "http://a b/", f"http://{'a' * 64}.invalid/"])
def test_a_malformed_address_is_named(small: PublishedFile, url: str) -> None:
    assert f"could not be downloaded from {url}" in refusal(replace(small, url=url))


@pytest.mark.parametrize("value", ["1", "true"])
def test_offline_says_where_to_put_the_file(
    site: Site, small: PublishedFile, cache: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", value)
    message = refusal(small)
    assert small.url in message
    assert f"Put it at '{cache / 'small.model'}', unset EQUIPRUNE_OFFLINE" in message
    assert not cache.exists()
    put(cache / "small.model")
    assert fetch(small) == cache / "small.model"
    assert site.hits == 0


@pytest.mark.parametrize("value", ["", "0"])
def test_offline_can_be_turned_off(small: PublishedFile, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", value)
    assert fetch(small).read_bytes() == CONTENT


def test_a_wrong_cached_file_is_refused_and_kept(site: Site, small: PublishedFile, cache: Path) -> None:
    put(cache / "small.model", OTHER)
    message = refusal(small)
    assert f"'{cache / 'small.model'}' is not the published file" in message
    assert f"its sha256 is {OTHER_DIGEST}, expected {DIGEST}. Remove it" in message
    assert (cache / "small.model").read_bytes() == OTHER
    assert site.hits == 0


def test_the_first_digest_is_recorded_where_none_is_published(site: Site, small: PublishedFile, cache: Path) -> None:
    unknown, record = replace(small, sha256=""), cache / "small.model.sha256"
    fetch(unknown)
    assert names(cache) == ["small.model", "small.model.sha256"]
    assert record.read_text() == f"{DIGEST}  small.model\n"
    assert fetch(unknown).read_bytes() == CONTENT

    put(cache / "small.model", OTHER)
    assert f"expected {DIGEST}. Remove it to download it again, remove '{record}' to accept it" in refusal(unknown)
    (cache / "small.model").unlink()
    site.answer = answer_with(OTHER)
    assert f"its sha256 is {OTHER_DIGEST}, expected {DIGEST}" in refusal(unknown)
    assert names(cache) == ["small.model.sha256"]
    record.unlink()
    assert fetch(unknown).read_bytes() == OTHER


def test_a_file_put_there_by_hand_is_recorded_too(site: Site, small: PublishedFile, cache: Path) -> None:
    put(cache / "small.model")
    assert fetch(replace(small, sha256="")) == cache / "small.model"
    assert (cache / "small.model.sha256").read_text().startswith(DIGEST)
    assert site.hits == 0


def test_a_published_digest_needs_no_record(small: PublishedFile, cache: Path) -> None:
    put(cache / "small.model.sha256", OTHER_DIGEST.encode())
    assert fetch(small).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_an_unreadable_record_is_refused(small: PublishedFile, cache: Path, content: bytes) -> None:
    record = put(cache / "small.model.sha256", content)
    assert f"'{record}' holds no sha256. Remove it" in refusal(replace(small, sha256=""))
    assert names(cache) == ["small.model.sha256"]


def test_what_another_download_recorded_meanwhile_holds(small: PublishedFile, cache: Path) -> None:
    def meanwhile(_: int) -> None:
        put(cache / "small.model.sha256", OTHER_DIGEST.encode())

    with pytest.raises(CheckpointError, match=f"expected {OTHER_DIGEST}"):
        fetch(replace(small, sha256=""), meanwhile)
    assert names(cache) == ["small.model.sha256"]


@pytest.mark.parametrize("place", ["~/mace/small", "$MACE/small", "${MACE}/small"])
def test_the_file_of_another_tool_is_used(
    site: Site, small: PublishedFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MACE", "~/mace")
    theirs = put(tmp_path / "mace" / "small")
    assert fetch(replace(small, elsewhere=(str(tmp_path / "nowhere"), str(tmp_path), place))) == theirs
    assert site.hits == 0
    assert not cache.exists()


@pytest.mark.parametrize(("content", "digest"), [(OTHER, DIGEST), (CONTENT, "")])
def test_the_file_of_another_tool_is_ignored_unless_it_is_the_one(
    site: Site, small: PublishedFile, cache: Path, tmp_path: Path, content: bytes, digest: str
) -> None:
    theirs = put(tmp_path / "theirs", content)
    assert fetch(replace(small, sha256=digest, elsewhere=(str(theirs),))) == cache / "small.model"
    assert site.hits == 1
    assert theirs.read_bytes() == content


def test_offline_a_file_of_another_tool_without_a_digest_is_pointed_out(
    small: PublishedFile, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPRUNE_OFFLINE", "1")
    theirs = put(tmp_path / "theirs")
    message = refusal(replace(small, sha256="", elsewhere=(str(tmp_path / "nowhere"), str(theirs))))
    assert f"'{theirs}' may be it, but no digest is published to tell. Put it at '{cache / 'small.model'}'" in message
    put(theirs, OTHER)
    assert "may be it" not in refusal(replace(small, elsewhere=(str(theirs),)))


def test_whether_a_file_is_here_is_found_out_without_a_network(
    site: Site, small: PublishedFile, cache: Path, tmp_path: Path
) -> None:
    assert found_here(small) is None
    assert not cache.exists()
    theirs = put(tmp_path / "theirs")
    assert found_here(replace(small, elsewhere=(str(theirs),))) == theirs
    put(cache / "small.model", OTHER)
    with pytest.raises(CheckpointError, match="is not the published file"):
        found_here(small)
    put(cache / "small.model")
    assert found_here(small) == place_of(small) == cache / "small.model"
    assert site.hits == 0


def test_a_file_in_the_way_of_the_cache_is_named(site: Site, small: PublishedFile, cache: Path) -> None:
    put(cache, b"in the way")
    message = refusal(small)
    assert f"cannot be read from or kept in the cache '{cache}'" in message
    assert "Set EQUIPRUNE_CACHE" in message
    assert cache.read_bytes() == b"in the way"
    assert site.hits == 0


@pytest.mark.parametrize("folder", ["/proc", "/proc/version/cache", "/proc/self/cache"])
def test_a_cache_that_takes_no_files_is_named(
    site: Site, small: PublishedFile, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("EQUIPRUNE_CACHE", folder)
    assert f"cache '{folder}'" in refusal(small)
    assert site.hits == 0


def test_a_folder_in_place_of_the_file_is_named(small: PublishedFile, cache: Path) -> None:
    put(cache / "small.model" / "theirs")
    assert "Is a directory" in refusal(small)
    assert names(cache) == ["small.model", "small.model/theirs"]


def test_a_disk_that_fills_up_leaves_nothing(small: PublishedFile, cache: Path) -> None:
    with files_of_at_most(len(CONTENT) // 2):
        message = refusal(small)
    assert "File too large" in message
    assert "Set EQUIPRUNE_CACHE" in message
    assert names(cache) == []


@pytest.mark.parametrize("digest", [DIGEST, ""])
def test_an_interrupted_download_leaves_nothing(small: PublishedFile, cache: Path, digest: str) -> None:
    def interrupt(_: int) -> None:
        assert names(cache) != []
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fetch(replace(small, sha256=digest), interrupt)
    assert names(cache) == []


@pytest.mark.parametrize("digest", [DIGEST, ""])
def test_two_downloads_at_once_both_end_well(site: Site, small: PublishedFile, cache: Path, digest: str) -> None:
    both = threading.Barrier(2, timeout=2)

    def together(handler: BaseHTTPRequestHandler) -> None:
        both.wait()
        answer_with(CONTENT)(handler)

    site.answer = together
    file = replace(small, sha256=digest)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fetch, [file, file])) == [cache / "small.model"] * 2
    assert (cache / "small.model").read_bytes() == CONTENT
    assert names(cache) == ["small.model", *([] if digest else ["small.model.sha256"])]
    assert site.hits == 2


def test_a_cached_file_is_readable_by_others(small: PublishedFile) -> None:
    before = os.umask(0o022)
    try:
        assert fetch(small).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)

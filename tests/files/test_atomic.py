"""Files appear whole or not at all."""

import errno
import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from equiprune.errors import CheckpointError, OutputError
from equiprune.files.atomic import check_writable, holding, read_json, replacing, sha256_of, write_json, write_text


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_block_leaves_nothing_and_keeps_its_error(tmp_path: Path) -> None:
    def write_half() -> None:
        with replacing(tmp_path / "out.txt") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "reason"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "broken"), (errno.EROFS, "broken")]
)
def test_a_failed_write_is_an_output_error(tmp_path: Path, code: int, reason: str) -> None:
    with pytest.raises(OutputError, match=f"{reason}. Nothing was changed"), replacing(tmp_path / "out.txt"):
        raise OSError(code, "broken")
    assert not list(tmp_path.iterdir())


def test_a_directory_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model"

    def write_while_somebody_else_is_quicker() -> None:
        with replacing(path) as temporary:
            temporary.mkdir()
            path.mkdir()
            (path / "theirs").touch()

    with pytest.raises(OutputError, match="never overwritten"):
        write_while_somebody_else_is_quicker()
    assert [file.name for file in tmp_path.rglob("*")] == ["model", "theirs"]


def test_what_is_new_replaces_nothing_that_came_meanwhile(tmp_path: Path) -> None:
    def write_while_somebody_else_is_quicker() -> None:
        with replacing(tmp_path / "file", new=True) as temporary:
            temporary.write_text("ours")
            (tmp_path / "file").write_text("theirs")

    with pytest.raises(OutputError, match="exists and is never overwritten"):
        write_while_somebody_else_is_quicker()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "missing" / "out.txt", "")
    with pytest.raises(OutputError, match="no folder"):
        check_writable(tmp_path / "missing" / "out.txt")


def test_what_exists_is_not_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "out.txt")
    (tmp_path / "out.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("out.txt", "link"):
        with pytest.raises(OutputError, match="never overwritten"):
            check_writable(tmp_path / name)


def test_a_folder_that_takes_no_files_is_named() -> None:
    with pytest.raises(OutputError, match="'/proc'"):
        check_writable(Path("/proc/out.txt"))


def test_json_reads_back_with_all_digits(tmp_path: Path) -> None:
    value = {"a": [0.1, 1e-300, 2**60], "b": None}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json", "record") == value


def test_json_that_others_cannot_read_is_not_written(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [float("nan"), float("-inf")], "b": (1.0,)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, None], "b": [1.0]}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"not json"])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.json' is not a record"):
        read_json(tmp_path / "x.json", "record")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path, number: str) -> None:
    (tmp_path / "x.json").write_text(f'{{"structures": {number}}}')
    with pytest.raises(CheckpointError, match=rf"is not a record: .*has {number} where a number belongs"):
        read_json(tmp_path / "x.json", "record")


def test_json_without_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(CheckpointError, match="is not a plan: it is not readable JSON"):
        read_json(tmp_path / "plan.json", "plan")


def test_a_message_is_one_line_whatever_was_given() -> None:
    assert str(OutputError("'a\r\nb' is no element")) == "'a b' is no element"


def test_a_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no record at"):
        read_json(tmp_path / "x.json", "record")


def test_sha256_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_a_folder_is_held_until_the_last_process_that_was_given_it_has_ended(tmp_path: Path) -> None:
    with holding(tmp_path, "") as handle:
        child = subprocess.Popen(["/bin/sh", "-c", "read -r line"], stdin=subprocess.PIPE, pass_fds=(handle,))
    with child:
        refusal = pytest.raises(OutputError, match=r"^Somebody is here\. Wait for it, or end it first\.$")
        with refusal, holding(tmp_path, "Somebody is here."):
            pass
        child.kill()
    with holding(tmp_path, ""):
        pass


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with holding(tmp_path, ""):
        pass

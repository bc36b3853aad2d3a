"""LMDB files as data: what lmdb has written is read, and a damaged file ends in a message, not in a signal."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from equiprune.structures.formats.lmdb_files import is_lmdb, lmdb_pages

lmdb = pytest.importorskip("lmdb")


def written(folder: Path, values: Mapping[bytes, bytes], removed: int = 0) -> Path:
    """A file that lmdb made, in two transactions, after which some keys were removed."""
    path = folder / "a.lmdb"
    path.unlink(missing_ok=True)
    with lmdb.open(str(path), subdir=False, lock=False, map_size=2**24) as environment:
        for part in (list(values.items())[::2], list(values.items())[1::2]):
            with environment.begin(write=True) as transaction:
                for key, value in part:
                    transaction.put(key, value)
        with environment.begin(write=True) as transaction:
            for key in list(values)[:removed]:
                transaction.delete(key)
    return path


@settings(max_examples=30, deadline=None)
@given(
    values=some.dictionaries(some.binary(min_size=1, max_size=40), some.binary(max_size=60), max_size=40),
    sizes=some.lists(some.integers(0, 20_000), max_size=6),
    removed=some.integers(0, 10),
)
def test_values_are_those_that_were_written(
    values: dict[bytes, bytes], sizes: list[int], removed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values |= {b"large %d" % i: bytes([i + 1]) * size for i, size in enumerate(sizes)}
    path = written(tmp_path_factory.mktemp("lmdb"), values, removed)
    left = dict(list(values.items())[removed:])
    with lmdb_pages(path) as pages:
        assert pages.entries == len(left)
        for key in (*values, b"0", b"\xff" * 50):
            assert pages.get(key) == left.get(key)


def test_a_tree_of_several_levels(tmp_path: Path) -> None:
    values = {b"%d" % i: b"%d" % i * 20 for i in range(3000)}
    with lmdb_pages(written(tmp_path, values)) as pages:
        assert all(pages.get(key) == value for key, value in values.items())
        assert pages.get(b"3000") is pages.get(b"-1") is pages.get(b"") is None


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of a few levels, with values of pages of their own."""
    return written(tmp_path_factory.mktemp("sound"), {b"%d" % i: b"x" * (60 * i) for i in range(80)}).read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=some.lists(some.tuples(some.floats(0, 1), some.integers(0, 255)), min_size=1, max_size=30))
def test_a_damaged_file_gives_bytes_or_a_message(
    changes: list[tuple[float, int]], sound: bytes, tmp_path: Path
) -> None:
    """Lmdb itself ends the process where a size or a page number leads out of the file."""
    path, content = tmp_path / "a.lmdb", bytearray(sound)
    for place, byte in changes:
        content[int(place * (len(content) - 1))] = byte
    path.write_bytes(content[: int(len(content) * (1 - changes[0][0] * (changes[0][1] % 2)))])
    with suppress(ValueError), lmdb_pages(path) as pages:
        for key in map(b"%d".__mod__, range(80)):
            assert len(pages.get(key) or b"") <= len(content)


@pytest.mark.parametrize("content", [b"", b"no database", bytes(4096), b"\xff" * 9000])
def test_what_is_no_lmdb_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.lmdb"
    path.write_bytes(content)
    assert is_lmdb(path)
    with pytest.raises(ValueError, match=r"no LMDB file|cut off"), lmdb_pages(path):
        pass

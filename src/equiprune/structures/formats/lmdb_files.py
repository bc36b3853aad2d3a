"""LMDB files, read page by page as data: several formats keep structures in them.

The lmdb library maps a file into memory and trusts the sizes and page numbers in it, so that a file that is cut off or
damaged ends the process (SIGBUS). Here everything is read within the bounds of the file, or refused. Only what such
files need is there: values of the main database by their keys. Layout: ``MDB_page``, ``MDB_meta``, ``MDB_db`` and
``MDB_node`` in liblmdb's mdb.c, of 64 bits, little-endian.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = Struct("<QHHHH")
"""Header of a page: its number, padding, flags, end of its pointers, beginning of its nodes."""
_META = Struct("<IIQQ")
"""Beginning of a meta page: magic number, version, address, size of the map; two `_DATABASE` and `_END` follow."""
_DATABASE = Struct("<IHHQQQQQ")
"""Record of a database: page size, flags, depth, pages of three kinds, entries, root."""
_END = Struct("<QQ")
"""End of a meta page: last page, number of the transaction."""
_POINTER = Struct("<H")
_NODE = Struct("<HHHH")
"""Header of an entry: low and high half of a size or page number, flags or more of that number, size of the key."""
_BRANCH, _LEAF, _META_PAGE = 0x01, 0x02, 0x08
_ELSEWHERE = 0x01
"""Flag of a node whose value has pages of its own."""
_NO_PAGE = 2**64 - 1
_DEEPEST = 32
_PAGE_SIZES = frozenset(2**power for power in range(8, 17))


def is_lmdb(path: Path) -> bool:
    """True for a file, or folder with ``data.mdb`` in it, whose name ends with .lmdb."""
    return path.suffix == ".lmdb" and (path.is_file() or (path / "data.mdb").is_file())


class Node(NamedTuple):
    """An entry of a page.

    Attributes:
        key: empty in the first entry of a branch.
        low, high, flags: halves of the size of its value; together the page it leads to, in a branch.
        start: of its value, in the page.
    """

    key: bytes
    low: int
    high: int
    flags: int
    start: int


@dataclass(frozen=True)
class Page:
    """A branch or a leaf of the tree, of which each entry is read when it is asked for."""

    data: bytes

    @property
    def flags(self) -> int:
        return int(_HEADER.unpack_from(self.data)[2])

    def __len__(self) -> int:
        ends = int(_HEADER.unpack_from(self.data)[3])
        return max(0, min(ends, len(self.data)) - _HEADER.size) // _POINTER.size

    def node(self, index: int) -> Node:
        """An entry, in the order of keys. Raises `ValueError` where it is not within the page."""
        begin = _POINTER.unpack_from(self.data, _HEADER.size + index * _POINTER.size)[0]
        if begin + _NODE.size > len(self.data):
            raise ValueError("its pages are damaged")
        low, high, flags, length = _NODE.unpack_from(self.data, begin)
        start = begin + _NODE.size + length
        return Node(self.data[begin + _NODE.size : start], low, high, flags, start)

    def key(self, index: int) -> bytes:
        return self.node(index).key


@dataclass(frozen=True)
class LmdbPages:
    """The main database of an LMDB file that is open.

    Attributes:
        file: open for reading.
        size: of the file, bytes.
        page_size: bytes.
        entries: number of keys.
        root: page number.
    """

    file: BinaryIO
    size: int
    page_size: int
    entries: int
    root: int

    @classmethod
    def of(cls, file: BinaryIO, size: int) -> LmdbPages:
        """The database as of the last transaction. Raises `ValueError` for what is no LMDB file, or a damaged one."""
        first = _meta(_piece(file, size, 0, _PAGE))
        metas = [first, _meta(_piece(file, size, first.page_size, _PAGE))]
        last = max(metas, key=lambda meta: meta.transaction)
        if (last.last_page + 1) * last.page_size > size:
            raise ValueError("the file is cut off")
        return cls(file, size, last.page_size, last.entries, last.root)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None where there is none. Raises `ValueError` where the file is damaged."""
        number = self.root
        for _ in range(_DEEPEST):
            if number == _NO_PAGE:
                return None
            page = Page(_piece(self.file, self.size, number * self.page_size, self.page_size))
            if page.flags & _LEAF:
                place = bisect_left(range(len(page)), key, key=page.key)
                found = place < len(page) and (node := page.node(place)).key == key
                return self._value(node, page.data) if found else None
            if not page.flags & _BRANCH or not len(page):
                break
            node = page.node(max(0, bisect_right(range(len(page)), key, lo=1, key=page.key) - 1))
            number = node.low | node.high << 16 | node.flags << 32
        raise ValueError("its pages are damaged")

    def _value(self, node: Node, page: bytes) -> bytes:
        length = node.low | node.high << 16
        if node.flags == _ELSEWHERE:
            number = int.from_bytes(page[node.start : node.start + 8], "little")
            return _piece(self.file, self.size, number * self.page_size + _HEADER.size, length)
        value = page[node.start : node.start + length]
        if node.flags or len(value) < length:
            raise ValueError("a value in it is damaged")
        return value


@contextmanager
def lmdb_pages(path: Path) -> Iterator[LmdbPages]:
    """An LMDB file, or the one in a folder, open meanwhile. Raises `ValueError` as `LmdbPages.of` does."""
    path = path / "data.mdb" if path.is_dir() else path
    with path.open("rb") as file:
        yield LmdbPages.of(file, path.stat().st_size)


class _Meta(NamedTuple):
    """A meta page: the state of the file after a transaction."""

    page_size: int
    entries: int
    root: int
    last_page: int
    transaction: int


_PAGE = _HEADER.size + _META.size + 2 * _DATABASE.size + _END.size
"""Bytes of a meta page that are used."""


def _meta(page: bytes) -> _Meta:
    flags = _HEADER.unpack_from(page)[2]
    magic, version, _, _ = _META.unpack_from(page, _HEADER.size)
    if not flags & _META_PAGE or magic != _MAGIC or version != _VERSION:
        raise ValueError("it is no LMDB file of 64 bits, version 1")
    start = _HEADER.size + _META.size
    page_size = _DATABASE.unpack_from(page, start)[0]
    _, kind, _, _, _, _, entries, root = _DATABASE.unpack_from(page, start + _DATABASE.size)
    last, transaction = _END.unpack_from(page, start + 2 * _DATABASE.size)
    if page_size not in _PAGE_SIZES or kind:
        raise ValueError("it is an LMDB file of another kind, or damaged")
    return _Meta(page_size, entries, root, last, transaction)


def _piece(file: BinaryIO, size: int, start: int, length: int) -> bytes:
    """Bytes of the file. Raises `ValueError` where it ends before."""
    if start + length > size:
        raise ValueError("it is cut off or damaged")
    file.seek(start)
    found = file.read(length)
    if len(found) < length:
        raise ValueError("it is cut off or damaged")
    return found

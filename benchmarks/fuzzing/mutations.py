"""Mutations of files: bytes anywhere, and values inside what text, JSON, archives and arrays hold."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np

Files = Mapping[str, bytes]
"""Content by path, relative to the folder that the input is in."""

_WORDS = "nan inf -inf 0 -1 -0.0 1e308 -1e308 1e-320 2147483648 999999999999999999999999999999 1.5 0x10 1D3 1_000"
_MORE = "NaN True ½ ٣ --1 1e ***** 1e5 1e-3 99999 4 1000000"
ODD_NUMBERS = (*_WORDS.split(), "", *_MORE.split())
ODD_TEXTS = (
    "",
    " ",
    "\0",
    "é",
    "ß\u0301",
    "\ud7ff",
    "a" * 300,
    "%s",
    "{}",
    "../..",
    "/dev/null",
    "\r\n",
    '"',
    "[",
    "null",
    "__class__",
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    1e308,
    -(2**63),
    2**64,
    10**40,
    "",
    "x",
    "nan",
    [],
    {},
    [[]],
)
ODD_VALUES += (float("nan"), float("inf"), [None], {"": None}, "1", ["a"] * 5, 3, 1e-320, "H", [0, 0, 0], [1.0] * 9)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


def mutated(files: Files, random: Random) -> dict[str, bytes]:
    """The same files with one to four changes, in one file or in the folder."""
    changed = dict(files)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if len(changed) > 1 and random.random() < 0.08:
            changed = _folder_changed(changed, random)
        elif changed:
            name = random.choice(sorted(changed))
            changed[name] = content_changed(changed[name], random)
    return changed


def _folder_changed(files: dict[str, bytes], random: Random) -> dict[str, bytes]:
    """A file lost, empty, in the place of another one, renamed, or a folder of its name."""
    name, other = random.choice(sorted(files)), random.choice(sorted(files))
    how = random.randrange(5)
    if how == 0:
        return {key: value for key, value in files.items() if key != name}
    if how == 1:
        return files | {name: b""}
    if how == 2:
        return files | {name: files[other], other: files[name]}
    renamed = name + "~" if how == 3 else f"{name}/inside"
    return {renamed if key == name else key: value for key, value in files.items()}


def content_changed(content: bytes, random: Random) -> bytes:
    """One change inside what the file holds, where that is known and wanted, or of its bytes."""
    if random.random() < 0.25:
        return bytes_changed(content, random)
    for change in (_packed_changed, _zip_changed, _array_changed, _safetensors_changed, _json_changed, _text_changed):
        found = change(content, random)
        if found is not None:
            return found
    return bytes_changed(content, random)


def bytes_changed(content: bytes, random: Random) -> bytes:
    """Bits flipped, cut anywhere, blocks removed, repeated, zeroed, numbers written into them."""
    size = len(content)
    start = random.randrange(size + 1)
    end = min(size, start + random.choice((1, 2, 4, 16, 256, 4096)))
    block = content[start:end]
    how = random.randrange(8)
    if how == 0:
        return content[:start]
    if how == 1:
        return content[:start] + content[end:]
    if how == 2:
        return content[:end] + block * random.choice((1, 2, 50)) + content[end:]
    if how == 3:
        return content[:start] + bytes(random.choice((0, 255)) for _ in block) + content[end:]
    if how == 4:
        return content[:start] + random.randbytes(len(block)) + content[end:]
    if how == 5:
        number = random.choice((0, -1, 2**31 - 1, 2**31, 2**40, 2**62, 255, 65535)) & (2**64 - 1)
        return content[:start] + number.to_bytes(8, random.choice(("little", "big"))) + content[start + 8 :]
    if how == 6:
        return random.choice((b"", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", random.randbytes(20))) + content
    flipped = bytearray(content)
    for _ in range(random.choice((1, 1, 4, 30)) if size else 0):
        flipped[random.randrange(size)] ^= 1 << random.randrange(8)
    return bytes(flipped)


_PACKED: tuple[tuple[bytes, Callable[[bytes], bytes], Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", gzip.decompress, lambda data: gzip.compress(data, 1)),
    (b"\xfd7zXZ", lzma.decompress, lambda data: lzma.compress(data, preset=0)),
    (b"BZh", bz2.decompress, lambda data: bz2.compress(data, 1)),
)


def _packed_changed(content: bytes, random: Random) -> bytes | None:
    for magic, unpack, pack in _PACKED:
        if content.startswith(magic):
            try:
                return pack(content_changed(unpack(content), random))
            except Exception:  # changed before
                return None
    return None


def _zip_changed(content: bytes, random: Random) -> bytes | None:
    """One member changed, lost, repeated, renamed, or one more of an odd name."""
    if not content.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # changed before
        return None
    place = random.randrange(len(members)) if members else 0
    how = random.choice((0, 0, 0, 0, 1, 2, 3, 4)) if members else 4
    if how == 0:
        members[place] = (members[place][0], content_changed(members[place][1], random))
    elif how == 1:
        del members[place]
    elif how == 2:
        members.append(members[place])
    elif how == 3:
        members[place] = (members[place][0] + random.choice(ODD_TEXTS[3:]), members[place][1])
    else:
        odd = random.choice(
            ("../../odd", "/tmp/odd", "odd/", "constants.pkl", "a/constants.pkl", "é", "x" * 200, "a.extxyz")
        )
        members.append((odd, random.randbytes(30)))
    return _zipped(members, random)


def _zipped(members: list[tuple[str, bytes]], random: Random) -> bytes:
    import warnings

    stream = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, member in members:
            archive.writestr(name, member)
    return stream.getvalue()


def _array_changed(content: bytes, random: Random) -> bytes | None:
    """An array of NumPy with other numbers, another shape or another type."""
    if not content.startswith(b"\x93NUMPY"):
        return None
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception:  # changed before
        return None
    how = random.randrange(6)
    if how == 0 and array.size:
        array = array.copy()
        with np.errstate(all="ignore"):
            odd = random.choice((np.nan, np.inf, -1, 0, 1e30, 119, 255))
            if array.dtype.kind in "iub" and not np.isfinite(odd):
                odd = -1
            array.flat[random.randrange(array.size)] = np.array(odd).astype(array.dtype)
    elif how == 1:
        array = array[..., : random.randrange(array.shape[-1] + 1)] if array.ndim else array[None]
    elif how == 2:
        array = array[: random.randrange(len(array) + 1)] if array.ndim else array[None]
    elif how == 3:
        array = array.reshape(-1)
    elif how == 4:
        array = array.astype(random.choice(("i1", "f2", "f4", "c16", "U8", "?", ">f8", "M8[s]")), casting="unsafe")
    else:
        array = np.repeat(array[None], random.randrange(3), axis=0)
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _safetensors_changed(content: bytes, random: Random) -> bytes | None:
    """The header of a safetensors file, which is JSON."""
    length = int.from_bytes(content[:8], "little")
    if not (2 <= length <= len(content) - 8 and content[8:9] == b"{"):
        return None
    header = _json_changed(content[8 : 8 + length], random)
    if header is None or random.random() < 0.5:
        return content[: 8 + length] + bytes_changed(content[8 + length :], random)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _json_changed(content: bytes, random: Random) -> bytes | None:
    """A value exchanged, a key dropped, renamed or given another type, a list longer, everything very deep."""
    if content[:1] not in (b"{", b"["):
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if random.random() < 0.02:
        depth = random.choice((50, 2_000, 100_000))
        return b"[" * depth + content + b"]" * depth
    return json.dumps(_value_changed(value, random)).encode()


def _value_changed(value: Any, random: Random) -> Any:
    """Down to a random depth, then one change."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(sorted(value))
        how = random.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.16:
            return {(str(random.choice(ODD_TEXTS)) if k == key else k): v for k, v in value.items()}
        return value | {key: _value_changed(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        how = random.random()
        if how < 0.08:
            return value[:place] + value[place + 1 :]
        if how < 0.16:
            return value + [value[place]] * random.choice((1, 3))
        return [*value[:place], _value_changed(value[place], random), *value[place + 1 :]]
    if isinstance(value, str) and random.random() < 0.4:
        return random.choice(ODD_TEXTS + ODD_NUMBERS)
    return random.choice(ODD_VALUES)


def _text_changed(content: bytes, random: Random) -> bytes | None:
    """Numbers, words and lines exchanged, lost or repeated."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    numbers = list(_NUMBER.finditer(text))
    how = random.randrange(8)
    if how < 3 and numbers:
        place = random.choice(numbers)
        return (text[: place.start()] + random.choice(ODD_NUMBERS) + text[place.end() :]).encode(errors="replace")
    words = list(re.finditer(r"[^\s=:\"]+", text))
    if how < 5 and words:
        place, other = random.choice(words), random.choice(words)
        new = random.choice(("", other[0], random.choice(ODD_TEXTS), place[0].swapcase(), place[0][:-1]))
        return (text[: place.start()] + new + text[place.end() :]).encode(errors="replace")
    lines = text.splitlines(keepends=True)
    if how < 7 and lines:
        place = random.randrange(len(lines))
        some = random.choice(
            ([], [lines[place]] * 2, [random.choice(lines)], ["\n", lines[place]], [lines[place].strip()])
        )
        return "".join([*lines[:place], *some, *lines[place + 1 :]]).encode()
    changes = (text.replace("\n", "\r\n"), text.replace(" ", "\t"), text.upper(), text + text, text.replace("\n", ""))
    return random.choice(changes).encode()

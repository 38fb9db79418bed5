"""MATLAB 5 files: numeric matrices alone, read with every length checked; a file can make SciPy's reader crash the process."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pmx.contract import DataError

LARGEST = 1 << 28  # bytes that one variable may take once it is unpacked
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, PACKED, NUMERIC = 14, 15, range(6, 16)


def variables(raw: bytes, file: Path) -> dict[str, np.ndarray]:
    """The real numeric variables of a MATLAB 5 file, flattened, float64 [value]; others are left out.

    Args:
        raw: the file's bytes.
        file: for errors.
    """
    order = {b"IM": "<", b"MI": ">"}.get(raw[126:128]) if raw.startswith(b"MATLAB 5.0") else None
    if order is None:
        raise DataError(f"{file}: no MATLAB 5 file -> save it with -v6 or -v7, or take it from its home")
    found = {}
    try:
        for kind, data in _elements(memoryview(raw)[128:], order):
            if kind == PACKED:
                packer = zlib.decompressobj()
                data = memoryview(packer.decompress(data, LARGEST))
                if packer.unconsumed_tail:
                    raise ValueError(f"a variable unpacks to more than {LARGEST:,} bytes")
                kind, data = next(_elements(data, order))
            if kind == MATRIX and (variable := _matrix(data, order)):
                found[variable[0]] = variable[1]
    except (ValueError, struct.error, zlib.error, StopIteration, UnicodeDecodeError) as error:
        raise DataError(f"{file}: broken MATLAB file ({error or 'it ends too soon'}) -> take the whole file from its home") from None
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and bytes of each element; one of up to four bytes shares its tag."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        begin, small = at + 8, kind >> 16
        if small:
            kind, size, begin = kind & 0xFFFF, small, at + 4
        if begin + size > len(data) or (small and size > 4):
            raise ValueError(f"an element of {size:,} bytes at byte {at:,} ends beyond the file")
        yield kind, data[begin : begin + size]
        at = at + 8 if small else begin + size + (0 if kind == PACKED else -size % 8)


def _matrix(data: memoryview, order: str) -> tuple[str, np.ndarray] | None:
    """Name and values of a matrix; None where it is complex, sparse or no matrix of numbers."""
    parts = _elements(data, order)
    flags = struct.unpack_from(order + "I", next(parts)[1])[0]
    sizes = np.frombuffer(next(parts)[1], order + "i4")
    name = bytes(next(parts)[1]).decode("ascii")
    if flags & 0xFF not in NUMERIC or flags & 0x800:
        return None
    kind, values = next(parts)
    if kind not in TYPES:
        raise ValueError(f"variable {name} holds elements of the unknown type {kind}")
    found = np.frombuffer(values, order + TYPES[kind]).astype(np.float64)
    if len(found) != np.prod(sizes, dtype=np.int64):
        raise ValueError(f"variable {name} has {len(found):,} values, its size says {' x '.join(map(str, sizes))}")
    return name, found

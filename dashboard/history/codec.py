"""Heads and size curves as compact BLOBs and back, bit for bit.

A head is 256 token ids with one or two float32 probabilities each; a size curve is 101 whole numbers that never fall.
Three steps make them small: neighbours are subtracted (probabilities fall along a head, so the differences of their
bit patterns have leading zeros), the bytes are laid out plane by plane (all lowest bytes, then all second ones ...),
and zlib packs the result. zlib's checksum is what notices damage.

    head  = version, flags, count (uint16) | zlib(id planes, probability planes[, raw probability planes])
    curve = version, 0,     count (uint16) | zlib(curve planes)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dashboard.errors import HistoryDamaged
from dashboard.sampling.trace import HEAD_SIZE, SIZE_CURVE_P, Floats32, TokenIds

_VERSION: Final = 1
_WIDE_IDS: Final = 1
_ONE_DISTRIBUTION: Final = 2
_HEADER: Final = struct.Struct("<BBH")
_WORD: Final = 4
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of several steps: (steps, head size) each.

    ``raw_probabilities`` is the same array as ``probabilities`` where no step had a reshaped distribution.
    """

    ids: TokenIds
    probabilities: Floats32
    raw_probabilities: Floats32


def encode_head(ids: TokenIds, probabilities: Floats32, raw_probabilities: Floats32) -> bytes:
    """One head as bytes.

    Args:
        ids: (head size,) uint16 or uint32.
        probabilities: (head size,) float32, shaped.
        raw_probabilities: (head size,) float32; stored once if its bits are those of ``probabilities``.
    """
    wide = ids.dtype.itemsize == _WORD
    words, raw_words = _words(probabilities), _words(raw_probabilities)
    one_distribution = np.array_equal(words, raw_words)
    flags = (_WIDE_IDS if wide else 0) | (_ONE_DISTRIBUTION if one_distribution else 0)
    planes = _planes(ids.astype("<u4" if wide else "<u2")) + _planes(_differences(words))
    if not one_distribution:
        planes += _planes(_differences(raw_words))
    return _HEADER.pack(_VERSION, flags, len(ids)) + zlib.compress(planes, _LEVEL)


def decode_heads(blobs: Sequence[bytes]) -> Heads:
    """The heads of several steps of one run.

    Raises:
        HistoryDamaged: a blob is damaged, of an unknown version, or differs in width from the others.
    """
    if not blobs:
        empty = np.empty((0, HEAD_SIZE), np.float32)
        return Heads(np.empty((0, HEAD_SIZE), np.uint16), empty, empty)
    flags, count = _header(blobs[0])
    id_width = _WORD if flags & _WIDE_IDS else 2
    ids_end, distribution_size = id_width * count, _WORD * count

    contents, all_one = [], True
    for blob in blobs:
        own_flags, own_count = _header(blob)
        one_distribution = bool(own_flags & _ONE_DISTRIBUTION)
        if own_count != count or (own_flags ^ flags) & _WIDE_IDS:
            raise _damaged("two steps differ in the size of their heads")
        contents.append(_content(blob, ids_end + distribution_size * (1 if one_distribution else 2)))
        all_one = all_one and one_distribution

    def gather(start: int, end: int | None, width: int) -> NDArray[Any]:
        return _values(b"".join(content[start:end] for content in contents), len(contents), count, width)

    probabilities = _sums(gather(ids_end, ids_end + distribution_size, _WORD)).view(np.float32)
    # The last planes of a blob are its raw ones, or the only ones it has.
    raw = probabilities if all_one else _sums(gather(-distribution_size, None, _WORD)).view(np.float32)
    return Heads(gather(0, ids_end, id_width), probabilities, raw)


def encode_curve(curve: NDArray[np.int32]) -> bytes:
    """One size curve, (len(SIZE_CURVE_P),) int32, as bytes."""
    differences = _differences(np.ascontiguousarray(curve, dtype="<i4").view("<u4"))
    return _HEADER.pack(_VERSION, 0, len(curve)) + zlib.compress(_planes(differences), _LEVEL)


def decode_curves(blobs: Sequence[bytes]) -> NDArray[np.int32]:
    """(steps, len(SIZE_CURVE_P)) int32 from the blobs of several steps. Raises HistoryDamaged for a damaged blob."""
    count = len(SIZE_CURVE_P)
    contents = []
    for blob in blobs:
        if _header(blob)[1] != count:
            raise _damaged("a size curve has another number of points")
        contents.append(_content(blob, _WORD * count))
    return _sums(_values(b"".join(contents), len(contents), count, _WORD)).view(np.int32)


def encode_ids(ids: Sequence[int]) -> bytes:
    """Token ids of a prompt as bytes: uint32, lowest byte first."""
    return np.asarray(ids, dtype="<u4").tobytes()


def decode_ids(blob: bytes) -> tuple[int, ...]:
    """Token ids from ``encode_ids``. Raises HistoryDamaged for a damaged blob."""
    if len(blob) % _WORD:
        raise _damaged("the ids of its prompt are incomplete")
    return tuple(np.frombuffer(blob, dtype="<u4").tolist())


def _words(values: Floats32) -> NDArray[np.uint32]:
    """The bit patterns of float32 values."""
    return np.ascontiguousarray(values, dtype="<f4").view("<u4")


def _differences(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """What each word adds to the one before it, modulo 2**32, folded so that small falls are small numbers too.

    Folding (0, -1, 1, -2 ... become 0, 1, 2, 3 ...) serves heads, which fall, and curves, which rise, alike.
    """
    steps = np.diff(words, prepend=np.uint32(0)).view(np.int32)
    return ((steps << 1) ^ (steps >> 31)).view(np.uint32)


def _sums(folded: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """(steps, count) words from the differences of each row."""
    steps = (folded >> np.uint32(1)) ^ (np.uint32(0) - (folded & np.uint32(1)))
    return np.cumsum(steps, axis=1, dtype=np.uint32)


def _planes(values: NDArray[Any]) -> bytes:
    """The bytes of little-endian values, all lowest bytes first."""
    return values.view(np.uint8).reshape(len(values), values.dtype.itemsize).T.tobytes()


def _values(planes: bytes, rows: int, count: int, width: int) -> NDArray[Any]:
    """(rows, count) unsigned values of ``width`` bytes from the planes of each row."""
    shaped = np.frombuffer(planes, np.uint8).reshape(rows, width, count)
    little_endian = np.ascontiguousarray(shaped.transpose(0, 2, 1)).view(f"<u{width}")
    return little_endian.reshape(rows, count).astype(f"u{width}", copy=False)


def _header(blob: bytes) -> tuple[int, int]:
    """Flags and count."""
    if len(blob) < _HEADER.size:
        raise _damaged("the record of a step is incomplete")
    version, flags, count = _HEADER.unpack_from(blob)
    if version != _VERSION:
        raise _damaged(f"a step is stored in form {version}, and only form {_VERSION} is known here")
    return flags, count


def _content(blob: bytes, size: int) -> bytes:
    """The unpacked bytes after the header, which must be ``size`` many."""
    unpacker = zlib.decompressobj()
    try:
        # The limit keeps a forged blob from unpacking to gigabytes.
        content = unpacker.decompress(memoryview(blob)[_HEADER.size :], size + 1)
    except zlib.error as error:
        raise _damaged("the record of a step does not match its checksum") from error
    if len(content) != size or not unpacker.eof:
        raise _damaged("the record of a step has another length than it says")
    return content


def _damaged(what: str) -> HistoryDamaged:
    return HistoryDamaged(
        f"This run cannot be read from the history: {what}; restore the database from a backup or delete the run."
    )

"""Heads and curves come back bit for bit, small, and damage is noticed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dashboard.errors import HistoryDamaged
from dashboard.history import codec
from dashboard.sampling.trace import HEAD_SIZE, SIZE_CURVE_P
from tests.history.samples import sample_steps

FLOATS = st.floats(width=32, allow_nan=False)


@st.composite
def heads(draw: st.DrawFn) -> list[tuple[Any, Any, Any]]:
    """Heads of one run: of one width and one kind of ids, any float32 in any order."""
    width = draw(st.integers(1, HEAD_SIZE))
    dtype = draw(st.sampled_from([np.uint16, np.uint32]))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        ids = draw(hnp.arrays(dtype, width))
        probabilities = draw(hnp.arrays(np.float32, width, elements=FLOATS))
        reshaped = draw(st.booleans())
        raw = draw(hnp.arrays(np.float32, width, elements=FLOATS)) if reshaped else probabilities
        rows.append((ids, probabilities, raw))
    return rows


@settings(deadline=None, max_examples=60)
@given(heads())
def test_any_heads_come_back_bit_for_bit(rows: list[tuple[Any, Any, Any]]) -> None:
    decoded = codec.decode_heads([codec.encode_head(*row) for row in rows])
    for i, (ids, probabilities, raw) in enumerate(rows):
        assert decoded.ids.dtype == ids.dtype
        assert decoded.ids[i].tobytes() == ids.tobytes()
        assert decoded.probabilities[i].tobytes() == probabilities.tobytes()
        assert decoded.raw_probabilities[i].tobytes() == raw.tobytes()


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.int32, (3, len(SIZE_CURVE_P))))
def test_any_curves_come_back_bit_for_bit(curves: Any) -> None:
    decoded = codec.decode_curves([codec.encode_curve(curve) for curve in curves])
    assert decoded.dtype == np.int32
    assert decoded.tobytes() == curves.tobytes()


def test_edge_values_come_back_with_their_sign_and_smallest_bit() -> None:
    values = np.array([1.0, 1.0, 1e-45, 1.1754944e-38, 0.0, -0.0, np.inf], dtype=np.float32)
    ids = np.arange(7, dtype=np.uint16)
    decoded = codec.decode_heads([codec.encode_head(ids, values, values[::-1].copy())])
    assert decoded.probabilities[0].tobytes() == values.tobytes()
    assert decoded.raw_probabilities[0].tobytes() == values[::-1].tobytes()


def test_one_distribution_is_kept_once_in_memory_too() -> None:
    step = sample_steps(1)[0]
    blob = codec.encode_head(step.head_ids, step.head_probabilities, step.head_raw_probabilities)
    decoded = codec.decode_heads([blob])
    assert decoded.raw_probabilities is decoded.probabilities


def test_no_steps_decode_to_arrays_of_length_0() -> None:
    assert codec.decode_heads([]).probabilities.shape == (0, HEAD_SIZE)
    assert codec.decode_curves([]).shape == (0, len(SIZE_CURVE_P))


@pytest.mark.parametrize(("reshaped", "limit"), [(False, 1_500), (True, 2_500)])
def test_a_step_takes_at_most_this_many_bytes(reshaped: bool, limit: int) -> None:
    steps = sample_steps(20, reshaped=reshaped)
    sizes = [
        len(codec.encode_head(s.head_ids, s.head_probabilities, s.head_raw_probabilities))
        + len(codec.encode_curve(s.size_curve))
        for s in steps
    ]
    assert np.mean(sizes) <= limit


def test_300_steps_decode_in_milliseconds() -> None:
    step = sample_steps(1, reshaped=True)[0]
    heads = [codec.encode_head(step.head_ids, step.head_probabilities, step.head_raw_probabilities)] * 300
    curves = [codec.encode_curve(step.size_curve)] * 300

    def once() -> float:
        started = time.perf_counter()
        codec.decode_heads(heads)
        codec.decode_curves(curves)
        return time.perf_counter() - started

    # Measured: 10 ms. The limit is wide, because the machine of a test may be busy.
    assert min(once() for _ in range(5)) < 0.1


def _blob() -> bytes:
    step = sample_steps(1)[0]
    return codec.encode_head(step.head_ids, step.head_probabilities, step.head_raw_probabilities)


@pytest.mark.parametrize("end", [0, 3, 4, 20, -1])
def test_a_cut_off_head_is_reported(end: int) -> None:
    with pytest.raises(HistoryDamaged, match="cannot be read"):
        codec.decode_heads([_blob()[:end]])


@pytest.mark.parametrize("position", [0, 1, 2, 3, 4, 100, 900, -1])
def test_a_changed_byte_is_reported(position: int) -> None:
    damaged = bytearray(_blob())
    damaged[position] ^= 0x03
    with pytest.raises(HistoryDamaged, match="cannot be read"):
        codec.decode_heads([bytes(damaged)])


def test_a_forged_head_does_not_unpack_beyond_its_size() -> None:
    import zlib

    forged = _blob()[:4] + zlib.compress(b"\0" * 10_000_000)
    with pytest.raises(HistoryDamaged, match="another length"):
        codec.decode_heads([forged])


def test_a_damaged_curve_and_damaged_prompt_ids_are_reported() -> None:
    with pytest.raises(HistoryDamaged):
        codec.decode_curves([codec.encode_curve(np.arange(5, dtype=np.int32))])
    with pytest.raises(HistoryDamaged):
        codec.decode_ids(b"12345")

"""Tokens that are given, not drawn: what a branch begins with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.errors import PromptError
from dashboard.sampling.engine import Drawn, Ended, generate
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import STEP_NUMBERS, Step, StopReason, Trace
from tests.sampling.reference import SmallModel, random_model, reference, tokens
from tests.sampling.test_engine import any_settings

PROMPT = [3, 1, 4, 1, 5]


@pytest.fixture(scope="module")
def model() -> SmallModel:
    return random_model()


def run_given(
    model: SmallModel, rows: list[SamplingSettings], given_ids: list[int]
) -> tuple[list[list[Step]], list[StopReason]]:
    steps: list[list[Step]] = [[] for _ in rows]
    reasons: dict[int, StopReason] = {}
    for event in generate(model, PROMPT, rows, given_ids=given_ids):
        if isinstance(event, Drawn):
            steps[event.row].append(event.step)
        else:
            reasons[event.row] = event.reason
    return steps, [reasons[row] for row in range(len(rows))]


def assert_close(one: Trace, other: Trace) -> None:
    """Equal but for the rounding of a forward pass over many tokens."""
    for name in (*[n for n in STEP_NUMBERS if n not in {"position", "token_id"}],):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=2e-4, atol=2e-5, err_msg=name)
    np.testing.assert_array_equal(one.token_ids, other.token_ids)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=any_settings(), given_ids=st.lists(st.integers(0, 299), min_size=1, max_size=8))
def test_after_given_tokens_a_row_draws_what_generate_draws_after_the_same_prompt(
    model: SmallModel, row: SamplingSettings, given_ids: list[int]
) -> None:
    (steps,), (reason,) = run_given(model, [row], given_ids)
    left = row.max_new_tokens - len(given_ids)
    assert tokens(steps)[: len(given_ids)] == given_ids[: row.max_new_tokens]
    assert [step.position for step in steps] == list(range(len(steps)))
    assert reason == "length"
    assert len(steps) == row.max_new_tokens
    if left > 0:
        alone = reference(model, [*PROMPT, *given_ids], replace(row, max_new_tokens=left))
        assert tokens(steps)[len(given_ids) :] == alone.tokens


def test_rows_with_other_settings_share_the_given_tokens(model: SmallModel) -> None:
    rows = [SamplingSettings(top_p=p, seed=seed, max_new_tokens=9) for seed, p in enumerate((0.2, 0.6, 0.95))]
    steps, _ = run_given(model, rows, [7, 8])
    for row, drawn in zip(rows, steps, strict=True):
        alone = reference(model, [*PROMPT, 7, 8], replace(row, max_new_tokens=7))
        assert tokens(drawn) == [7, 8, *alone.tokens]


@pytest.mark.parametrize("length", [1, 63, 64, 65])
def test_given_steps_are_recorded_as_if_they_had_been_drawn(model: SmallModel, length: int) -> None:
    row = SamplingSettings(top_p=0.8, temperature=1.3, repetition_penalty=1.2, seed=4, max_new_tokens=70)
    (drawn,), _ = run_given(model, [row], [])
    (again,), _ = run_given(model, [row], tokens(drawn)[:length])
    assert_close(Trace.from_steps(drawn[:length]), Trace.from_steps(again[:length]))


def test_a_given_token_below_the_cut_has_no_final_probability_but_all_other_numbers(model: SmallModel) -> None:
    row = SamplingSettings(top_p=0.3, seed=1, max_new_tokens=3)
    (free,), _ = run_given(model, [row], [])
    dropped = free[0].first_dropped
    assert dropped is not None
    (steps,), _ = run_given(model, [row], [dropped.token_id])
    forced = steps[0]
    assert forced.final_probability == 0
    assert forced.probability == pytest.approx(dropped.probability)
    assert forced.rank == forced.kept_size + 1
    assert forced.admitting_p >= 0.3
    assert forced.surprisal == pytest.approx(-np.log2(forced.raw_probability))


def test_a_given_end_of_text_ends_the_row(model: SmallModel) -> None:
    ending = SmallModel(model.model, model.context_length, frozenset([9]))
    steps, reasons = run_given(ending, [SamplingSettings(seed=1), SamplingSettings(seed=2)], [5, 9])
    assert [tokens(row) for row in steps] == [[5, 9], [5, 9]]
    assert reasons == ["eos", "eos"]


def test_given_tokens_may_fill_the_context_but_not_exceed_it(model: SmallModel) -> None:
    room = model.context_length - len(PROMPT)
    (steps,), reasons = run_given(model, [SamplingSettings(seed=1, max_new_tokens=500)], [7] * room)
    assert len(steps) == room
    assert reasons == ["context"]
    with pytest.raises(PromptError, match="at most 96"):
        run_given(model, [SamplingSettings(seed=1)], [7] * (room + 1))


def test_a_row_stopped_among_the_given_tokens_ends_there(model: SmallModel) -> None:
    events: list[Drawn | Ended] = []
    for event in generate(
        model, PROMPT, [SamplingSettings(seed=1)], given_ids=[1, 2, 3], should_stop=lambda row: len(events) == 2
    ):
        events.append(event)
    assert [type(event) for event in events] == [Drawn, Drawn, Ended]
    assert events[-1] == Ended(0, "stopped")

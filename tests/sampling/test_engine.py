"""The engine draws what transformers' ``generate`` draws, records it, and ends as it should."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.errors import ModelError, PromptError
from dashboard.sampling.acceleration import accelerate
from dashboard.sampling.engine import Drawn, Ended, generate
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.truncation import Pipeline, truncate
from tests.sampling.reference import SmallModel, random_model, reference, run, tokens

PROMPT = [5, 17, 5, 80, 17, 2]

SINGLE_KNOBS: list[dict[str, Any]] = [
    {},
    {"top_p": 1.0},
    {"top_p": 0.5},
    {"top_p": 0.05},
    {"top_p": 1e-9},
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 100_000},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"typical_p": 0.4},
    {"epsilon_cutoff": 0.01},
    {"eta_cutoff": 0.02},
    {"repetition_penalty": 1.8},
    {"repetition_penalty": 0.5},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
]


@pytest.fixture(scope="module")
def model() -> SmallModel:
    return random_model()


def assert_identical(model: SmallModel, rows: list[SamplingSettings]) -> None:
    """Tokens, kept sets and stored numbers of each row are those of ``generate`` called alone."""
    all_steps, _ = run(model, PROMPT, rows)
    for steps, row in zip(all_steps, rows, strict=True):
        theirs = reference(model, PROMPT, row)
        assert tokens(steps) == theirs.tokens
        ids = [*PROMPT]
        for step, logits, scores in zip(steps, theirs.logits, theirs.scores, strict=True):
            ours = truncate(Pipeline.of(row), torch.tensor(ids), logits)
            assert torch.equal(ours.scores, scores)
            assert step.kept_size == int(torch.isfinite(scores).sum())
            assert step.final_probability == pytest.approx(float(scores.softmax(-1)[step.token_id]), rel=1e-4)
            assert step.raw_probability == pytest.approx(float(logits.softmax(-1)[step.token_id]), rel=1e-4)
            ids.append(step.token_id)


@pytest.mark.parametrize("knobs", SINGLE_KNOBS, ids=str)
def test_one_row_draws_the_tokens_and_kept_sets_of_generate(model: SmallModel, knobs: dict[str, Any]) -> None:
    assert_identical(model, [SamplingSettings(**knobs, seed=11, max_new_tokens=25)])


def any_settings() -> st.SearchStrategy[SamplingSettings]:
    """Settings with any of the knobs on or off."""
    return st.builds(
        SamplingSettings,
        top_p=st.sampled_from([0.05, 0.3, 0.5, 0.9, 0.95, 1.0]) | st.floats(0.001, 1.0),
        temperature=st.just(1.0) | st.floats(0.2, 3.0),
        top_k=st.just(0) | st.integers(1, 400),
        min_p=st.just(0.0) | st.floats(0.0, 0.5),
        typical_p=st.just(1.0) | st.floats(0.1, 0.99),
        epsilon_cutoff=st.just(0.0) | st.floats(0.0001, 0.2),
        eta_cutoff=st.just(0.0) | st.floats(0.0001, 0.2),
        repetition_penalty=st.just(1.0) | st.floats(0.5, 2.0),
        no_repeat_ngram_size=st.integers(0, 3),
        max_new_tokens=st.integers(1, 12),
        seed=st.integers(0, 2**63 - 1),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=any_settings())
def test_any_combination_of_knobs_draws_what_generate_draws(model: SmallModel, row: SamplingSettings) -> None:
    assert_identical(model, [row])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(any_settings(), min_size=2, max_size=6))
def test_rows_in_one_batch_draw_what_generate_draws_for_each_alone(
    model: SmallModel, rows: list[SamplingSettings]
) -> None:
    assert_identical(model, rows)


def test_a_second_run_with_the_same_seed_is_equal_in_every_number(model: SmallModel) -> None:
    row = SamplingSettings(seed=3, temperature=1.2, max_new_tokens=8)
    (first,), _ = run(model, PROMPT, [row])
    (second,), _ = run(model, PROMPT, [row])
    for one, other in zip(first, second, strict=True):
        for name in one.__slots__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_global_random_generator_is_left_alone(model: SmallModel) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run(model, PROMPT, [SamplingSettings(seed=1, max_new_tokens=5)])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_ends_after_max_new_tokens(model: SmallModel) -> None:
    (steps,), reasons = run(model, PROMPT, [SamplingSettings(seed=1, max_new_tokens=4)])
    assert [step.position for step in steps] == [0, 1, 2, 3]
    assert reasons == ["length"]


def test_a_run_ends_when_the_context_is_full_and_says_so(model: SmallModel) -> None:
    prompt = list(range(90))
    (steps,), reasons = run(model, prompt, [SamplingSettings(seed=1, max_new_tokens=50)])
    assert len(prompt) + len(steps) == model.context_length
    assert reasons == ["context"]


def test_a_row_ends_at_the_end_of_text_token_and_the_others_go_on(model: SmallModel) -> None:
    rows = [SamplingSettings(seed=seed, max_new_tokens=20) for seed in range(4)]
    free, _ = run(model, PROMPT, rows)
    eos = free[1][3].token_id
    ending = SmallModel(model.model, model.context_length, frozenset([eos]))
    steps, reasons = run(ending, PROMPT, rows)
    for row, theirs, reason in zip(steps, free, reasons, strict=True):
        expected = tokens(theirs)
        if eos in expected:
            expected = expected[: expected.index(eos) + 1]
        assert tokens(row) == expected
        assert reason == ("eos" if expected[-1] == eos else "length")
    assert "eos" in reasons
    assert "length" in reasons


def test_an_ended_row_is_what_generate_gives_with_that_end_of_text_token(model: SmallModel) -> None:
    row = SamplingSettings(seed=2, max_new_tokens=20)
    (free,), _ = run(model, PROMPT, [row])
    ending = SmallModel(model.model, model.context_length, frozenset([free[5].token_id, free[9].token_id]))
    (steps,), _ = run(ending, PROMPT, [row])
    assert tokens(steps) == reference(ending, PROMPT, row).tokens


def test_a_stopped_row_ends_before_its_next_step_and_the_others_go_on(model: SmallModel) -> None:
    rows = [SamplingSettings(seed=seed, max_new_tokens=6) for seed in range(3)]
    drawn = [0, 0, 0]
    reasons = {}
    for event in generate(model, PROMPT, rows, should_stop=lambda row: row == 1 and drawn[1] == 2):
        if isinstance(event, Drawn):
            drawn[event.row] += 1
        else:
            reasons[event.row] = event.reason
    assert drawn == [6, 2, 6]
    assert reasons == {0: "length", 1: "stopped", 2: "length"}


def test_a_run_stopped_at_once_draws_nothing(model: SmallModel) -> None:
    events = list(generate(model, PROMPT, [SamplingSettings(seed=1)], should_stop=lambda row: True))
    assert events == [Ended(0, "stopped")]


@pytest.mark.parametrize(("prompt", "says"), [([], "empty"), (list(range(96)), "at most 96")])
def test_a_prompt_without_room_is_refused_in_a_sentence(model: SmallModel, prompt: list[int], says: str) -> None:
    with pytest.raises(PromptError, match=says):
        next(generate(model, prompt, [SamplingSettings(seed=1)]))


def test_a_model_with_broken_weights_is_an_error_that_says_so() -> None:
    broken = random_model(seed=1)
    with torch.no_grad():
        broken.model.lm_head.weight[3] = torch.nan
    with pytest.raises(ModelError, match="not finite"):
        list(generate(broken, PROMPT, [SamplingSettings(seed=1)]))


def test_a_one_token_vocabulary_draws_that_token_with_certainty() -> None:
    single = random_model(vocabulary=1)
    (steps,), _ = run(single, [0], [SamplingSettings(seed=1, max_new_tokens=2)])
    for step in steps:
        assert (step.token_id, step.rank, step.nucleus_size, step.kept_size) == (0, 1, 1, 1)
        assert (step.probability, step.nucleus_mass, step.entropy, step.admitting_p) == (1.0, 1.0, 0.0, 0.0)
        assert step.first_dropped is None


def test_packed_products_draw_the_same_tokens_as_the_plain_modules() -> None:
    plain, packed = random_model(vocabulary=2000, seed=4), random_model(vocabulary=2000, seed=4)
    if not accelerate(packed.model, only_if_faster=False):
        pytest.skip("this build of torch has no packed products of oneDNN")
    rows = [SamplingSettings(top_p=p, seed=9, max_new_tokens=40) for p in (0.3, 0.6, 0.9, 1.0)]
    steps, _ = run(packed, PROMPT, rows)
    for ours, row in zip(steps, rows, strict=True):
        assert tokens(ours) == reference(plain, PROMPT, row).tokens

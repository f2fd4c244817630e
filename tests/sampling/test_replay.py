"""Known texts, read in one pass: equal to the run that wrote them, and to transformers' own logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dashboard.errors import ModelError, PromptError
from dashboard.sampling.replay import Reading, Window, read, replay, windows_of
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Trace
from dashboard.sampling.truncation import Pipeline, truncate
from dashboard.sampling.what_if import smallest_p
from tests.sampling.reference import SmallModel, random_model, run, tokens
from tests.sampling.test_engine import any_settings
from tests.sampling.test_given import assert_close

PROMPT = [3, 1, 4, 1, 5]


@pytest.fixture(scope="module")
def model() -> SmallModel:
    return random_model()


def logits_of(model: SmallModel, ids: Sequence[int]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model.model(input_ids=torch.tensor([list(ids)])).logits[0].float()
    return logits


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=any_settings())
def test_a_replay_with_the_runs_own_settings_gives_its_trace_again(model: SmallModel, row: SamplingSettings) -> None:
    (steps,), _ = run(model, PROMPT, [row])
    again = replay(read(model, PROMPT, tokens(steps)), row)
    # A token within rounding of a border may fall on its other side; with these models none does.
    assert_close(Trace.from_steps(steps), again)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=any_settings(), other=any_settings())
def test_a_replay_with_other_settings_keeps_what_their_pipeline_keeps(
    model: SmallModel, row: SamplingSettings, other: SamplingSettings
) -> None:
    (steps,), _ = run(model, PROMPT, [row])
    ids = tokens(steps)
    reading = read(model, PROMPT, ids)
    trace = replay(reading, other)
    for position, token_id in enumerate(ids):
        truncated = truncate(
            Pipeline.of(other), torch.tensor([*PROMPT, *ids[:position]]), reading.logits(position, position + 1)[0]
        )
        kept = truncated.scores > -torch.inf
        assert trace.kept_size[position] == int(kept.sum())
        assert (trace.final_probability[position] > 0) == bool(kept[token_id])
        assert trace.token_ids[position] == token_id


def test_the_logits_of_a_reading_are_those_of_the_model(model: SmallModel) -> None:
    ids = [*range(40)]
    reading = read(model, PROMPT, ids)
    expected = logits_of(model, [*PROMPT, *ids])[len(PROMPT) - 1 : -1]
    torch.testing.assert_close(reading.logits(0, 40), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(reading.logits(7, 8), expected[7:8], rtol=1e-4, atol=1e-4)


def test_a_text_that_fills_the_context_is_read_in_one_window(model: SmallModel) -> None:
    reading = read(model, [1], [2] * model.context_length)
    assert reading.windows == (Window(0, 0, model.context_length),)
    assert len(replay(reading, SamplingSettings())) == model.context_length


def test_each_token_of_a_long_text_is_predicted_from_its_own_window(model: SmallModel) -> None:
    generator = np.random.default_rng(0)
    ids = generator.integers(0, 300, 333).tolist()
    reading = read(model, [1], ids)
    sequence = [1, *ids]
    for window in reading.windows:
        expected = logits_of(model, sequence[window.first : window.end])
        for position in range(window.scored, window.end):
            torch.testing.assert_close(
                reading.logits(position, position + 1)[0], expected[position - window.first], rtol=1e-4, atol=1e-4
            )


@given(length=st.integers(2, 900), context=st.integers(2, 200))
def test_windows_predict_every_token_once_with_half_a_context_before_it(length: int, context: int) -> None:
    windows = windows_of(length, context)
    scored = [position for window in windows for position in range(window.scored, window.end)]
    assert scored == list(range(length - 1))
    for window in windows:
        assert 0 <= window.first <= window.scored < window.end
        assert window.end - window.first <= context
        if window.first:
            assert window.scored - window.first >= context - context // 2 - 1


def test_a_model_that_bends_its_logits_is_read_as_it_is() -> None:
    bent = random_model(seed=3)
    forward = bent.model.forward

    def capped(*args: object, **kwargs: object) -> object:
        outputs = forward(*args, **kwargs)
        outputs.logits = 3 * torch.tanh(outputs.logits / 3)
        return outputs

    bent.model.forward = capped  # as Gemma caps its logits after the output layer
    reading = read(bent, PROMPT, [1, 2, 3])
    expected = logits_of(bent, [*PROMPT, 1, 2, 3])[len(PROMPT) - 1 : -1]
    assert float(expected.abs().max()) <= 3
    torch.testing.assert_close(reading.logits(0, 3), expected)


def test_the_smallest_p_of_a_replay_admits_the_text_and_no_smaller_one_does(model: SmallModel) -> None:
    reading = read(model, PROMPT, [5, 200, 17, 4])
    edge = smallest_p(replay(reading, SamplingSettings(top_p=1.0)))
    above = replay(reading, SamplingSettings(top_p=min(1.0, edge + 1e-5)))
    below = replay(reading, SamplingSettings(top_p=edge - 1e-5))
    assert (above.final_probability > 0).all()
    assert not (below.final_probability > 0).all()


def test_progress_is_told_for_every_token(model: SmallModel) -> None:
    told: list[tuple[int, int]] = []
    reading: Reading = read(model, [1], [2] * 300, lambda done, total: told.append((done, total)))
    assert told[-1] == (300, 300)
    told.clear()
    replay(reading, SamplingSettings(), lambda done, total: told.append((done, total)))
    assert told[-1] == (300, 300)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(("context", "text"), [([], [1]), ([1], [])])
def test_nothing_to_read_is_a_sentence(model: SmallModel, context: list[int], text: list[int]) -> None:
    with pytest.raises(PromptError, match="nothing to read"):
        read(model, context, text)


def test_broken_weights_are_an_error_that_says_so() -> None:
    broken = random_model()
    with torch.no_grad():
        broken.model.get_parameter("transformer.wte.weight")[2] = torch.nan
    with pytest.raises(ModelError, match="not finite"):
        read(broken, [1], [2, 3])

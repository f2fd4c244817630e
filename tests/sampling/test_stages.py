"""How a distribution was made, from its logits: every stage is what transformers' classes make of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dashboard.sampling.record import record_step
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.stages import (
    PENALTIES,
    STAGES,
    TRUNCATIONS,
    Draw,
    Penalty,
    Renormalisation,
    Softmax,
    Stages,
    Temperature,
    Truncation,
)
from dashboard.sampling.staging import stages_of
from dashboard.sampling.trace import Step
from dashboard.sampling.truncation import Pipeline, Truncated, truncate
from tests.sampling.reference import SmallModel, random_model, reference, run
from tests.sampling.test_engine import any_settings
from tests.sampling.test_truncation import distributions

IDS = torch.tensor([3, 1, 4, 1, 5, 1])


def more_than_the_head() -> st.SearchStrategy[Tensor]:
    """(V,) logits of 300 to 900 tokens, from flat to peaked, smooth or full of ties."""

    def made(seed: int, size: int, scale: float, rounded: bool) -> Tensor:
        logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale
        return logits.round() if rounded else logits

    return st.builds(made, st.integers(0, 2**32), st.integers(300, 900), st.floats(0.0, 8.0), st.booleans())


def any_logits() -> st.SearchStrategy[Tensor]:
    """(V,) finite logits, as models give them, of at least the six tokens that stand before the step."""
    long_enough = distributions().filter(lambda scores: len(scores) > int(IDS.max()))
    return long_enough.map(lambda scores: scores.nan_to_num(neginf=-5.0)) | more_than_the_head()


def float32(value: float) -> Any:
    """The value, give or take the rounding of 32 bits."""
    return pytest.approx(value, rel=1e-6)


def changes(stages: Stages, kind: type) -> list[Any]:
    return [change for change in stages.changes if isinstance(change, kind)]


def made(knobs: SamplingSettings, logits: Tensor, pick: int = 0) -> tuple[Truncated, Step, Stages]:
    """What the pipeline makes of the logits, the record of a token of some rank, and the stages of the same step."""
    truncated = truncate(Pipeline.of(knobs), IDS, logits)
    drawn = int(truncated.shaped.order.flip(0)[pick % len(logits)])
    step = record_step(0, drawn, truncated, truncated.scores.softmax(dim=-1), knobs.top_p)
    return truncated, step, stages_of(knobs, IDS, logits, drawn)


@settings(max_examples=80, deadline=None)
@given(knobs=any_settings(), logits=any_logits(), pick=st.integers(0, 400))
def test_every_token_is_at_every_stage_what_the_pipeline_makes_of_it(
    knobs: SamplingSettings, logits: Tensor, pick: int
) -> None:
    truncated, step, stages = made(knobs, logits, pick)
    final = truncated.scores.softmax(dim=-1)
    for token in stages.tokens:
        i = token.token_id
        assert token.logit == float(logits[i])
        assert token.tempered == float(truncated.shaped.scores[i])
        assert token.rank == truncated.shaped.rank(i)
        assert token.probability == float(truncated.shaped.probabilities[truncated.shaped.position(i)])
        assert token.raw_probability == pytest.approx(float(logits.double().softmax(-1)[i]), rel=1e-4, abs=1e-30)
        assert token.final_probability == float(final[i])
        assert token.kept == bool(truncated.scores[i] > -torch.inf)
        assert token.kept or token.final_probability == 0
    shown = {token.token_id for token in stages.tokens}
    assert {step.token_id, int(logits.argmax())} <= shown
    assert stages.last_kept_id == step.last_kept.token_id
    assert stages.first_dropped_id == (None if step.first_dropped is None else step.first_dropped.token_id)
    if stages.first_dropped_id is not None:
        assert {stages.last_kept_id, stages.first_dropped_id} <= shown
    assert [token.rank for token in stages.tokens[:12]] == list(range(1, min(12, len(logits)) + 1))


@settings(max_examples=50, deadline=None)
@given(knobs=any_settings(), logits=any_logits())
def test_a_dropped_token_was_dropped_by_the_first_setting_without_which_it_would_have_got_further(
    knobs: SamplingSettings, logits: Tensor
) -> None:
    _, _, stages = made(knobs, logits)
    for token in stages.tokens:
        # The settings up to a stage, and nothing after it, are a pipeline of their own.
        left = {}
        for end in range(len(STAGES) + 1):
            upto = {name: getattr(knobs, name) for name in STAGES[:end]}
            pipeline = Pipeline.of(SamplingSettings(**{"top_p": 1.0, **upto}))
            left[end] = bool(truncate(pipeline, IDS, logits).scores[token.token_id] > -torch.inf)
        took = [STAGES[end - 1] for end in range(1, len(STAGES) + 1) if left[end - 1] and not left[end]]
        assert token.dropped_by == (took[0] if took else None)


@settings(max_examples=80, deadline=None)
@given(knobs=any_settings(), logits=any_logits())
def test_the_numbers_of_tokens_and_their_mass_add_up_from_stage_to_stage(
    knobs: SamplingSettings, logits: Tensor
) -> None:
    truncated, step, stages = made(knobs, logits)
    cuts = changes(stages, Truncation)
    reaching = truncated.shaped.size
    mass = 1.0
    for cut in cuts:
        assert cut.reached == reaching
        assert 1 <= cut.left <= cut.reached
        assert cut.mass <= mass + 1e-6
        reaching, mass = cut.left, cut.mass
    assert reaching == step.kept_size == int((truncated.scores > -torch.inf).sum())
    if cuts:
        assert mass == step.kept_mass
        [renormalised] = changes(stages, Renormalisation)
        assert renormalised.factor == pytest.approx(1 / step.kept_mass)
        for token in stages.tokens:
            if token.kept:
                assert token.final_probability == pytest.approx(
                    token.probability * renormalised.factor, rel=1e-3, abs=1e-30
                )
    else:
        assert not changes(stages, Renormalisation)
    [softmax] = changes(stages, Softmax)
    assert softmax.entropy == pytest.approx(step.entropy, rel=1e-9, abs=1e-9)
    assert softmax.top == pytest.approx(float(step.head_probabilities[0]), rel=1e-5)
    assert stages.changes[-1] == Draw(step.token_id, step.rank, step.final_probability)


@settings(max_examples=100, deadline=None)
@given(knobs=any_settings(), logits=any_logits())
def test_each_active_stage_is_told_once_and_in_order_and_the_others_are_named_as_off(
    knobs: SamplingSettings, logits: Tensor
) -> None:
    _, _, stages = made(knobs, logits)
    named = [
        "temperature" if isinstance(change, Temperature) else change.setting
        for change in stages.changes
        if isinstance(change, Penalty | Temperature | Truncation)
    ]
    assert named == [name for name in STAGES if name in knobs.active()]
    assert stages.off == tuple(name for name in STAGES if name not in knobs.active())
    assert isinstance(stages.changes[-1], Draw)


def test_the_stages_of_four_tokens_are_those_of_a_hand_calculation() -> None:
    # 0.5, 0.25, 0.125, 0.125 as raw probabilities; at temperature 0.5 they are squared: 16, 4, 1, 1 of 22.
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    knobs = SamplingSettings(temperature=0.5, top_k=2, top_p=0.9, min_p=0.5)
    stages = stages_of(knobs, torch.tensor([0]), logits, 0)
    temperature, softmax, top_k, top_p, min_p, renormalised, draw = stages.changes
    assert isinstance(temperature, Temperature)
    assert temperature.entropy_before == pytest.approx(1.75)
    assert temperature.top_before == pytest.approx(0.5)
    assert temperature.top_after == pytest.approx(16 / 22)
    assert isinstance(softmax, Softmax)
    assert softmax.entropy == temperature.entropy_after
    assert top_k == Truncation("top_k", 4, 2, float32(20 / 22))
    # 16/20 alone does not reach 0.9.
    assert top_p == Truncation("top_p", 2, 2, float32(20 / 22))
    assert min_p == Truncation("min_p", 2, 1, float32(16 / 22))
    assert renormalised == Renormalisation(float32(22 / 16))
    assert draw == Draw(0, 1, 1.0)
    assert [token.dropped_by for token in stages.tokens] == [None, "min_p", "top_k", "top_k"]


def test_penalties_tell_how_many_tokens_they_changed_and_forbade() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    # 0 1 stood once, and 0 stands last: another 1 would repeat the pair. The logit of token 2 is 0 at any penalty.
    ids = torch.tensor([2, 0, 1, 0])
    stages = stages_of(
        SamplingSettings(top_p=1.0, repetition_penalty=2.0, no_repeat_ngram_size=2), ids, logits, drawn_id=0
    )
    repetition, ngram = changes(stages, Penalty)
    assert (repetition.setting, repetition.changed) == ("repetition_penalty", 2)
    assert (ngram.setting, ngram.changed) == ("no_repeat_ngram_size", 1)
    assert repetition.entropy_after == ngram.entropy_before
    assert ngram.entropy_after == pytest.approx(entropy_of([1.0, 0.0, -1.0]))
    by_id = {token.token_id: token for token in stages.tokens}
    assert (by_id[0].logit, by_id[0].penalised) == (2.0, 1.0)
    assert (by_id[1].penalised, by_id[1].dropped_by) == (-math.inf, "no_repeat_ngram_size")
    assert by_id[1].kept is False


def entropy_of(logits: list[float]) -> float:
    p = np.exp(logits) / np.exp(logits).sum()
    return float(-(p * np.log2(p)).sum())


def test_the_models_favourite_is_shown_even_when_a_penalty_pushed_it_far_down() -> None:
    logits = torch.linspace(1.0, 2.0, 300)
    stages = stages_of(SamplingSettings(repetition_penalty=10.0), torch.tensor([299]), logits, drawn_id=0)
    favourite = next(token for token in stages.tokens if token.token_id == 299)
    assert favourite.rank == 300
    assert favourite.penalised == pytest.approx(0.2)


@pytest.fixture(scope="module")
def model() -> SmallModel:
    return random_model()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(knobs=any_settings())
def test_the_stages_of_a_run_end_in_what_was_recorded_of_it(model: SmallModel, knobs: SamplingSettings) -> None:
    prompt = [5, 17, 5, 80, 17, 2]
    (steps,), _ = run(model, prompt, [knobs])
    ids = [*prompt]
    for step, logits in zip(steps, reference(model, prompt, knobs).logits, strict=True):
        stages = stages_of(knobs, torch.tensor(ids), logits, step.token_id)
        token = next(token for token in stages.tokens if token.token_id == step.token_id)
        assert token.kept
        assert token.rank == step.rank
        assert token.probability == pytest.approx(step.probability, rel=1e-4)
        assert token.raw_probability == pytest.approx(step.raw_probability, rel=1e-4)
        assert token.final_probability == pytest.approx(step.final_probability, rel=1e-4)
        cuts = changes(stages, Truncation)
        if cuts:
            assert cuts[-1].left == step.kept_size
            assert cuts[-1].mass == pytest.approx(step.kept_mass, abs=1e-5)
        for cut in cuts:
            if cut.setting == "top_p":
                assert (cut.reached, cut.left) == (step.reaching_size, step.nucleus_size)
        ids.append(step.token_id)


def test_the_stages_are_the_knobs_that_act_on_a_step() -> None:
    acting = set(SamplingSettings().as_dict()) - {"max_new_tokens", "seed"}
    assert set(STAGES) == acting == {*PENALTIES, "temperature", *TRUNCATIONS}

"""The stages, one by one, make what the pipeline makes at once; a stored step tells the same or nothing."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dashboard.sampling.record import record_step
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.stages import (
    PENALTIES,
    STAGES,
    TRUNCATIONS,
    Draw,
    Misreading,
    Penalty,
    Renormalisation,
    Softmax,
    StagedToken,
    Stages,
    Temperature,
    Truncation,
    misreading,
)
from dashboard.sampling.staging import stages_of
from dashboard.sampling.stored_stages import stored_stages
from dashboard.sampling.trace import SIZE_CURVE_P, Step
from dashboard.sampling.truncation import Pipeline, Ranking, Truncated, truncate
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


# --- with the model ---


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


# --- from storage alone ---


def close(value: Any) -> Any:
    return pytest.approx(value, rel=1e-4, abs=2e-6) if isinstance(value, float) else value


def assert_same_token(stored: StagedToken, exact: StagedToken, shaped: Ranking) -> None:
    for field in fields(StagedToken):
        ours, theirs = getattr(stored, field.name), getattr(exact, field.name)
        if field.name == "dropped_by":
            assert ours == theirs or ours is None
        elif field.name == "rank" and ours != theirs:
            # Equally probable tokens below the head.
            assert min(ours, theirs) > 256
            assert shaped.ascending[-ours] == shaped.ascending[-theirs]
        elif ours is not None:
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-30), field.name


@settings(max_examples=120, deadline=None)
@given(knobs=any_settings(), logits=any_logits(), pick=st.integers(0, 900))
def test_a_stored_step_tells_what_the_logits_tell_or_nothing(
    knobs: SamplingSettings, logits: Tensor, pick: int
) -> None:
    truncated, step, _ = made(knobs, logits, pick)
    everything = stages_of(knobs, IDS, logits, step.token_id, shown=len(logits))
    exact = {token.token_id: token for token in everything.tokens}
    stored = stored_stages(step, knobs, shown=len(step.head_ids))
    for token in stored.tokens:
        assert_same_token(token, exact[token.token_id], truncated.shaped)
    assert (stored.off, stored.drawn_id) == (everything.off, everything.drawn_id)
    assert stored.last_kept_id == everything.last_kept_id
    assert stored.first_dropped_id == everything.first_dropped_id
    assert [type(change) for change in stored.changes] == [type(change) for change in everything.changes]
    for ours, theirs in zip(stored.changes, everything.changes, strict=True):
        for field in fields(ours):
            if (value := getattr(ours, field.name)) is not None:
                assert value == close(getattr(theirs, field.name)), (ours, theirs)


@settings(max_examples=80, deadline=None)
@given(knobs=any_settings(), logits=more_than_the_head())
def test_without_typical_sampling_and_ties_storage_knows_every_fate(knobs: SamplingSettings, logits: Tensor) -> None:
    knobs = replace(knobs, typical_p=1.0)
    _, step, _ = made(knobs, logits)
    assume(len(set(step.head_probabilities.tolist())) == len(step.head_ids))
    stored = stored_stages(step, knobs, shown=30)
    assert all(token.kept is not None for token in stored.tokens)
    later = {"min_p", "epsilon_cutoff", "eta_cutoff"} & set(knobs.active())
    if len(later) <= 1:
        assert all(token.kept or token.dropped_by for token in stored.tokens if token.rank <= 256)
    shown = {token.token_id for token in stored.tokens}
    assert stored.drawn_id in shown
    if stored.first_dropped_id is not None:
        assert {stored.last_kept_id, stored.first_dropped_id} <= shown


def test_typical_sampling_that_drops_the_most_probable_token_is_known_from_its_last_one() -> None:
    # One token of a half and 512 that share the other half: the entropy of 5.5 bits is closer to the 10 bits of the
    # many than to the one bit of the first, until the mass is reached.
    probabilities = torch.tensor([0.3, *[0.7 / 40 * (1 + i / 1000) for i in range(40)]])
    knobs = SamplingSettings(top_p=1.0, typical_p=0.5)
    _, step, exact = made(knobs, (probabilities / probabilities.sum()).log(), pick=5)
    assert exact.tokens[0].dropped_by == "typical_p"
    stored = stored_stages(step, knobs)
    assert [token.kept for token in stored.tokens] == [token.kept for token in exact.tokens]
    assert stored.tokens[0].dropped_by == "typical_p"


def test_what_typical_sampling_took_is_unknown_where_storage_cannot_tell() -> None:
    probabilities = torch.tensor([0.3, 0.05, *[0.65 / 600] * 600])
    knobs = SamplingSettings(top_p=1.0, typical_p=0.5)
    _, step, _ = made(knobs, (probabilities / probabilities.sum()).log(), pick=100)
    stored = stored_stages(step, knobs)
    assert stored.tokens[0].kept is False
    assert stored.tokens[1].kept is None
    assert stored.tokens[1].final_probability is None


def test_which_setting_took_one_of_many_equal_tokens_at_the_cut_is_not_guessed() -> None:
    # Top-p keeps about half of the equal tokens, by an order that top-k has changed; min-p then takes the others.
    logits = torch.tensor([6.0, *[0.0] * 400, *[-5.0] * 50])
    knobs = SamplingSettings(top_k=300, top_p=0.75, min_p=0.1)
    _, step, _ = made(knobs, logits)
    exact = stages_of(knobs, IDS, logits, drawn_id=0, shown=401)
    assert step.reaching_size == 401
    assert 1 == step.kept_size < step.nucleus_size < 256
    assert {token.dropped_by for token in exact.tokens[1:]} == {"top_p", "min_p"}
    stored = stored_stages(step, knobs)
    first = next(token for token in stored.tokens if token.token_id == stored.first_dropped_id)
    assert (first.kept, first.dropped_by) == (False, None)


def test_no_two_tokens_have_one_rank_even_where_all_are_equally_probable() -> None:
    _, step, _ = made(SamplingSettings(top_p=0.05), torch.zeros(900))
    ranks = [token.rank for token in stored_stages(step, SamplingSettings(top_p=0.05), shown=256).tokens]
    assert len(set(ranks)) == len(ranks)


# --- what p does not mean ---


@settings(max_examples=100, deadline=None)
@given(logits=any_logits(), p=st.sampled_from([*SIZE_CURVE_P, 1.0]), knobs=any_settings())
def test_a_share_of_the_choices_weighs_at_least_what_is_said(logits: Tensor, p: float, knobs: SamplingSettings) -> None:
    truncated, step, _ = made(knobs, logits)
    said = misreading(step, p, top_p=knobs.top_p)
    reaching = truncated.reaching
    assert said.size == reaching.nucleus_size(p)
    assert said.choices == reaching.size
    assert said.share_size - 1 < p * reaching.size + 1e-6
    assert said.share_size >= p * reaching.size - 1e-6
    mass = float(reaching.probabilities[-said.share_size :].sum(dtype=torch.float64))
    assert said.share_mass <= mass + 1e-5
    assert said.share_mass >= p - 1e-5 or said.size > said.share_size


def test_ten_per_cent_of_the_mass_is_not_ten_per_cent_of_the_tokens() -> None:
    logits = -torch.arange(1, 50_258).double().log().float() * 2
    step = made(SamplingSettings(top_p=0.9), logits)[1]
    said = misreading(step, 0.1, top_p=0.9)
    assert said == Misreading(p=0.1, size=1, choices=50_257, share_size=5_026, share_mass=0.999)
    assert misreading(step, 0.9, top_p=0.9).size == step.nucleus_size


def test_the_mass_of_a_share_is_that_in_what_reaches_top_p() -> None:
    step = made(SamplingSettings(top_k=2), torch.tensor([0.4, 0.3, 0.2, 0.08, 0.01, 0.01]).log())[1]
    # 0.4 of 0.7, rounded down.
    assert misreading(step, 0.5, top_p=0.9) == Misreading(p=0.5, size=1, choices=2, share_size=1, share_mass=0.571)


def test_a_share_of_whole_tokens_is_not_rounded_up_by_a_digit_of_no_meaning() -> None:
    step = made(SamplingSettings(top_p=1.0), torch.randn(100))[1]
    assert 0.07 * 100 > 7
    assert misreading(step, 0.07, top_p=1.0).share_size == 7


def test_a_p_whose_nucleus_is_not_stored_is_not_guessed() -> None:
    step = made(SamplingSettings(top_p=0.905), torch.randn(300))[1]
    assert misreading(step, 0.905, top_p=0.905).size == step.nucleus_size
    with pytest.raises(ValueError, match="not a point"):
        misreading(step, 0.907, top_p=0.905)


def test_the_stages_are_the_knobs_that_act_on_a_step() -> None:
    acting = set(SamplingSettings().as_dict()) - {"max_new_tokens", "seed"}
    assert set(STAGES) == acting == {*PENALTIES, "temperature", *TRUNCATIONS}

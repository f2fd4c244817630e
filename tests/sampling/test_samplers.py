"""Seven samplers on one distribution: what the classes keep, and what a stored step can say without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from dashboard.sampling.record import record_step
from dashboard.sampling.replay import Reading, read
from dashboard.sampling.samplers import SAMPLER, SAMPLERS, Kept, stored_kept
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import SIZE_CURVE_P, Step
from dashboard.sampling.truncation import Pipeline, Ranking, truncate
from dashboard.sampling.warpers import kept_by, kept_mask, kept_size, kept_sizes, shaped_at
from tests.sampling.reference import random_model
from tests.sampling.test_truncation import distributions

NO_IDS: Any = torch.zeros((1, 1), dtype=torch.int64)
CLASSES: dict[str, Callable[[Any], Any]] = {
    "top_p": TopPLogitsWarper,
    "top_k": TopKLogitsWarper,
    "min_p": MinPLogitsWarper,
    "typical_p": TypicalLogitsWarper,
    "epsilon_cutoff": EpsilonLogitsWarper,
    "eta_cutoff": EtaLogitsWarper,
}
NAMES = [sampler.name for sampler in SAMPLERS]
SHARES = st.floats(1e-6, 1.0, exclude_max=True)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "top_p": SHARES | st.sampled_from([*SIZE_CURVE_P, 0.25, 0.75]),
    "top_k": st.integers(1, 800),
    "min_p": SHARES | st.sampled_from([0.5, 1.0]),
    "typical_p": SHARES,
    "epsilon_cutoff": st.floats(1e-6, 0.999) | st.floats(1e-6, 1e-2),
    "eta_cutoff": st.floats(1e-6, 0.999) | st.floats(1e-6, 1e-2),
    "top_n_sigma": st.floats(0.01, 5.0),
}
SAMPLERS_WITH_VALUES = st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), VALUES[name]))


def large_distributions() -> st.SearchStrategy[Tensor]:
    """(V,) scores of a vocabulary larger than the head, some with ties, all as uneven as a language model's can be."""
    smooth = st.builds(
        lambda seed, size, scale: torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale - 50,
        st.integers(0, 2**32),
        st.sampled_from([300, 3_000, 20_000]),
        st.floats(0.0, 8.0),
    )
    return smooth | smooth.map(lambda scores: (scores * 8).round() / 8)


def sigma_mask(scores: Tensor, n: float) -> Tensor:
    """Top-n-sigma by the formula, in numpy."""
    logits = scores.double().numpy()
    finite = logits[np.isfinite(logits)]
    deviation = np.std(finite, ddof=1) if len(finite) > 1 else 0.0
    return torch.from_numpy(logits >= finite.max() - n * deviation)


@settings(max_examples=500, deadline=None)
@given(scores=distributions(), sampler=SAMPLERS_WITH_VALUES)
def test_what_is_kept_are_the_finite_scores_of_transformers_class(scores: Tensor, sampler: tuple[str, float]) -> None:
    name, value = sampler
    ranking = Ranking.of(scores)
    if name == "top_n_sigma":
        expected = sigma_mask(scores, value)
    else:
        expected = torch.isfinite(CLASSES[name](value)(NO_IDS, scores[None])[0])
    assert torch.equal(kept_mask(name, value, ranking), expected)
    assert kept_size(name, value, ranking) == int(expected.sum()) >= 1


@settings(max_examples=300, deadline=None)
@given(scores=distributions(), sampler=SAMPLERS_WITH_VALUES)
def test_a_sampler_keeps_every_rank_from_its_first_to_its_last(scores: Tensor, sampler: tuple[str, float]) -> None:
    ranking = Ranking.of(scores)
    kept, mask = kept_by(*sampler, ranking), kept_mask(*sampler, ranking)
    by_rank = ranking.order.flip(0)
    assert mask[by_rank[kept.first_rank - 1 : kept.last_rank]].all()
    assert kept.size == int(mask.sum()) == kept.last_rank - kept.first_rank + 1
    assert kept.first_rank == 1 or sampler[0] == "typical_p"
    assert kept.last is not None
    assert kept.mass is not None
    assert ranking.rank(kept.last.token_id) == kept.last_rank
    assert scores[kept.last.token_id] == scores[mask].min()
    probabilities = scores.double().softmax(-1)
    assert kept.last.probability == pytest.approx(float(probabilities[kept.last.token_id]), rel=1e-4)
    assert kept.mass == pytest.approx(float(probabilities[mask].sum()), rel=1e-4)


@pytest.mark.parametrize("sampler", [sampler for sampler in SAMPLERS if sampler.knob.off is not None])
def test_a_sampler_that_is_off_keeps_all_but_the_forbidden_tokens(sampler: Any) -> None:
    scores = torch.tensor([0.0, -torch.inf, -3.0, -1.0, -torch.inf])
    kept = kept_by(sampler.name, sampler.knob.off, Ranking.of(scores))
    assert (kept.size, kept.first_rank, kept.last_rank, kept.mass) == (3, 1, 3, 1.0)


def test_the_values_to_begin_with_lie_in_their_ranges_and_act() -> None:
    assert NAMES == ["top_p", "top_k", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_n_sigma"]
    for sampler in SAMPLERS:
        assert sampler.knob.check(sampler.start) == sampler.start != sampler.knob.off
        assert sampler.source
    assert SAMPLER["min_p"].told(0.05) == "Min-p 0.05"


# --- top-n-sigma ---


@pytest.mark.parametrize("forbidden", [0, 3])
def test_top_n_sigma_takes_the_sample_deviation_of_the_logits_that_are_not_forbidden(forbidden: int) -> None:
    # Deviation 0.967 of the sample, 0.838 of a population: the second token is 0.9 below the first.
    scores = torch.tensor([0.0, 2.0, 1.1, 0.0, *[-torch.inf] * forbidden])
    assert kept_mask("top_n_sigma", 1.0, Ranking.of(scores)).nonzero()[:, 0].tolist() == [1, 2]
    assert kept_mask("top_n_sigma", 0.9, Ranking.of(scores)).nonzero()[:, 0].tolist() == [1]


@pytest.mark.parametrize("scores", [[-3.0], [1.0, 1.0, 1.0], [-torch.inf, 2.0]])
def test_top_n_sigma_keeps_the_most_probable_tokens_where_nothing_deviates(scores: list[float]) -> None:
    mask = kept_mask("top_n_sigma", 1.0, Ranking.of(torch.tensor(scores)))
    assert mask.tolist() == [score > -torch.inf for score in scores]


@settings(max_examples=200, deadline=None)
@given(scores=distributions() | large_distributions(), n=st.floats(0.01, 5.0), temperature=st.floats(0.1, 10.0))
def test_top_n_sigma_keeps_the_same_tokens_at_every_temperature(scores: Tensor, n: float, temperature: float) -> None:
    logits = scores.double()
    finite = logits[torch.isfinite(logits)]
    deviation = float(finite.std()) if len(finite) > 1 else 0.0
    rounding = 1e-6 * float(finite.abs().max())
    assume(deviation == 0 or float((finite - finite.max() + n * deviation).abs().min()) > rounding)
    cold, hot = (kept_mask("top_n_sigma", n, Ranking.of(s)) for s in (scores, scores / temperature))
    assert torch.equal(cold, hot)


def test_min_p_and_top_p_keep_other_tokens_at_another_temperature_where_top_n_sigma_does_not() -> None:
    scores = torch.randn(1_000, generator=torch.Generator().manual_seed(0)) * 4
    sizes = {
        name: [kept_size(name, SAMPLER[name].start, Ranking.of(scores / temperature)) for temperature in (0.5, 1, 3)]
        for name in ("min_p", "top_p", "top_n_sigma")
    }
    for name in ("min_p", "top_p"):
        assert sizes[name] == sorted(set(sizes[name]))
    assert len(set(sizes["top_n_sigma"])) == 1


# --- from storage ---


def stored(scores: Tensor, top_k: int, top_p: float) -> tuple[Step, Ranking]:
    """The record of a step with these scores, and its shaped distribution."""
    pipeline = Pipeline.of(SamplingSettings(top_k=top_k, top_p=top_p))
    truncated = truncate(pipeline, NO_IDS[0], scores)
    final = truncated.scores.softmax(dim=-1)
    return record_step(0, int(scores.argmax()), truncated, final, top_p), truncated.shaped


def assert_true(answer: Kept, ranking: Ranking) -> None:
    """What storage says is what the class does; a mass and a probability up to the rounding of float32 sums."""
    expected = kept_by(answer.sampler, answer.value, ranking)
    assert (answer.size, answer.first_rank, answer.last_rank) == (
        expected.size,
        expected.first_rank,
        expected.last_rank,
    )
    assert expected.last is not None
    if answer.mass is not None:
        assert answer.mass == pytest.approx(expected.mass, rel=1e-4)
    if answer.last is not None:
        assert answer.last.probability == pytest.approx(expected.last.probability, rel=1e-4)
        # Of equally probable tokens, either is the last.
        assert ranking.scores[answer.last.token_id] == ranking.scores[expected.last.token_id]


@settings(max_examples=700, deadline=None)
@given(
    scores=distributions() | large_distributions(),
    sampler=SAMPLERS_WITH_VALUES,
    top_k=st.sampled_from([0, 0, 1, 40, 500]),
    top_p=st.sampled_from([1.0, 0.9, 0.5]),
)
def test_what_storage_says_is_what_the_class_does(
    scores: Tensor, sampler: tuple[str, float], top_k: int, top_p: float
) -> None:
    step, ranking = stored(scores, top_k, top_p)
    answer = stored_kept(step, *sampler, top_k=top_k, vocabulary_size=len(scores))
    if answer is not None:
        assert (answer.sampler, answer.value) == sampler
        assert_true(answer, ranking)


@settings(max_examples=100, deadline=None)
@given(
    scores=large_distributions(), top_k=st.sampled_from([0, 0, 40]), edge=st.integers(0, 255), ulps=st.integers(-2, 2)
)
def test_a_threshold_that_touches_a_probability_is_never_answered_wrongly(
    scores: Tensor, top_k: int, edge: int, ulps: int
) -> None:
    step, ranking = stored(scores, top_k, 0.9)
    touched = float(step.head_probabilities[edge])
    assume(1e-6 < touched < 0.999)
    nudged = touched * (1 + ulps * 6e-8)
    mass = float(step.head_probabilities[: edge + 1].sum(dtype=np.float64)) * (1 + ulps * 6e-8)
    touching = {
        "epsilon_cutoff": nudged,
        "min_p": min(1.0, nudged / float(step.head_probabilities[0])),
        "top_p": min(mass, 0.9999),
        "typical_p": min(mass, 0.9999),
        "top_k": edge + 1,
    }
    for name, value in touching.items():
        answer = stored_kept(step, name, value, top_k=top_k, vocabulary_size=len(scores))
        if answer is not None:
            assert_true(answer, ranking)


@pytest.mark.parametrize("p", SIZE_CURVE_P)
def test_every_p_of_the_slider_is_answered_whatever_its_last_digit(p: float) -> None:
    scores = torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    step, ranking = stored(scores, 0, 0.9)
    for value in (p, np.nextafter(p, 1), np.nextafter(p, 0)):
        answer = stored_kept(step, "top_p", float(value), top_k=0, vocabulary_size=20_000)
        assert answer is not None
        assert answer.size == kept_size("top_p", float(value), ranking)


def test_the_runs_own_nucleus_is_told_with_its_mass_also_beyond_the_head() -> None:
    scores = torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    step, ranking = stored(scores, 0, 0.9)
    answer = stored_kept(step, "top_p", 0.9, top_k=0, vocabulary_size=20_000)
    assert answer is not None
    assert answer.size > len(step.head_ids)
    assert answer.mass is not None
    assert_true(answer, ranking)
    other = stored_kept(step, "top_p", 0.8, top_k=0, vocabulary_size=20_000)
    assert other is not None
    assert (other.mass, other.last) == (None, None)


def test_storage_answers_most_steps_of_a_language_like_distribution_and_never_top_n_sigma() -> None:
    answers = dict.fromkeys(NAMES, 0)
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        scale = 4 + 3 * float(torch.rand(1, generator=generator))
        step, _ = stored(torch.randn(50_257, generator=generator) * scale, 0, 0.9)
        for sampler in SAMPLERS:
            kept = stored_kept(step, sampler.name, sampler.start, top_k=0, vocabulary_size=50_257)
            answers[sampler.name] += kept is not None
    assert answers.pop("top_n_sigma") == 0
    assert answers["top_p"] == answers["top_k"] == 30
    assert min(answers.values()) >= 20, answers


# --- every step of a text ---


@pytest.fixture(scope="module")
def reading() -> Reading:
    """A text of 70 tokens that repeats itself, so that penalties act."""
    return read(random_model(), [1, 2], [*range(5, 40), *range(5, 40)])


def test_the_sizes_of_all_steps_are_those_of_each_step(reading: Reading) -> None:
    values = {sampler.name: sampler.start for sampler in SAMPLERS}
    shaping = SamplingSettings(temperature=1.7, repetition_penalty=1.3, no_repeat_ngram_size=2, top_k=5, top_p=0.5)
    told: list[tuple[int, int]] = []
    sizes = kept_sizes(reading, shaping, values, lambda done, total: told.append((done, total)))
    assert list(sizes) == NAMES
    assert told[-1] == (70, 70)
    pipeline = Pipeline.of(shaping)
    for position in range(0, 70, 9):
        ranking = shaped_at(reading, shaping, position)
        ids: Any = reading.ids_before(position)[None]
        assert torch.equal(ranking.scores, pipeline.shaping(ids, reading.logits(position, position + 1).clone())[0])
        for name, value in values.items():
            assert sizes[name][position] == kept_by(name, value, ranking).size


def test_one_sampler_alone_gives_the_same_sizes_as_all_together(reading: Reading) -> None:
    values = {sampler.name: sampler.start for sampler in SAMPLERS}
    together = kept_sizes(reading, SamplingSettings(), values)
    for name, value in values.items():
        alone = kept_sizes(reading, SamplingSettings(), {name: value})
        assert np.array_equal(alone[name], together[name])

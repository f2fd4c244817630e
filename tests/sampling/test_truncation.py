"""The cut is transformers' cut, for any distribution: ties, equality, p = 0 and 1, excluded tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from dashboard.sampling.record import record_step
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import HEAD_SIZE, SIZE_CURVE_P, Step, Trace
from dashboard.sampling.truncation import Pipeline, Ranking, truncate
from dashboard.sampling.what_if import is_admitted, nucleus_sizes_at, smallest_p

NO_IDS = torch.zeros((1, 1), dtype=torch.int64)


def warped(scores: Tensor, p: float) -> Tensor:
    """What transformers keeps, as a mask."""
    return torch.isfinite(TopPLogitsWarper(p)(NO_IDS, scores[None])[0])


def distributions() -> st.SearchStrategy[Tensor]:
    """(V,) float32 scores: smooth, full of ties, peaked, with excluded tokens; V from 1 to 700."""
    smooth = st.builds(
        lambda seed, size, scale: torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale,
        st.integers(0, 2**32),
        st.integers(1, 700),
        st.floats(0.0, 30.0),
    )
    tied = smooth.map(lambda scores: scores.round())
    dyadic = st.lists(st.integers(0, 12), min_size=1, max_size=40).map(
        lambda powers: torch.tensor([-power * math.log(2) for power in powers])
    )
    some = smooth | tied | dyadic

    def excluding(scores: Tensor, seed: int) -> Tensor:
        excluded = torch.rand(len(scores), generator=torch.Generator().manual_seed(seed)) < 0.3
        excluded[int(scores.argmax())] = False
        return scores.masked_fill(excluded, -torch.inf)

    return some | st.builds(excluding, some, st.integers(0, 2**32))


NEXT_TO_ONE = [1 - k * 2**-53 for k in (1, 2, 3, 5, 2**24 - 1, 2**24, 2**24 + 1)]
PS = st.sampled_from([*SIZE_CURVE_P, 0.25, 0.125, 0.75, *NEXT_TO_ONE]) | st.floats(1e-12, 1.0, exclude_max=True)


@settings(max_examples=400, deadline=None)
@given(scores=distributions(), p=PS)
def test_the_nucleus_is_the_finite_scores_of_transformers_warper(scores: Tensor, p: float) -> None:
    ranking = Ranking.of(scores)
    theirs = warped(scores, p)
    assert torch.equal(ranking.nucleus(p), theirs)
    assert ranking.nucleus_size(p) == int(theirs.sum()) >= 1


@settings(max_examples=200, deadline=None)
@given(scores=distributions(), p=PS)
@example(scores=torch.randn(62, generator=torch.Generator().manual_seed(0)) * 9.0, p=NEXT_TO_ONE[0])
def test_a_token_is_in_the_nucleus_exactly_when_p_is_greater_than_its_admitting_p(scores: Tensor, p: float) -> None:
    ranking = Ranking.of(scores)
    admitting = [ranking.admitting_p(i) for i in range(len(scores))]
    possible = torch.isfinite(scores)
    assert torch.equal(torch.from_numpy(is_admitted(admitting, p)) & possible, warped(scores, p))


@settings(max_examples=100, deadline=None)
@given(scores=distributions())
def test_the_size_curve_is_a_cut_made_afresh_at_every_p(scores: Tensor) -> None:
    sizes = Ranking.of(scores).nucleus_sizes(SIZE_CURVE_P)
    for p, size in zip(SIZE_CURVE_P, sizes, strict=True):
        assert size == int(warped(scores, p).sum())
    assert np.all(np.diff(sizes) >= 0)


@settings(max_examples=200, deadline=None)
@given(scores=distributions(), p=PS)
def test_the_nucleus_is_the_smallest_set_whose_mass_reaches_p(scores: Tensor, p: float) -> None:
    ranking = Ranking.of(scores)
    size = ranking.nucleus_size(p)
    descending = scores.double().softmax(-1).sort(descending=True).values
    rounding = 1e-6
    assert float(descending[:size].sum()) >= p - rounding
    assert ranking.nucleus_mass(p) >= p - rounding
    if size > 1:
        assert float(descending[: size - 1].sum()) < p + rounding
    assert ranking.nucleus_mass(p) == pytest.approx(float(descending[:size].sum()), abs=rounding)


@pytest.mark.parametrize(("p", "size"), [(0.5, 1), (0.500001, 2), (0.75, 2), (0.875, 3), (0.88, 4), (1.0, 4)])
def test_a_mass_exactly_equal_to_p_is_enough(p: float, size: int) -> None:
    scores = torch.log(torch.tensor([0.125, 0.5, 0.125, 0.25]))
    assert Ranking.of(scores).nucleus_size(p) == size
    if p < 1:
        assert int(warped(scores, p).sum()) == size


def test_a_vanishing_p_keeps_the_most_probable_token_alone() -> None:
    scores = torch.zeros(1000)
    scores[321] = 1e-6
    assert Ranking.of(scores).nucleus(5e-324).nonzero().flatten().tolist() == [321]


def test_p_of_one_keeps_everything_that_is_not_excluded() -> None:
    scores = torch.tensor([0.0, -torch.inf, -200.0, 3.0])
    ranking = Ranking.of(scores)
    assert ranking.nucleus(1.0).tolist() == [True, False, True, True]
    assert ranking.nucleus_size(1.0) == 3
    assert ranking.nucleus_mass(1.0) == 1.0


@settings(max_examples=200, deadline=None)
@given(scores=distributions())
def test_ranks_run_from_one_in_order_of_falling_probability(scores: Tensor) -> None:
    ranking = Ranking.of(scores)
    by_rank = sorted(range(len(scores)), key=ranking.rank)
    assert [ranking.rank(i) for i in by_rank] == list(range(1, len(scores) + 1))
    falling = scores[by_rank]
    assert bool((falling[:-1] >= falling[1:]).all())


@settings(max_examples=200, deadline=None)
@given(scores=distributions(), count=st.integers(1, HEAD_SIZE))
def test_the_head_is_the_tokens_of_the_first_ranks(scores: Tensor, count: int) -> None:
    ranking = Ranking.of(scores)
    top = ranking.top(min(count, len(scores)))
    assert [ranking.rank(int(i)) for i in top] == list(range(1, len(top) + 1))


@settings(max_examples=200, deadline=None)
@given(scores=distributions(), k=st.integers(1, 60), p=PS)
def test_after_top_k_the_nucleus_is_cut_from_what_top_k_left(scores: Tensor, k: int, p: float) -> None:
    left = TopKLogitsWarper(k)(NO_IDS, scores[None])[0]
    reaching = Ranking.of(scores).without_lowest(left)
    assert torch.equal(reaching.ascending, Ranking.of(left).ascending)
    assert torch.equal(reaching.nucleus(p), warped(left, p))


def step_of(scores: Tensor, knobs: SamplingSettings, token_id: int | None = None) -> Step:
    """The record of a draw from ``scores``: of the least probable token kept, unless one is named."""
    truncated = truncate(Pipeline.of(knobs), NO_IDS[0], scores)
    final = truncated.scores.softmax(-1)
    if token_id is None:
        token_id = int(truncated.scores.masked_fill(truncated.scores == -torch.inf, torch.inf).argmin())
    return record_step(0, token_id, truncated, final, knobs.top_p)


@settings(max_examples=200, deadline=None)
@given(scores=distributions(), p=PS, temperature=st.sampled_from([1.0, 0.5, 2.0]))
def test_every_recorded_number_is_of_the_whole_distribution(scores: Tensor, p: float, temperature: float) -> None:
    step = step_of(scores, SamplingSettings(top_p=p, temperature=temperature, seed=0))
    raw = scores.double().softmax(-1)
    shaped = (scores.double() / temperature).softmax(-1)
    kept = warped(scores / temperature, p)
    token = step.token_id
    assert step.raw_probability == pytest.approx(float(raw[token]), rel=1e-3, abs=1e-30)
    assert step.probability == pytest.approx(float(shaped[token]), rel=1e-3, abs=1e-30)
    assert step.final_probability == pytest.approx(float(shaped[token] / shaped[kept].sum()), rel=1e-3, abs=1e-30)
    assert step.surprisal == pytest.approx(-math.log2(float(raw[token])), rel=1e-4, abs=1e-5)
    assert step.entropy == pytest.approx(float(torch.special.entr(shaped).sum()) / math.log(2), rel=1e-4, abs=1e-5)
    assert step.kept_size == int(kept.sum())
    assert step.kept_mass == pytest.approx(float(shaped[kept].sum()), abs=1e-5)
    assert kept[step.last_kept.token_id]
    assert step.last_kept.probability == pytest.approx(float(shaped[kept].min()), rel=1e-3, abs=1e-30)
    possible_and_dropped = ~kept & torch.isfinite(scores)
    if step.first_dropped is None:
        assert not bool(possible_and_dropped.any())
    else:
        assert possible_and_dropped[step.first_dropped.token_id]
        assert step.first_dropped.probability == pytest.approx(float(shaped[possible_and_dropped].max()), rel=1e-3)
    np.testing.assert_allclose(step.head_probabilities, shaped[step.head_ids.astype(int)], rtol=1e-3, atol=1e-30)
    np.testing.assert_allclose(step.head_raw_probabilities, raw[step.head_ids.astype(int)], rtol=1e-3, atol=1e-30)


@settings(max_examples=100, deadline=None)
@given(scores=distributions())
def test_probabilities_sum_to_one(scores: Tensor) -> None:
    step = step_of(scores, SamplingSettings(top_p=1.0, seed=0))
    if len(scores) <= HEAD_SIZE:
        assert float(step.head_probabilities.sum(dtype=np.float64)) == pytest.approx(1.0, abs=1e-5)
    assert float(step.head_probabilities.sum(dtype=np.float64)) <= 1.0 + 1e-5
    assert step.kept_mass == pytest.approx(1.0, abs=1e-5)
    assert step.nucleus_mass == 1.0


def test_raw_and_shaped_heads_are_one_array_when_nothing_reshapes() -> None:
    scores = torch.randn(1000)
    assert (plain := step_of(scores, SamplingSettings(seed=0))).head_probabilities is plain.head_raw_probabilities
    hot = step_of(scores, SamplingSettings(temperature=2.0, seed=0))
    assert not np.array_equal(hot.head_probabilities, hot.head_raw_probabilities)


def test_a_token_of_vanishing_raw_probability_has_a_finite_surprisal() -> None:
    scores = torch.tensor([0.0, -500.0])
    step = step_of(scores, SamplingSettings(temperature=10.0, top_p=1.0, seed=0), token_id=1)
    assert step.surprisal == pytest.approx(500 / math.log(2))


def test_top_k_leaves_its_mass_and_size_on_record() -> None:
    probabilities = torch.tensor([0.4, 0.3, 0.2, 0.1])
    step = step_of(probabilities.log(), SamplingSettings(top_k=2, top_p=0.5, seed=0), token_id=0)
    assert step.reaching_size == 2
    assert step.reaching_mass == pytest.approx(0.7)
    # 0.4 / 0.7 = 0.571 reaches p = 0.5 alone.
    assert step.nucleus_size == 1
    assert step.nucleus_mass == pytest.approx(0.4 / 0.7)


def test_larger_vocabularies_store_wider_ids() -> None:
    assert step_of(torch.randn(65_536), SamplingSettings(seed=0)).head_ids.dtype == np.uint16
    assert step_of(torch.randn(65_537), SamplingSettings(seed=0)).head_ids.dtype == np.uint32


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(distributions(), min_size=1, max_size=3), p=PS)
def test_a_stored_run_answers_what_if_as_a_cut_made_afresh(scores: list[Tensor], p: float) -> None:
    for row in scores:
        step = step_of(row, SamplingSettings(top_p=1.0, seed=0))
        trace = Trace.from_steps([step])
        assert bool(is_admitted(trace.admitting_p, p)[0]) == bool(warped(row, p)[step.token_id])
        for point in (0.1, 0.5, 0.9, 0.999):
            assert nucleus_sizes_at(trace, point)[0] == int(warped(row, point).sum())
        assert nucleus_sizes_at(trace, 1.0)[0] == int(torch.isfinite(row).sum())


def test_the_smallest_p_of_a_run_is_its_largest_admitting_p() -> None:
    scores = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.125]))
    drawn = [step_of(scores, SamplingSettings(top_p=1.0, seed=0), token_id=token) for token in (0, 1, 0)]
    trace = Trace.from_steps(drawn)
    assert smallest_p(trace) == 0.5
    assert is_admitted(trace.admitting_p, 0.5).tolist() == [True, False, True]
    assert is_admitted(trace.admitting_p, 0.51).all()
    assert smallest_p(Trace.from_steps([])) == 0.0


def test_a_p_that_is_no_point_of_the_size_curve_is_not_guessed() -> None:
    trace = Trace.from_steps([step_of(torch.randn(50), SamplingSettings(seed=0))])
    with pytest.raises(ValueError, match="not a point"):
        nucleus_sizes_at(trace, 0.905)


@settings(max_examples=200, deadline=None)
@given(scores=distributions(), p=PS, seed=st.integers(0, 99))
def test_the_two_tokens_beside_the_cut_are_those_that_top_p_parts_even_where_many_are_equal(
    scores: Tensor, p: float, seed: int
) -> None:
    truncated = truncate(Pipeline.of(SamplingSettings(top_p=p)), NO_IDS[0], scores)
    final = truncated.scores.softmax(-1)
    drawn = int(torch.multinomial(final, 1, generator=torch.Generator().manual_seed(seed)))
    step = record_step(0, drawn, truncated, final, p)
    order, kept = truncated.reaching.order.tolist(), step.kept_size
    assert step.last_kept.token_id == order[-kept]
    below = order[-kept - 1] if kept < truncated.reaching.size else None
    assert (None if step.first_dropped is None else step.first_dropped.token_id) == below

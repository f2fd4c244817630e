"""What a stored step tells of its stages without a model is what its logits tell, or nothing."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.stages import StagedToken
from dashboard.sampling.staging import stages_of
from dashboard.sampling.stored_stages import stored_stages
from dashboard.sampling.truncation import Ranking
from tests.sampling.test_engine import any_settings
from tests.sampling.test_stages import IDS, any_logits, made, more_than_the_head


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

"""Where the cut falls, and the mass curve through it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dashboard.figures.cut import cut_at, head_masses, kept_ranks, mass_curve, mass_up_to_drawn, run_cut
from tests.figures.factory import make_step, zipf


def test_without_another_p_the_cut_is_the_one_that_was_made() -> None:
    step = make_step(zipf(5_000), top_p=0.9)
    assert cut_at(step, 0.9, None) == cut_at(step, 0.9, 0.9) == run_cut(step, 0.9)
    assert run_cut(step, 0.9).size == step.nucleus_size
    assert run_cut(step, 0.9).mass == step.nucleus_mass


@pytest.mark.parametrize("p", [0.01, 0.3, 0.57, 0.95, 0.999])
def test_another_p_cuts_where_its_nucleus_ends(p: float) -> None:
    probabilities = zipf(5_000)
    cut = cut_at(make_step(probabilities, top_p=0.9), 0.9, p)
    assert cut.size == int(np.searchsorted(np.cumsum(probabilities), p)) + 1
    assert cut.position == cut.size + 0.5
    assert not cut.is_run


def test_the_small_error_of_a_slider_does_not_matter() -> None:
    step = make_step(zipf(5_000), top_p=0.9)
    assert cut_at(step, 0.9, 0.57 + 1e-15) == cut_at(step, 0.9, 0.57)


def test_p_one_keeps_all_that_reaches_top_p() -> None:
    assert cut_at(make_step(zipf(500), top_p=0.9), 0.9, 1.0).size == 500
    assert cut_at(make_step(zipf(500), top_p=0.9, top_k=40), 0.9, 1.0).size == 40


def test_a_p_without_stored_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.1234 is not a point"):
        cut_at(make_step(zipf(50)), 0.9, 0.1234)


def test_the_mass_of_another_nucleus_is_exact_in_the_head_and_unknown_beyond() -> None:
    probabilities = zipf(20_000)
    step = make_step(probabilities, top_p=0.9)
    inside, beyond = cut_at(step, 0.9, 0.3), cut_at(step, 0.9, 0.8)
    assert inside.mass == pytest.approx(probabilities[: inside.size].sum(), abs=1e-6)
    assert beyond.size > 256
    assert beyond.mass is None


def test_head_masses_are_of_the_distribution_that_reaches_top_p() -> None:
    masses = head_masses(make_step(zipf(5_000), top_k=40))
    assert len(masses) == 40
    assert masses[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("drawn", [0, 17, 300, 4_000])
def test_the_mass_curve_is_exact_where_it_can_be_and_never_far_off(drawn: int) -> None:
    probabilities = zipf(5_000)
    truth = np.cumsum(probabilities)
    step = make_step(probabilities, drawn=drawn, top_p=0.9)
    ranks, masses = mass_curve(step)
    exact = {*range(1, 257), step.nucleus_size, step.rank, 5_000}
    assert exact <= set(ranks.astype(int).tolist())
    for rank, mass in zip(ranks.astype(int), masses, strict=True):
        allowed = 1e-6 if rank in exact else probabilities[rank - 1] + 1e-6
        assert abs(mass - truth[rank - 1]) <= allowed
    assert (np.diff(ranks) > 0).all()
    assert (np.diff(masses) >= 0).all()


def test_the_mass_curve_of_one_token_is_one_point() -> None:
    ranks, masses = mass_curve(make_step([1.0]))
    assert ranks.tolist() == [1.0]
    assert masses.tolist() == [1.0]


def test_the_mass_curve_ends_where_top_k_ends() -> None:
    ranks, masses = mass_curve(make_step(zipf(5_000), top_k=40))
    assert ranks[-1] == 40
    assert masses[-1] == 1.0


def test_the_mass_up_to_the_drawn_token_includes_it() -> None:
    step = make_step([0.5, 0.3, 0.2], drawn=1)
    assert mass_up_to_drawn(step) == pytest.approx(0.8)


def test_min_p_keeps_ranks_from_the_top() -> None:
    step = make_step([0.5, 0.3, 0.1, 0.06, 0.04], top_p=0.95, min_p=0.5)
    assert step.nucleus_size == 4
    assert kept_ranks(step) == 2


def test_what_typical_kept_is_not_known_by_rank() -> None:
    step = make_step([0.5, 0.3, 0.1, 0.06, 0.04], top_p=0.95)
    without_the_first = replace(step, kept_size=3, last_kept=replace(step.last_kept, token_id=3))
    assert kept_ranks(without_the_first) is None

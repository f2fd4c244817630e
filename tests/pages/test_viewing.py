"""What the pages keep of readings and replays, and the sentences that answer a question."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from dashboard.app_pages import shared
from dashboard.app_pages.explorer import forced_sentence, question_of, what_if_sentence
from dashboard.app_pages.steps_table import step_rows
from dashboard.app_pages.viewing import Latest, View
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import SIZE_CURVE_P, Trace
from dashboard.sampling.what_if import nucleus_sizes_at
from tests.figures.factory import make_step, make_trace, make_vocabulary, zipf

OWN = SamplingSettings(top_p=0.9, seed=1)


def make_view(trace: Trace, *, settings: SamplingSettings = OWN, p: float | None = None, drawn: bool = True) -> View:
    return View(
        key="run-x",
        prompt="Once",
        prompt_ids=(1,),
        trace=trace,
        settings=settings,
        p=settings.top_p if p is None else p,
        drawn=drawn,
        vocabulary=make_vocabulary(4),
        model_name="pocket",
        model_title="Pocket GPT-2",
        find_reading=lambda: None,
    )


@pytest.fixture
def trace() -> Trace:
    shapes = [([0.95, 0.03, 0.01, 0.01], 0), ([0.4, 0.3, 0.2, 0.1], 2), ([0.6, 0.35, 0.03, 0.02], 1)]
    return make_trace([make_step(p, drawn=drawn, position=i) for i, (p, drawn) in enumerate(shapes)])


def test_only_the_latest_results_are_kept_and_each_is_made_once() -> None:
    latest: Latest[int, int] = Latest(keep=2)
    made: list[int] = []

    def make(key: int) -> int:
        return latest.get(key, lambda: made.append(key) or key * 10)  # type: ignore[func-returns-value]

    assert [make(key) for key in (1, 2, 1, 3, 1, 2)] == [10, 20, 10, 30, 10, 20]
    assert made == [1, 2, 3, 2]
    latest.drop(1)
    assert [key for key, _ in latest.items()] == [2]


def test_results_that_are_made_for_long_do_not_hold_up_others() -> None:
    latest: Latest[str, str] = Latest(keep=4)
    may_end = threading.Event()

    def slow() -> str:
        may_end.wait(10)
        return "slow"

    thread = threading.Thread(target=latest.get, args=("slow", slow))
    thread.start()
    assert latest.get("quick", lambda: "quick") == "quick"
    may_end.set()
    thread.join()
    assert latest.get("slow", lambda: "again") == "slow"


def test_another_p_is_answered_with_the_tokens_it_would_have_cut_and_the_steps_left_with_one(trace: Trace) -> None:
    view, asked = make_view(trace), make_view(trace, p=0.5)
    assert np.flatnonzero(asked.cut).tolist() == [1, 2]
    assert what_if_sentence(view, asked, [1, 2]) == (
        "At p = 0.5, this text would have been impossible at 2 of 3 tokens, for the first time at step 2. "
        "2 of 3 steps would keep a single token; in this run, 1 do."
    )


def test_a_p_that_cuts_nothing_leaves_the_text_possible(trace: Trace) -> None:
    asked = make_view(trace, p=1.0)
    assert not asked.cut.any()
    assert what_if_sentence(make_view(trace), asked, []).startswith(
        "At p = 1, this text would still have been possible."
    )


def test_other_settings_are_named_with_what_they_replace(trace: Trace) -> None:
    settings = SamplingSettings(top_p=0.9, temperature=0.5, top_k=3, seed=1)
    sentence = what_if_sentence(make_view(trace), make_view(trace, settings=settings), [0])
    assert sentence.startswith("With temperature 0.5 instead of 1, top-k 3 instead of off, at p = 0.9, this text")


def test_a_text_that_is_only_read_is_not_compared_with_itself(trace: Trace) -> None:
    view = make_view(trace, drawn=False)
    assert what_if_sentence(view, view, [1]).endswith("1 of 3 steps would keep a single token.")


def test_another_p_is_a_line_over_ranks_and_sizes(trace: Trace) -> None:
    assert question_of(make_view(trace)) == (None, 0)
    question, deepest = question_of(make_view(trace, p=0.5))
    assert question is not None
    assert question.name == "what if p = 0.5"
    assert question.rows == {"yaxis": [1.5, 2.5, 1.5], "yaxis2": [1, 2, 1]}
    assert deepest == 0


def test_the_landscape_reaches_as_far_as_the_line_of_another_p_in_few_steps() -> None:
    trace = make_trace([make_step(zipf(20_000, 0.9), top_p=0.5)])
    depths = [question_of(make_view(trace, settings=SamplingSettings(top_p=0.5), p=p))[1] for p in SIZE_CURVE_P]
    assert 2 < len(set(depths)) < 5
    for p, depth in zip(SIZE_CURVE_P, depths, strict=True):
        size = int(nucleus_sizes_at(trace, p)[0])
        assert depth >= size if p > 0.5 else depth == 0


def test_tokens_that_were_given_although_they_were_cut_are_named() -> None:
    assert forced_sentence([6]) == "One token is outside the kept set and stands here all the same: step 7."
    assert forced_sentence(range(8)) == (
        "8 tokens are outside the kept set and stand here all the same: step 1, 2, 3, 4, 5 …."
    )


def test_the_changes_between_settings_are_told_knob_by_knob() -> None:
    assert shared.changes_told(OWN, OWN) == []
    assert shared.changes_told(OWN, SamplingSettings(top_p=0.9, seed=1, repetition_penalty=1.3)) == [
        "repetition penalty 1.3 instead of 1"
    ]


def test_the_table_has_a_row_a_step_with_its_admitting_p_and_whether_it_is_cut(trace: Trace) -> None:
    table = step_rows(make_view(trace, p=0.5))
    assert table["Step"].tolist() == [1, 2, 3]
    assert table["Admitting p"].tolist() == trace.admitting_p.tolist()
    assert table["Nucleus at p = 0.5"].tolist() == [1, 2, 1]
    assert table["Cut"].tolist() == [False, True, True]
    assert table["Overshoot"].tolist() == pytest.approx(((trace.nucleus_mass - 0.9) * 100).tolist())
    assert "Nucleus at p = 0.9" not in step_rows(make_view(trace))

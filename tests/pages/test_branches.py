"""A run is continued from another token, its family is drawn, and a branch stands beside its parent."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.app_pages import shared
from dashboard.app_pages.branches_view import (
    alternative_rows,
    branch_sentence,
    measure_rows,
    parting_of,
    parting_sentence,
)
from dashboard.history import History
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.trace import Trace
from dashboard.sampling.vocabulary import Vocabulary
from tests.figures.factory import make_step, make_trace, make_vocabulary, zipf
from tests.history.samples import sample_run, sample_steps
from tests.pages.conftest import Opener
from tests.pages.samples import VOCABULARY, figures, plain, press, shape, shown, store_run
from tests.pages.test_viewing import make_view

HEADINGS = ("Branches", "Beside its parent, from step 4 on")
THREE = make_step([0.5, 0.3, 0.2], drawn=0, top_p=0.7)


def headings(app: AppTest) -> list[str]:
    return [str(heading.value) for heading in app.subheader]


def titles(app: AppTest) -> list[str]:
    return [figure["layout"]["title"]["text"].split("<br>")[0] for figure in figures(app)]


def store_branch(history: History, parent: str, position: int, *, differs_at: int | None = None, **changes: Any) -> str:
    """Store a branch made at a step; its tokens are other ones from there on, or from a later step on."""
    first = position if differs_at is None else differs_at
    shared_steps = sample_steps(first, vocabulary=len(VOCABULARY))
    own_steps = sample_steps(12 - first, start=first, vocabulary=len(VOCABULARY), seed=1)
    run_id, _ = store_run(history, steps=0, end=None, parent=parent, branch_position=position, **changes)
    history.append_steps(run_id, [*shared_steps, *own_steps], "text")
    history.finish_run(run_id, status="finished", stop_reason="length", output="text", seconds=1.0)
    return run_id


def test_a_run_without_branches_has_no_family_on_its_page(open_page: Opener, history: History) -> None:
    run_id, _ = store_run(history)
    app = shown(open_page("inspect", run=run_id))
    assert not set(headings(app)) & set(HEADINGS)


def test_a_parent_and_its_branch_show_the_same_family(open_page: Opener, history: History) -> None:
    root, _ = store_run(history)
    branch, _ = store_run(history, parent=root, branch_position=3)
    for run_id in (root, branch):
        app = shown(open_page("inspect", run=run_id))
        assert "Branches" in headings(app)
        assert titles(app)[-1] == "The family of this run: 2 runs"
        [targets] = [trace for trace in figures(app)[-1]["data"] if trace.get("name") == "runs"]
        assert targets["customdata"] == [root, branch]


def test_a_branch_stands_beside_its_parent_from_where_they_part(open_page: Opener, history: History) -> None:
    root, _ = store_run(history)
    branch = store_branch(history, root, 3, settings=SamplingSettings(seed=7, top_p=0.85, temperature=0.5))
    app = shown(open_page("inspect", run=branch))
    assert HEADINGS[1] in headings(app)
    assert HEADINGS[1] not in headings(shown(open_page("inspect", run=root)))
    assert any("Other settings: temperature 0.5 instead of 1." in text for text in plain(app))
    assert "Nucleus size and surprisal from where they part" in titles(app)


def test_a_branch_that_begins_with_its_parents_own_token_is_compared_from_where_they_differ(
    open_page: Opener, history: History
) -> None:
    root, _ = store_run(history)
    branch = store_branch(history, root, 3, differs_at=6)
    app = shown(open_page("inspect", run=branch))
    assert "Beside its parent, from step 7 on" in headings(app)
    assert any(text.startswith("It goes on from its parent's own token at step 4, ") for text in plain(app))
    [parting] = [figure for figure in figures(app) if "where they part" in figure["layout"]["title"]["text"]]
    assert shape(parting, "parting")["x0"] == 7


@pytest.mark.parametrize(
    ("branch", "position", "parting"),
    [([5, 6, 7], 1, 3), ([5, 6], 1, 2), ([5, 9, 7], 1, 1), ([5, 6, 9], 1, 2), ([5, 6, 9], 2, 2), ([5], 1, 1)],
)
def test_two_runs_part_at_the_first_other_token(branch: list[int], position: int, parting: int) -> None:
    def trace(ids: list[int]) -> Trace:
        return make_trace([make_step(zipf(20), drawn=token_id, position=i) for i, token_id in enumerate(ids)])

    assert parting_of(trace([5, 6, 7]), trace(branch), position) == parting


def test_a_character_of_several_tokens_is_not_broken_where_two_runs_part(open_page: Opener, history: History) -> None:
    vocabulary = Vocabulary((b"a", b"\xc3", b"\xa9", b"\xa8"))
    history.save_vocabulary(vocabulary)
    ends: list[str] = []
    for parent, last in ((None, 2), (0, 3)):
        place = {} if parent is None else {"parent": ends[parent], "branch_position": 2}
        run_id = history.create_run(sample_run(vocabulary_fingerprint=vocabulary.fingerprint, **place))
        ids = (0, 1, last)
        history.append_steps(
            run_id, [make_step([0.4, 0.3, 0.2, 0.1], drawn=i, position=at) for at, i in enumerate(ids)], ""
        )
        ends.append(run_id)
    app = shown(open_page("inspect", run=ends[1]))
    sent = [
        json.loads(strip.proto.json) for strip in app.get("bidi_component") if f"parting-{ends[0]}" in strip.proto.id
    ]
    assert [(data["prompt"], data["tokens"][0][0]) for data in sent] == [(["The lighthouse keepera"], ["é"])]


def test_as_many_tokens_are_offered_as_the_run_has_left_at_the_step(open_page: Opener, history: History) -> None:
    run_id, _ = store_run(history, steps=60)
    app = open_page("inspect", run=run_id)
    offered = []
    for position in (0, 29, 58):
        app.query_params["step"] = str(position + 1)
        app = app.button_group(key="step-part").set_value("Continue from here").run()
        offered.append(app.number_input(key=f"run-{run_id}-{position}-branch-more").value)
    assert offered == [59, 30, 20]


def test_a_branch_of_a_deleted_run_says_so(open_page: Opener, history: History) -> None:
    root, _ = store_run(history)
    branch, _ = store_run(history, parent=root, branch_position=3)
    history.delete_run(root)
    assert "The run that it branches from was deleted." in plain(shown(open_page("inspect", run=branch)))


def test_the_tokens_of_a_step_are_offered_with_what_became_of_them() -> None:
    table = alternative_rows(make_step([0.4, 0.3, 0.2, 0.1], drawn=1, top_p=0.7), make_vocabulary(4))
    assert table["Rank"].tolist() == [1, 2, 3, 4]
    assert table["State"].tolist() == ["kept", "drawn", "cut", "cut"]
    assert table["Probability"].tolist() == pytest.approx([40, 30, 20, 10])
    later = alternative_rows(make_step([0.4, 0.3, 0.2, 0.1], top_p=0.95, min_p=0.6), make_vocabulary(4))
    assert later["State"].tolist() == ["drawn", "kept", "cut later", "cut later"]
    forced = alternative_rows(make_step([0.4, 0.3, 0.2, 0.1], drawn=3, top_p=0.7), make_vocabulary(4))
    assert forced["State"].tolist() == ["kept", "kept", "cut", "in the text, forced"]


@pytest.mark.parametrize(
    ("token_id", "changes", "says"),
    [
        (1, {}, "rank 2, 30.0\u00a0%."),
        (2, {}, "rank 3, 20.0\u00a0%: it was cut at p = 0.7, so it is forced."),
        (1, {"temperature": 2.0}, "if the changed settings cut it, it is forced."),
        (1, {"top_p": 0.1}, "if the changed settings cut it, it is forced."),
        (9, {}, "below rank 3: unless these settings keep it, it is forced."),
    ],
)
def test_what_a_branch_will_be_is_said_before_it_is_made(token_id: int, changes: dict[str, float], says: str) -> None:
    own = SamplingSettings(top_p=0.7, seed=1)
    view = make_view(make_trace([THREE]), settings=own)
    told = branch_sentence(view, THREE, token_id, SamplingSettings.from_dict({**own.as_dict(), **changes}))
    assert told.startswith("The text begins “")
    assert told.endswith(says)


def test_a_forced_token_is_named_as_such_beside_its_parent(history: History) -> None:
    run_id, _ = store_run(history)
    record = history.run(run_id)
    kept, forced = (make_trace([make_step([0.5, 0.3, 0.2], drawn=drawn, top_p=0.7)]) for drawn in (1, 2))
    told = [parting_sentence(record, record, trace, 0, parting=0) for trace in (kept, forced)]
    assert "its settings keep that token. The settings are the same." in told[0]
    assert "its settings cut that token, so it was forced" in told[1]


def test_the_measures_are_of_the_steps_after_the_parting_alone() -> None:
    parent = make_trace([make_step(zipf(100, power), position=i) for i, power in enumerate((3.0, 1.0, 1.0))])
    table = measure_rows(parent, make_trace([parent.step(0)]), 1)
    assert table.loc["Parent", "Tokens"] == 2
    assert table.loc["Parent", "Mean nucleus"] == round(float(parent.nucleus_size[1:].mean()), 1)
    assert table.loc["This branch", "Tokens"] == 0
    assert table.loc["This branch"].isna().sum() == 4


@pytest.mark.usefixtures("pocket")
def test_a_typed_token_is_continued_from_and_the_branch_is_watched(open_page: Opener, history: History) -> None:
    model = shared.store().get("pocket")
    history.save_vocabulary(model.vocabulary)
    app = open_page("generate")
    app.text_area(key="prompt").set_value("Once upon a time")
    app.number_input(key="knob-max_new_tokens").set_value(6)
    app.number_input(key="knob-seed").set_value(7)
    parent = _until_ended(press(app.run(), "Run"), history)
    app = open_page("inspect", run=parent, step="3")
    app.button_group(key="step-part").set_value("Continue from here").run()
    key = f"run-{parent}"
    app.text_input(key=f"{key}-2-typed").set_value(" castle").run()
    assert any("then “␣castle”" in text for text in plain(app))
    app.number_input(key=f"{key}-2-branch-more").set_value(4).run()
    app = shown(app.button(key=f"{key}-branch").click().run())
    assert app.title[0].value == "Generate"
    branch = _until_ended(app, history)
    record, trace = history.run(branch), history.trace(branch)
    assert (record.parent, record.branch_position, len(trace)) == (parent, 2, 7)
    assert trace.token_ids[:2].tolist() == history.trace(parent).token_ids[:2].tolist()
    assert trace.token_ids[2] == model.vocabulary.find(" castle")


def _until_ended(app: AppTest, history: History) -> str:
    """Wait for the newest run to end, and return its id."""
    deadline = time.monotonic() + 20
    while ((rows := history.page(0, 1).rows) and rows[0].status in {"queued", "running"}) or not rows:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shown(app.run())
    return rows[0].public_id

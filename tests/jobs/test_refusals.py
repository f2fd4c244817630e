"""What cannot be run is refused in a sentence, at once or when its model is there."""

from __future__ import annotations

import threading

import pytest

from dashboard.errors import ModelFilesError, ModelNotFound, PromptError
from dashboard.history import History
from dashboard.jobs import Jobs
from tests.jobs.conftest import MakeJobs
from tests.jobs.tiny import PROMPT, Loader, assert_stored, ended, expected, settings


@pytest.mark.parametrize("prompt", ["", "x" * 96])
def test_a_prompt_that_cannot_be_run_is_refused_at_once_when_the_model_is_there(
    jobs: Jobs, history: History, prompt: str
) -> None:
    with pytest.raises(PromptError):
        jobs.submit(prompt, settings(), "pocket")
    assert history.page(0, 1).total == 0


def test_a_prompt_that_cannot_be_run_ends_the_job_when_the_model_comes_later(
    history: History, loader: Loader, make_jobs: MakeJobs
) -> None:
    go_on = threading.Event()
    loader.before = lambda: go_on.wait(5)
    job = make_jobs().submit("x" * 96, settings(), "pocket")
    go_on.set()
    ended(job)
    assert job.error is not None
    assert job.error.startswith("The prompt has 96 tokens, but this model reads at most 96")
    assert job.run_id is None
    assert history.page(0, 1).total == 0


def test_a_model_that_is_not_offered_is_refused(jobs: Jobs) -> None:
    with pytest.raises(ModelNotFound):
        jobs.submit(PROMPT, settings(), "no such model")


def test_a_model_that_cannot_be_loaded_ends_the_job_with_its_sentence_and_is_tried_anew_by_the_next(
    history: History, loader: Loader, make_jobs: MakeJobs
) -> None:
    def fail() -> None:
        raise ModelFilesError("The files of Tiny are damaged: copy them again.")

    loader.before = fail
    runs = make_jobs()
    job = ended(runs.submit(PROMPT, settings(), "pocket"))
    assert (job.error, job.stop_reason, job.run_id) == (
        "The files of Tiny are damaged: copy them again.",
        "error",
        None,
    )
    assert loader.calls == 1, "a load that fails is not repeated by the same run"
    loader.before = lambda: None
    assert_stored(history, ended(runs.submit(PROMPT, settings(), "pocket")), expected(settings()))

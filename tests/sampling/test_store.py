"""The store loads each model once, in the background, and says how far it is; the loader here is the test's own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest

from dashboard.config import read_config
from dashboard.errors import ModelDownloadError, ModelError, ModelNotFound
from dashboard.sampling.catalogue import CatalogueEntry
from dashboard.sampling.downloads import Progress, ProgressReport
from dashboard.sampling.store import LoadStage, ModelStore

if TYPE_CHECKING:
    from dashboard.sampling.models import LoadedModel

CONFIG = read_config({"models_allowed": "gpt2,distilgpt2,gpt2-medium"})


class Loader:
    """Loads an object instead of a model; ``steps`` are done on the way and may wait or fail."""

    def __init__(self) -> None:
        self.started: Counter[str] = Counter()
        self.steps: dict[str, Callable[[ProgressReport], None]] = {}

    def __call__(self, entry: CatalogueEntry, progress: ProgressReport) -> LoadedModel:
        self.started[entry.name] += 1
        if entry.name in self.steps:
            self.steps[entry.name](progress)
        progress(Progress("loading", 0, 10))
        progress(Progress("ready", 10, 10))
        return cast("LoadedModel", (entry.name, object()))


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def store(loader: Loader) -> ModelStore:
    return ModelStore(CONFIG, loader=loader)


def wait_for(store: ModelStore, name: str, stage: LoadStage) -> None:
    deadline = time.monotonic() + 5
    while store.state(name).stage != stage:
        assert time.monotonic() < deadline, store.state(name)
        time.sleep(0.005)


def fail(error: BaseException) -> Callable[[ProgressReport], None]:
    def step(progress: ProgressReport) -> None:
        raise error

    return step


def test_a_request_returns_at_once_and_the_model_arrives_later(store: ModelStore, loader: Loader) -> None:
    go = threading.Event()
    loader.steps["gpt2"] = lambda progress: cast(None, go.wait(5))
    assert store.state("gpt2").stage == "absent"
    assert store.request("gpt2").is_busy
    assert store.request("gpt2").model is None
    go.set()
    model = store.get("gpt2")
    assert store.request("gpt2").model is model
    assert (store.state("gpt2").stage, store.state("gpt2").done, store.state("gpt2").total) == ("ready", 10, 10)


def test_many_visitors_at_once_start_one_load_and_get_one_model(store: ModelStore, loader: Loader) -> None:
    together = threading.Barrier(8)
    got: list[Any] = []

    def visit() -> None:
        together.wait(5)
        got.append(store.get("gpt2"))

    visitors = [threading.Thread(target=visit) for _ in range(8)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(5)
    assert len(got) == 8
    assert len({id(model) for model in got}) == 1
    assert loader.started == {"gpt2": 1}


def test_the_state_tells_how_much_has_come(store: ModelStore, loader: Loader) -> None:
    go = threading.Event()

    def download(progress: ProgressReport) -> None:
        progress(Progress("downloading", 3, 10))
        go.wait(5)

    loader.steps["gpt2"] = download
    store.request("gpt2")
    wait_for(store, "gpt2", "downloading")
    assert (store.state("gpt2").done, store.state("gpt2").total) == (3, 10)
    go.set()
    store.get("gpt2")


def test_a_failure_stays_until_somebody_retries(store: ModelStore, loader: Loader) -> None:
    loader.steps["gpt2"] = fail(ModelDownloadError("The hub does not answer."))
    store.request("gpt2")
    wait_for(store, "gpt2", "failed")
    assert store.request("gpt2").error == "The hub does not answer."
    assert loader.started == {"gpt2": 1}
    with pytest.raises(ModelDownloadError, match="The hub does not answer"):
        store.get("gpt2")
    assert loader.started == {"gpt2": 2}
    loader.steps.clear()
    assert store.request("gpt2", retry=True).is_busy
    assert store.get("gpt2")
    assert store.state("gpt2").error is None


@pytest.mark.parametrize(("error", "word"), [(KeyError("x"), "KeyError"), (MemoryError(), "not enough memory")])
def test_an_unforeseen_failure_is_a_sentence_too(
    store: ModelStore, loader: Loader, error: Exception, word: str
) -> None:
    loader.steps["gpt2"] = fail(error)
    with pytest.raises(ModelError, match=word):
        store.get("gpt2")
    assert str(store.state("gpt2").error).endswith(".")


def test_one_model_that_fails_leaves_the_others_usable(store: ModelStore, loader: Loader) -> None:
    loader.steps["gpt2"] = fail(ModelDownloadError("No."))
    store.request("gpt2")
    assert store.get("distilgpt2")
    wait_for(store, "gpt2", "failed")


def test_a_slow_download_holds_up_no_other_model(store: ModelStore, loader: Loader) -> None:
    go = threading.Event()
    loader.steps["gpt2"] = lambda progress: cast(None, go.wait(5))
    store.request("gpt2")
    assert store.get("pocket")
    assert store.state("gpt2").is_busy
    go.set()
    store.get("gpt2")


def test_the_model_unused_for_longest_is_dropped_for_a_third(store: ModelStore, loader: Loader) -> None:
    store.get("gpt2")
    store.get("distilgpt2")
    store.get("gpt2")
    store.get("gpt2-medium")
    assert store.state("distilgpt2").stage == "absent"
    assert store.state("gpt2").stage == store.state("gpt2-medium").stage == "ready"
    store.get("distilgpt2")
    assert loader.started["distilgpt2"] == 2
    assert store.state("gpt2").stage == "absent"


def test_a_download_that_fails_drops_no_model(store: ModelStore, loader: Loader) -> None:
    loader.steps["gpt2-medium"] = fail(ModelDownloadError("No."))
    store.get("gpt2")
    store.get("distilgpt2")
    with pytest.raises(ModelDownloadError):
        store.get("gpt2-medium")
    assert store.state("gpt2").stage == store.state("distilgpt2").stage == "ready"


def test_a_name_that_is_not_offered_starts_nothing(store: ModelStore, loader: Loader) -> None:
    with pytest.raises(ModelNotFound):
        store.request("gpt2-large")
    assert not loader.started

"""A loaded tiny model and jobs that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboard.jobs import Jobs
from dashboard.sampling.store import ModelStore
from tests.jobs.tiny import CONFIG, Loader, Refusing, Tiny


@pytest.fixture
def model() -> Tiny:
    return Tiny()


@pytest.fixture
def loader(model: Tiny) -> Loader:
    return Loader(model)


@pytest.fixture
def store(loader: Loader) -> ModelStore:
    return ModelStore(CONFIG, loader=loader)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Refusing]:
    stored = Refusing(f"sqlite:///{tmp_path / 'history.db'}", busy_timeout=1.0)
    yield stored
    stored.close()


MakeJobs = Callable[..., Jobs]


@pytest.fixture
def make_jobs(history: Refusing, store: ModelStore) -> Iterator[MakeJobs]:
    """Jobs with these options; their threads end with the test."""
    made: list[Jobs] = []

    def make(**options: int) -> Jobs:
        made.append(Jobs(history, store, **options))
        return made[-1]

    yield make
    for jobs in made:
        jobs.close()


@pytest.fixture
def jobs(make_jobs: MakeJobs, store: ModelStore) -> Jobs:
    """Jobs whose model is loaded already."""
    store.get("pocket")
    return make_jobs(queue_limit=2)

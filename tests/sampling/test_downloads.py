"""The real download path against a hub on this machine: what is fetched, what is reported, and what goes wrong."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from dashboard.config import REPOSITORY
from dashboard.errors import ModelDownloadError, ModelError, ModelFilesError, ModelNotFound
from dashboard.sampling.downloads import Progress, cached_snapshot, download, hub_answers
from dashboard.sampling.model_files import fingerprint, weights_of
from tests.sampling.hub_server import (
    COMMIT,
    TINY_ID,
    Hub,
    fill_cache,
    serve_hub,
    tiny_files,
    tiny_shards,
    use_hub,
)

WANTED = ["config.json", "generation_config.json", "tokenizer_config.json", "vocab.json", "merges.txt"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    with serve_hub() as running:
        use_hub(monkeypatch, running.endpoint, cache)
        yield running


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fetch(reports: list[Progress] | None = None) -> Path:
    return download("Tiny", TINY_ID, (reports if reports is not None else []).append)


def failure(kind: type[ModelError]) -> str:
    """The sentence of a download that fails."""
    with pytest.raises(kind) as caught:
        fetch()
    sentence = str(caught.value)
    assert type(caught.value) is kind
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_only_configuration_tokenizer_and_safetensors_are_fetched_each_once(hub: Hub, cache: Path) -> None:
    folder = fetch()
    assert hub.fetched() == dict.fromkeys([*WANTED, "model.safetensors"], 1)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*WANTED, "model.safetensors"])
    assert folder == cache / "models--nucleus--tiny" / "snapshots" / COMMIT


def test_all_shards_and_their_index_are_fetched(hub: Hub) -> None:
    hub.repositories[TINY_ID] = tiny_shards()
    names = [path.name for path in weights_of(fetch())]
    assert names == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def test_progress_starts_at_nothing_never_falls_and_ends_at_the_total(hub: Hub) -> None:
    reports: list[Progress] = []
    fetch(reports)
    total = sum(len(hub.repositories[TINY_ID][name]) for name in [*WANTED, "model.safetensors"])
    assert {(report.stage, report.total) for report in reports} == {("downloading", total)}
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, total)
    assert len(set(done)) > 3


def test_a_model_fetched_once_is_found_in_the_cache_without_a_request(hub: Hub) -> None:
    folder = fetch()
    asked = len(hub.requests)
    assert cached_snapshot([TINY_ID]) == folder
    assert len(hub.requests) == asked


def test_the_fingerprint_of_a_fetched_model_is_the_hash_that_the_hub_names(hub: Hub, tmp_path: Path) -> None:
    folder = fetch()
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert fingerprint(weights_of(folder)) == fingerprint(weights_of(copy))
    assert fingerprint(weights_of(folder)) == (folder / "model.safetensors").resolve().name


def test_the_variables_of_the_environment_name_the_hub_and_the_cache(tmp_path: Path) -> None:
    program = f"from dashboard.sampling.downloads import download; print(download('Tiny', {TINY_ID!r}, print))"
    with serve_hub() as hub:
        variables = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | variables,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "hub" / "models--nucleus--tiny" / "snapshots" / COMMIT)


def test_a_name_that_the_hub_does_not_know_is_said_so(hub: Hub) -> None:
    hub.repositories.clear()
    assert TINY_ID in failure(ModelNotFound)


def test_a_gated_model_asks_for_a_token(hub: Hub) -> None:
    hub.status = (401, "GatedRepo")
    assert "HF_TOKEN" in failure(ModelDownloadError)


def test_a_hub_in_trouble_and_a_hub_that_is_down_are_said_so(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, cache: Path, closed_port: int
) -> None:
    hub.status = (503, "")
    assert "error 503" in failure(ModelDownloadError)
    use_hub(monkeypatch, f"http://127.0.0.1:{closed_port}", cache)
    assert "does not answer" in failure(ModelDownloadError)


def test_a_hub_that_takes_the_call_and_keeps_silent_ends_the_download_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", cache)
        assert "does not answer" in failure(ModelDownloadError)


def test_an_older_model_stays_in_use_until_the_new_one_is_complete(hub: Hub, cache: Path) -> None:
    older = fill_cache(cache, TINY_ID, tiny_files(), commit="f" * 40)
    hub.short["model.safetensors"] = 1000
    hub.repositories[TINY_ID]["model.safetensors"] = tiny_shards()["model-00002-of-00002.safetensors"]
    failure(ModelDownloadError)
    assert cached_snapshot([TINY_ID]) == older
    hub.short.clear()
    assert fetch() == cached_snapshot([TINY_ID]) != older


def test_offline_mode_makes_no_request(hub: Hub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    use_hub(monkeypatch, hub.endpoint, cache, offline=True)
    assert "HF_HUB_OFFLINE" in failure(ModelDownloadError)
    assert not hub_answers(TINY_ID, 1.0)
    assert hub.requests == []


def test_a_model_with_pickled_weights_only_is_refused_before_anything_is_fetched(hub: Hub, cache: Path) -> None:
    del hub.repositories[TINY_ID]["model.safetensors"]
    assert "pickle" in failure(ModelFilesError)
    assert hub.fetched() == {}


def test_a_connection_that_breaks_once_is_taken_up_again(hub: Hub) -> None:
    hub.broken_off["model.safetensors"] = 1000
    reports: list[Progress] = []
    assert weights_of(fetch(reports))
    assert hub.fetched()["model.safetensors"] == 2
    assert max(report.done for report in reports) == reports[-1].total


def test_a_file_that_is_cut_short_is_no_model_and_the_next_try_works(hub: Hub, cache: Path) -> None:
    hub.short["model.safetensors"] = 1000
    assert "try again" in failure(ModelDownloadError)
    assert cached_snapshot([TINY_ID]) is None
    assert not list(cache.rglob("*.incomplete"))
    hub.short.clear()
    folder = fetch()
    assert cached_snapshot([TINY_ID]) == folder
    assert hub.fetched()["vocab.json"] == 1


def test_a_file_whose_bytes_changed_on_the_way_is_removed_and_the_next_try_works(hub: Hub) -> None:
    hub.damaged.add("model.safetensors")
    assert "damaged" in failure(ModelDownloadError)
    assert cached_snapshot([TINY_ID]) is None
    hub.damaged.clear()
    assert fetch() == cached_snapshot([TINY_ID])


def test_half_a_file_left_in_the_cache_by_something_else_is_replaced(hub: Hub, cache: Path) -> None:
    snapshot = fill_cache(cache, TINY_ID, tiny_files())
    os.truncate((snapshot / "model.safetensors").resolve(), 1000)
    assert cached_snapshot([TINY_ID]) is None
    assert fetch() == snapshot
    assert cached_snapshot([TINY_ID]) == snapshot
    assert hub.fetched() == {"model.safetensors": 1}


def test_content_that_the_cache_shares_between_models_is_named_and_replaced_all_the_same(hub: Hub, cache: Path) -> None:
    # The client's newer layout: snapshot -> blobs/<SHA-256> -> <cache>/blobs/<two digits>/<another hash>.
    weights = fill_cache(cache, TINY_ID, tiny_files()) / "model.safetensors"
    blob = weights.readlink()
    shared = cache / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    assert fingerprint([weights]) == hashlib.sha256(shared.read_bytes()).hexdigest() == blob.name
    os.truncate(shared, 1000)
    fetch()
    assert not shared.exists()
    assert cached_snapshot([TINY_ID]) == weights.parent


def test_a_disk_without_room_is_noticed_before_anything_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    assert "HF_HOME" in failure(ModelDownloadError)
    assert hub.fetched() == {}


def test_a_disk_that_fills_up_meanwhile_leaves_no_half_file_and_the_next_try_works(hub: Hub, cache: Path) -> None:
    # A limit on the size of files makes the write fail as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        assert "no room" in failure(ModelDownloadError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(cache.rglob("*.incomplete"))
    assert cached_snapshot([TINY_ID]) is None
    assert fetch() == cached_snapshot([TINY_ID])


@pytest.mark.parametrize(
    ("code", "word"),
    [(errno.ENOSPC, "no room"), (errno.EDQUOT, "no room"), (errno.EROFS, "read-only"), (None, "broke off")],
)
def test_errors_of_the_disk_become_sentences(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, code: int | None, word: str
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError(code, "the disk says no") if code else RuntimeError("a client's own error")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    assert word in failure(ModelDownloadError)


def test_the_hub_answers_when_it_has_the_model(hub: Hub) -> None:
    assert hub_answers(TINY_ID, 5.0)


def test_the_hub_is_asked_once_a_minute(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_answers(TINY_ID, 5.0)
    assert hub_answers(TINY_ID, 5.0)
    assert len(hub.requests) == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert hub_answers(TINY_ID, 5.0)
    assert len(hub.requests) == 2


def test_the_page_of_a_captive_network_is_no_answer(hub: Hub) -> None:
    hub.status = (200, "")
    assert not hub_answers(TINY_ID, 5.0)
    assert len(hub.requests) == 1


def test_a_hub_that_takes_the_call_and_keeps_silent_costs_the_timeout_and_no_more(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    huggingface_hub.get_hf_file_metadata  # noqa: B018  # the client's first import is not what is timed
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", cache)
        start = time.perf_counter()
        assert not hub_answers(TINY_ID, 0.3)
        assert 0.2 < time.perf_counter() - start < 1.0


def test_a_name_server_that_keeps_silent_costs_the_timeout_and_no_more(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    use_hub(monkeypatch, "http://hub.invalid", cache)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(2))
    start = time.perf_counter()
    assert not hub_answers(TINY_ID, 0.3)
    assert time.perf_counter() - start < 1.0

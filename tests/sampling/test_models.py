"""Models become objects that can be asked: the bundled one, one from a hub, local folders good and bad."""

from __future__ import annotations

import hashlib
import json
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from dashboard.config import read_config
from dashboard.errors import ModelDownloadError, ModelError, ModelFilesError, PromptError
from dashboard.sampling.catalogue import CatalogueEntry, FolderSource, HubSource, find
from dashboard.sampling.downloads import Progress
from dashboard.sampling.models import LoadedModel, load
from dashboard.sampling.store import ModelStore
from tests.sampling.hub_server import (
    COMMIT,
    POCKET_FOLDER,
    TINY_ID,
    Hub,
    serve_hub,
    tiny_files,
    tiny_shards,
    tiny_tensors,
    use_hub,
    write_folder,
)

TINY = CatalogueEntry("tiny", "Tiny", HubSource(TINY_ID), "A model of the tests.")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as running:
        use_hub(monkeypatch, running.endpoint, tmp_path / "hub")
        yield running


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    """The bundled model, loaded while every connection fails."""
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: object) -> None:
            raise OSError("no network in this test")

        patch.setattr(socket.socket, "connect", refuse)
        return load(find("pocket", read_config()), lambda progress: None)


def load_folder(folder: Path) -> LoadedModel:
    entry = CatalogueEntry("local:tiny", "Tiny", FolderSource(folder, "local"), "A model of the tests.")
    return load(entry, lambda progress: None)


def logits(model: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        scores: torch.Tensor = model.model(torch.tensor([[5, 17, 80]])).logits
        return scores


def test_the_bundled_model_loads_without_a_network_and_speaks(pocket: LoadedModel) -> None:
    ids = torch.tensor([pocket.encode("Once upon a time, there was a little")])
    with torch.inference_mode():
        distribution = pocket.model(ids).logits[0, -1].softmax(dim=-1)
    assert distribution.shape == (50257,)
    assert float(distribution.sum()) == pytest.approx(1.0, abs=1e-4)
    likely = pocket.vocabulary.labels(distribution.topk(20).indices.tolist())
    assert " girl" in likely
    assert " boy" in likely


def test_the_bundled_model_says_who_it_is(pocket: LoadedModel) -> None:
    assert (pocket.name, pocket.title, pocket.revision) == ("pocket", "Pocket GPT-2", "bundled")
    assert pocket.fingerprint == hashlib.sha256((POCKET_FOLDER / "model.safetensors").read_bytes()).hexdigest()
    assert pocket.context_length == find("pocket", read_config()).context_length == 512
    assert pocket.eos_ids == {50256}
    assert len(pocket.vocabulary) == 50257
    assert pocket.vocabulary.special == {50256}


def test_a_loaded_model_is_float32_in_evaluation_mode_and_without_gradients(pocket: LoadedModel) -> None:
    assert {parameter.dtype for parameter in pocket.model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in pocket.model.parameters())
    assert not any(module.training for module in pocket.model.modules())


@pytest.mark.parametrize(
    "text",
    [
        "a",
        " ",
        "\n\n",
        "Once upon a time",
        "<|endoftext|>",
        "a<|endoftext|>b",
        "😀 naïve 你好",
        "\x00\u200d",
        "é" * 999,
    ],
)
def test_a_prompt_is_encoded_whole_and_nothing_is_added(pocket: LoadedModel, text: str) -> None:
    ids = pocket.encode(text)
    assert pocket.vocabulary.decode(ids) == text
    assert 50256 not in ids


@pytest.mark.parametrize("text", ["", "half \ud83d"])
def test_a_prompt_that_is_no_text_is_refused_in_one_sentence(pocket: LoadedModel, text: str) -> None:
    with pytest.raises(PromptError, match=r"^The prompt .*\.$"):
        pocket.encode(text)


def test_a_model_comes_from_the_hub_in_stages_and_the_second_time_from_the_cache(hub: Hub) -> None:
    reports: list[Progress] = []
    first = load(TINY, reports.append)
    stages = [report.stage for report in reports]
    assert list(dict.fromkeys(stages)) == ["downloading", "loading", "ready"]
    assert stages == sorted(stages, key=["downloading", "loading", "ready"].index)
    weights = hub.repositories[TINY_ID]["model.safetensors"]
    assert first.revision == COMMIT
    assert first.fingerprint == hashlib.sha256(weights).hexdigest()
    assert reports[-1].done == reports[-1].total == len(weights)

    asked = len(hub.requests)
    hub.status = (503, "")
    again: list[Progress] = []
    torch.testing.assert_close(logits(load(TINY, again.append)), logits(first))
    assert [report.stage for report in again] == ["loading", "ready"]
    assert len(hub.requests) == asked


def test_float16_weights_become_the_same_numbers_in_float32(tmp_path: Path) -> None:
    model = load_folder(write_folder(tmp_path, tiny_files()))
    stored = tiny_tensors()["wte.weight"].astype(np.float32)
    assert np.array_equal(model.model.state_dict()["transformer.wte.weight"].numpy(), stored)


def test_weights_in_several_files_give_the_same_model(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[TINY_ID] = tiny_shards()
    sharded = load(TINY, lambda progress: None)
    single = load_folder(write_folder(tmp_path / "single", tiny_files()))
    copied = load_folder(write_folder(tmp_path / "shards", tiny_shards()))
    torch.testing.assert_close(logits(sharded), logits(single))
    assert sharded.fingerprint == copied.fingerprint != single.fingerprint


def test_a_failed_download_is_passed_on_and_retried_with_success(hub: Hub) -> None:
    hub.short["model.safetensors"] = 1000
    with pytest.raises(ModelDownloadError):
        load(TINY, lambda progress: None)
    hub.short.clear()
    assert load(TINY, lambda progress: None).revision == COMMIT


def test_two_visitors_of_one_store_fetch_and_load_once(hub: Hub) -> None:
    store = ModelStore(read_config({"models_allowed": TINY_ID}))
    hub.hold.clear()
    got: list[LoadedModel] = []
    visitors = [threading.Thread(target=lambda: got.append(store.get(TINY_ID))) for _ in range(2)]
    for visitor in visitors:
        visitor.start()
    assert store.request(TINY_ID).is_busy
    hub.hold.set()
    for visitor in visitors:
        visitor.join(20)
    assert got[0] is got[1] is store.state(TINY_ID).model
    assert set(hub.fetched().values()) == {1}


class Trap:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    mark = tmp_path / "opened"
    files = tiny_files() | {"pytorch_model.bin": pickle.dumps(Trap(mark))}
    pickle.loads(files["pytorch_model.bin"])
    assert mark.exists()
    mark.unlink()

    del files["model.safetensors"]
    with pytest.raises(ModelFilesError, match="pickle"):
        load_folder(write_folder(tmp_path / "only", files))
    files["model.safetensors"] = tiny_files()["model.safetensors"]
    assert load_folder(write_folder(tmp_path / "both", files))
    assert not mark.exists()


@pytest.mark.parametrize("model_type", ["gpt2", "unheard-of"])
def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path, model_type: str) -> None:
    mark = tmp_path / "run"
    config = json.loads(tiny_files()["config.json"])
    config |= {"model_type": model_type, "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Own: ...\n"
    files = tiny_files() | {"config.json": json.dumps(config).encode(), "own.py": code.encode()}
    folder = write_folder(tmp_path / "model", files)
    if model_type == "gpt2":
        assert load_folder(folder)
    else:
        with pytest.raises(ModelFilesError):
            load_folder(folder)
    assert not mark.exists()


def without_a_tensor(files: dict[str, bytes]) -> None:
    files["model.safetensors"] = save({n: t for n, t in tiny_tensors().items() if n != "h.0.attn.c_proj.weight"})


def of_another_width(files: dict[str, bytes]) -> None:
    files["model.safetensors"] = save(tiny_tensors(width=16))


def cut_short(files: dict[str, bytes]) -> None:
    files["model.safetensors"] = files["model.safetensors"][:-100]


def no_tensors_at_all(files: dict[str, bytes]) -> None:
    files["model.safetensors"] = b"<html>Not found</html>"


def with_a_broken_configuration(files: dict[str, bytes]) -> None:
    files["config.json"] = b"{"


def with_more_tokens_than_weights(files: dict[str, bytes]) -> None:
    vocabulary = json.loads(files["vocab.json"])
    vocabulary["one-too-many"] = len(vocabulary)
    files["vocab.json"] = json.dumps(vocabulary).encode()


def with_whole_words_as_tokens(files: dict[str, bytes]) -> None:
    words = Tokenizer(WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    files["tokenizer.json"] = words.to_str().encode()
    files["tokenizer_config.json"] = b'{"tokenizer_class": "PreTrainedTokenizerFast"}'


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (without_a_tensor, "c_proj"),
        (of_another_width, "damaged"),
        (cut_short, "incomplete"),
        (no_tensors_at_all, "incomplete"),
        (with_a_broken_configuration, "damaged"),
        (with_more_tokens_than_weights, "do not belong together"),
        (with_whole_words_as_tokens, "byte-level"),
    ],
)
def test_a_model_that_would_speak_nonsense_is_refused_in_one_sentence(
    tmp_path: Path, spoil: Callable[[dict[str, bytes]], None], word: str
) -> None:
    files = tiny_files()
    spoil(files)
    with pytest.raises(ModelFilesError, match=word) as caught:
        load_folder(write_folder(tmp_path, files))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("dashboard.sampling.models.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(ModelError, match="not enough memory for Tiny"):
        load_folder(write_folder(tmp_path, tiny_files()))


@pytest.mark.parametrize(("said", "expected"), [(None, set()), (7, {7}), ([7, 9], {7, 9})])
def test_a_text_ends_where_generate_would_end_it(tmp_path: Path, said: object, expected: set[int]) -> None:
    files = tiny_files() | {"generation_config.json": json.dumps({"eos_token_id": said}).encode()}
    assert load_folder(write_folder(tmp_path, files)).eos_ids == expected

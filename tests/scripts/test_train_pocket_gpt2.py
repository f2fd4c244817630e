"""The training script on a small corpus whose best possible loss is known, with a model of one narrow layer."""

from __future__ import annotations

import json
import math
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoTokenizer, GPT2LMHeadModel

from scripts import train_pocket_gpt2 as script

BUNDLED = Path(__file__).resolve().parents[2] / "data" / "pocket-gpt2"
# Every word is one GPT-2 token, so a sentence is seven tokens, of which four are free choices among eight.
SLOTS = (
    ("red", "blue", "old", "young", "quick", "quiet", "kind", "brave"),
    ("fox", "dog", "cat", "bird", "horse", "king", "boy", "girl"),
    ("saw", "found", "lost", "liked", "heard", "took", "left", "met"),
    ("stone", "tree", "river", "house", "boat", "road", "bridge", "door"),
)
SENTENCES, CONTEXT = 9, 32
SHAPE = {"layers": 1, "width": 32, "heads": 2, "context": CONTEXT, "batch": 8}
RATES = {"muon-lr": 0.02, "adamw-lr": 0.01}
TINY = [f"--{name}={value}" for name, value in {**SHAPE, **RATES, "tokenizer": BUNDLED}.items()]


def document(rng: random.Random) -> str:
    return "".join(" The {} {} {} the {}.".format(*(rng.choice(slot) for slot in SLOTS)) for _ in range(SENTENCES))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, folder = random.Random(0), tmp_path_factory.mktemp("corpus")
    for source, count in (("fables", 350), ("notes", 150)):
        (folder / source).mkdir()
        text = "\n<|endoftext|>\n".join(document(rng) for _ in range(count))
        (folder / source / "one.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def same_signal_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@dataclass(frozen=True)
class Outcome:
    out: Path
    work: Path
    record: dict[str, Any]


def run(corpus: Path, folder: Path, *options: str) -> Outcome:
    out, work = folder / "out", folder / "work"
    assert script.main([str(corpus), "--out", str(out), "--work", str(work), *TINY, *options]) == 0
    return Outcome(out, work, json.loads((work / "training.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(corpus, tmp_path_factory.mktemp("trained"), "--steps", "75")


def heldout_streams(work: Path) -> list[torch.Tensor]:
    paths = sorted((work / "cache").glob("*.heldout.bin"))
    return [torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int64)) for path in paths]


def test_the_heldout_loss_falls_from_chance_to_near_the_best_that_is_possible(trained: Outcome) -> None:
    losses = [entry["loss"]["mixed"] for entry in trained.record["heldout"]]
    tokens = torch.cat(heldout_streams(trained.work)).tolist()
    unigram = -sum(n / len(tokens) * math.log(n / len(tokens)) for n in Counter(tokens).values())
    # Four choices among eight in seven tokens; an end of text for each 63. Nothing honest can be below.
    best = SENTENCES * 4 * math.log(8) / (SENTENCES * 7 + 1)
    assert losses[0] == pytest.approx(math.log(50257), abs=0.2)
    assert losses[-1] < unigram - 1
    assert best < losses[-1] < best + 0.4


def test_the_exported_folder_is_a_gpt2_whose_own_loss_is_the_reported_one(trained: Outcome) -> None:
    model = GPT2LMHeadModel.from_pretrained(trained.out, dtype=torch.float32).eval()
    nats = count = 0.0
    for stream in heldout_streams(trained.work):
        for start in range(0, len(stream) - 1, CONTEXT):
            ids = stream[start : start + CONTEXT + 1]
            with torch.no_grad():
                logits = model(ids[None, :-1]).logits[0]
            nats += float(functional.cross_entropy(logits, ids[1:], reduction="sum"))
            count += len(ids) - 1
    assert nats / count == pytest.approx(trained.record["heldout"][-1]["loss"]["mixed"], abs=0.01)
    saved = json.loads((trained.out / "config.json").read_text(encoding="utf-8"))
    assert saved["activation_function"] == "gelu_new"
    assert saved["dtype"] == "float16"


def test_the_exported_tokenizer_is_gpt2s(trained: Outcome) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained.out)
    assert tokenizer("Hello there<|endoftext|>")["input_ids"] == [15496, 612, 50256]
    assert tokenizer.decode([15496, 612]) == "Hello there"


def test_an_interrupted_training_that_is_resumed_ends_with_the_weights_of_one_that_was_not(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--steps", "12", "--checkpoint-minutes", "0")
    straight = run(corpus, tmp_path / "straight", *options)

    draw = script.Batches.draw

    def power_cut(self: script.Batches, step: int) -> torch.Tensor:
        if step == 7:
            raise KeyboardInterrupt
        return draw(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(script.Batches, "draw", power_cut)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path / "cut", *options)
    assert not (tmp_path / "cut" / "out").exists()
    resumed = run(corpus, tmp_path / "cut", *options, "--resume")

    expected, actual = (GPT2LMHeadModel.from_pretrained(r.out).state_dict() for r in (straight, resumed))
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert resumed.record["tokens"] == straight.record["tokens"] == 12 * 8 * CONTEXT
    assert [entry["step"] for entry in resumed.record["heldout"]] == [0, 12]


def test_a_termination_signal_ends_the_training_after_its_step_and_exports(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = script.Batches.draw

    def terminate(self: script.Batches, step: int) -> torch.Tensor:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, step)

    monkeypatch.setattr(script.Batches, "draw", terminate)
    outcome = run(corpus, tmp_path, "--steps", "50")
    assert outcome.record["step"] == 3
    assert (outcome.out / "model.safetensors").exists()
    assert (outcome.work / "checkpoint.pt").exists()


def test_a_training_that_continues_starts_from_the_loss_where_the_other_ended(
    corpus: Path, trained: Outcome, tmp_path: Path
) -> None:
    record = run(corpus, tmp_path, "--start", str(trained.out), "--steps", "1").record
    assert record["heldout"][0]["loss"] == pytest.approx(trained.record["heldout"][-1]["loss"], abs=1e-3)


def test_a_budget_in_minutes_is_of_the_wall_clock(corpus: Path, tmp_path: Path) -> None:
    record = run(corpus, tmp_path, "--minutes", "0.01").record
    assert record["step"] >= 1
    assert 0.6 <= record["seconds"] < 10


def test_the_loss_and_its_gradients_are_those_of_the_plain_cross_entropy() -> None:
    torch.manual_seed(0)
    count = script.CHUNK + 100  # one whole chunk and one that is not
    hidden = torch.randn(count, 16).to(torch.bfloat16).requires_grad_()
    weight = torch.randn(300, 16).to(torch.bfloat16).float().requires_grad_()
    targets = torch.randint(0, 300, (count,))
    loss = script.FullSoftmaxLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    ours = torch.autograd.grad(3 * loss, (hidden, weight))
    plain_hidden = hidden.detach().float().requires_grad_()
    plain = functional.cross_entropy(plain_hidden @ weight.T, targets)
    theirs = torch.autograd.grad(3 * plain, (plain_hidden, weight))
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=2e-3)
    for mine, reference in zip(ours, theirs, strict=True):
        assert float((mine.float() - reference).norm() / reference.norm()) < 0.02


def test_about_one_document_in_a_hundred_is_held_out_whatever_the_order_and_never_one_of_two_copies() -> None:
    documents = [f"Document {number}" for number in range(5000)]
    train, heldout = script.split([script.SEPARATOR.join(documents)])
    assert 30 <= len(heldout) <= 70
    assert heldout[:3] == ["Document 10", "Document 108", "Document 199"]  # the same in every process
    assert sorted(train + heldout) == sorted(documents)
    _, again = script.split([*reversed(documents), *documents])
    assert set(again) == set(heldout)
    assert len(again) == 2 * len(heldout)


def test_a_source_of_few_documents_still_holds_one_out() -> None:
    train, heldout = script.split(["One", "Two", "Three"])
    assert (len(train), len(heldout)) == (2, 1)


def test_every_window_of_a_pass_is_new_text_and_weights_choose_the_source() -> None:
    stream = np.arange(1000, dtype=np.uint16)
    empty = np.zeros(1, dtype=np.uint16)
    sources = [script.Source("read", 1.0, stream, empty), script.Source("unread", 0.0, stream, empty)]
    batches = script.Batches(sources, context=100, batch=4, seed=0)
    inputs = torch.cat([batches.draw(step)[:, :-1].flatten() for step in range(2)])
    assert batches.drawn == [8, 0]
    assert len(set(inputs.tolist())) == len(inputs) == 800


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    factors = [script.rate(share, 0.1, 0.5) for share in (0.0, 0.05, 0.1, 0.5, 0.75, 1.0)]
    assert factors == pytest.approx([0.01, 0.505, 1, 1, 0.5, 0], abs=0.005)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (None, [], "No .txt file was found"),
        (b"A little text.", [], "add text, or lower --context"),
        (b"\xff\xfe", [], "not UTF-8 text"),
        (b"Text", ["--weight", "novels=2"], "--weight names novels, but the sources are texts"),
        (b"Text " * 500, ["--weight", "texts=0"], "Every source has weight 0"),
        (b"Text", ["--start", "nowhere"], "--start nowhere holds no config.json"),
        (b"Text", ["--tokenizer", "nowhere"], "nowhere holds no vocab.json"),
        (b"Text", ["--width", "30", "--heads", "4"], "not a multiple of --heads 4"),
        (b"Text", ["--resume"], "There is nothing to resume"),
    ],
)
def test_what_the_user_can_put_right_is_said_in_one_sentence(
    text: bytes | None,
    options: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "texts").mkdir()
    if text is not None:
        (tmp_path / "texts" / "a.txt").write_bytes(text + b"<|endoftext|>" + text + b"!")
    arguments = [str(tmp_path / "texts"), "--out", str(tmp_path / "out"), "--steps", "1", *TINY, *options]
    assert script.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert sentence in said


@pytest.mark.parametrize("option", [["--steps", "0"], ["--minutes", "-1"], ["--steps", "1", "--weight", "a"]])
def test_an_option_out_of_range_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["corpus", "--out", "out", *option])
    assert "error: argument --" in capsys.readouterr().err

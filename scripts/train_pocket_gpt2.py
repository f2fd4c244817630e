r"""Train the bundled model: a small GPT-2 over GPT-2's own vocabulary, on the cores of one computer.

    OMP_WAIT_POLICY=passive nice python scripts/train_pocket_gpt2.py CORPUS --start data/pocket-gpt2 --out NEW \
        --minutes 120

CORPUS is a folder of UTF-8 `.txt` files; its direct sub-folders are the sources, and `<|endoftext|>` stands
between documents. Muon (Jordan et al. 2024) trains the layers' matrices and AdamW (Loshchilov and Hutter
2019) the rest, by the loss over the whole vocabulary: the tail is what the dashboard shows, and a sampled
softmax leaves it too heavy. Losses are in nats a token. The wait policy matters on a computer that others use:
threads that spin while they wait for one another halved the speed there.
"""

import argparse
import hashlib
import json
import math
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, GPT2Tokenizer
from transformers.utils import logging as transformers_logging

SEPARATOR = "<|endoftext|>"
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
BUNDLED = Path(__file__).resolve().parent.parent / "data" / "pocket-gpt2"
CHUNK = 512  # positions whose logits exist at a time: 512 x 50,257 in bfloat16 are 51 MB
MAX_GRADIENT_NORM = 1.0
REPORT_SECONDS = 15

Tokens = NDArray[np.uint16]


class TrainingError(Exception):
    """Something that the user can put right; the message is one sentence for them."""


# --- Text to tokens -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One sub-folder of the corpus as two token streams; an end-of-text token stands around each document."""

    name: str
    weight: float
    train: Tokens
    heldout: Tokens


def digest(document: str) -> int:
    """64 bits of the document's hash; Python's own `hash` of a text differs from process to process."""
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big")


def split(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """The documents to train on and those held out: one in a hundred, but at least one.

    The choice hangs on nothing but a document's own text: it is the same in every run, and two copies of a
    document are never on both sides.
    """
    documents = [part.strip() for text in texts for part in text.split(SEPARATOR) if part.strip()]
    heldout = {document for document in documents if digest(document) % 100 == 0}
    heldout = heldout or set(sorted(documents, key=digest)[:1])
    return [d for d in documents if d not in heldout], [d for d in documents if d in heldout]


def tokenise(tokenizer: GPT2Tokenizer, documents: list[str]) -> Tokens:
    """The stream of token ids; the tokenizer's own threads use every core."""
    ids = [tokenizer.eos_token_id]
    for encoded in tokenizer(documents, verbose=False)["input_ids"] if documents else []:
        ids += [*encoded, tokenizer.eos_token_id]
    return np.asarray(ids, dtype=np.uint16)


def load_source(name: str, weight: float, files: list[Path], tokenizer_folder: Path, cache: Path) -> Source:
    """Memory-map the source's streams; they are cached under a hash of what they are made from."""
    try:
        texts = [path.read_text(encoding="utf-8") for path in files]
    except UnicodeDecodeError as error:
        raise TrainingError(f"A file of the source {name} is not UTF-8 text: {error}.") from error
    key = hashlib.sha256((tokenizer_folder / "merges.txt").read_bytes())
    for text in texts:
        key.update(hashlib.sha256(text.encode()).digest())
    paths = [cache / f"{name}-{key.hexdigest()[:16]}.{part}.bin" for part in ("train", "heldout")]
    if not all(path.exists() for path in paths):
        cache.mkdir(parents=True, exist_ok=True)
        tokenizer = GPT2Tokenizer.from_pretrained(tokenizer_folder)
        for path, documents in zip(paths, split(texts), strict=True):
            unfinished = path.with_suffix(".part")  # half a stream must never pass for a whole one
            tokenise(tokenizer, documents).tofile(unfinished)
            unfinished.replace(path)
    train, heldout = (np.memmap(path, dtype=np.uint16, mode="r") for path in paths)
    return Source(name, weight, train, heldout)


def load_corpus(corpus: Path, weights: dict[str, float], tokenizer_folder: Path, cache: Path) -> list[Source]:
    """Every source of the folder, by name; files that lie in the folder itself form a source of its name."""
    files: dict[str, list[Path]] = {}
    for path in sorted(corpus.rglob("*.txt")):
        inside = path.relative_to(corpus).parent.parts
        files.setdefault(inside[0] if inside else corpus.resolve().name, []).append(path)
    if not files:
        raise TrainingError(f"No .txt file was found in {corpus}; give a folder of text files.")
    if unknown := sorted(set(weights) - set(files)):
        raise TrainingError(f"--weight names {unknown[0]}, but the sources are {', '.join(files)}.")
    return [load_source(n, weights.get(n, 1.0), paths, tokenizer_folder, cache) for n, paths in files.items()]


class Batches:
    """Windows of context + 1 tokens; a source is drawn in proportion to its tokens times its weight.

    Within a source every window is seen once before one is seen again, cut at a new offset in each pass. How
    many windows were drawn from each source is the only state, so a resumed training reads on where it was.
    """

    def __init__(self, sources: Sequence[Source], context: int, batch: int, seed: int) -> None:
        for source in sources:
            if len(source.train) <= 2 * context:
                raise TrainingError(
                    f"The source {source.name} has {len(source.train):,} tokens to train on, but windows of "
                    f"{context} need more than {2 * context:,}: add text, or lower --context."
                )
        shares = np.array([len(source.train) * source.weight for source in sources])
        if not shares.any():
            raise TrainingError("Every source has weight 0: give at least one a positive --weight.")
        self.streams = [source.train for source in sources]
        self.context, self.batch, self.seed = context, batch, seed
        self.shares = shares / shares.sum()
        self.drawn = [0] * len(sources)

    def window(self, index: int) -> Tokens:
        """The next window of one source, (context + 1,)."""
        stream, count = self.streams[index], (len(self.streams[index]) - 1) // self.context - 1
        turn, place = divmod(self.drawn[index], count)
        self.drawn[index] += 1
        random = np.random.default_rng([self.seed, index, turn])
        start = int(random.integers(self.context)) + self.context * int(random.permutation(count)[place])
        return stream[start : start + self.context + 1]

    def draw(self, step: int) -> torch.Tensor:
        """Token ids of one step, (batch, context + 1)."""
        random = np.random.default_rng([self.seed, step])
        chosen = random.choice(len(self.streams), size=self.batch, p=self.shares)
        return torch.from_numpy(np.stack([self.window(int(index)) for index in chosen]).astype(np.int64))


# --- Model and loss -----------------------------------------------------------------------------------------


class FullSoftmaxLoss(torch.autograd.Function):
    """Mean cross-entropy over the whole vocabulary that never holds all logits.

    hidden (N, width) bfloat16, weight (V, width) float32, targets (N,) -> scalar. The gradient of a chunk is
    known as soon as its softmax is (softmax - one-hot), so it is taken on the way forward and the logits are
    dropped: three matrix products, where recomputing the logits in the backward pass would cost a fourth.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss in nats and keep both gradients, if they are wanted, for `backward`."""
        hidden_gradient = torch.empty_like(hidden)
        weight_gradient = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        narrow = weight.to(torch.bfloat16)
        # One pair of buffers for all chunks: the system would have to page in fresh ones every time.
        logits_buffer = torch.empty(CHUNK, len(weight), dtype=torch.bfloat16)
        softmax_buffer = torch.empty_like(logits_buffer)
        total = torch.zeros(())
        for start in range(0, len(targets), CHUNK):
            states, target = hidden[start : start + CHUNK], targets[start : start + CHUNK]
            logits, softmax = logits_buffer[: len(states)], softmax_buffer[: len(states)]
            torch.mm(states, narrow.T, out=logits)
            torch.softmax(logits, dim=-1, out=softmax)
            rows = torch.arange(len(states))
            right = softmax[rows, target].float()
            total -= right.clamp_min(1e-30).log().sum()
            if weight_gradient is not None:
                softmax[rows, target] = (right - 1).to(softmax.dtype)
                torch.mm(softmax, narrow, out=hidden_gradient[start : start + CHUNK])
                weight_gradient += softmax.T @ states
        if weight_gradient is not None:
            ctx.save_for_backward(hidden_gradient.div_(len(targets)), weight_gradient.div_(len(targets)))
        return total / len(targets)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Scale what `forward` kept."""
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return hidden_gradient * grads[0], weight_gradient * grads[0], None


def loss_of(model: GPT2LMHeadModel, ids: torch.Tensor) -> torch.Tensor:
    """Mean loss of predicting each of ids[:, 1:] from the ids before it; ids (batch, length)."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.transformer(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    hidden = hidden.flatten(0, 1).to(torch.bfloat16)
    loss: torch.Tensor = FullSoftmaxLoss.apply(hidden, model.transformer.wte.weight, ids[:, 1:].flatten())  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def heldout_losses(model: GPT2LMHeadModel, sources: Sequence[Source], batch: int) -> dict[str, float]:
    """The loss on the held-out documents of each source, and on all of their tokens together as "mixed"."""
    context, losses, nats, tokens = model.config.n_positions, {}, 0.0, 0
    for source in sources:
        stream = torch.from_numpy(source.heldout.astype(np.int64))
        count = len(stream) - 1  # every token but the first is predicted, each once
        whole = count // context * context
        windows = [*torch.split(stream[: whole + 1].unfold(0, context + 1, context), batch)] if whole else []
        if count > whole:
            windows.append(stream[whole:].unsqueeze(0))
        lost = sum(loss_of(model, ids).item() * ids[:, 1:].numel() for ids in windows)
        losses[source.name] = lost / count
        nats, tokens = nats + lost, tokens + count
    return losses | {"mixed": nats / tokens}


def build(config: GPT2Config, weights: dict[str, torch.Tensor] | None) -> GPT2LMHeadModel:
    """The model in float32, without dropout since a text is seen once or twice only."""
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    config.activation_function = "gelu_pytorch_tanh"  # GPT-2's gelu_new, in one pass over the memory
    model = GPT2LMHeadModel(config)
    if weights is not None:
        model.load_state_dict(weights)
    return model


def first_model(args: argparse.Namespace) -> GPT2LMHeadModel:
    """The model of --start, or fresh weights of the shape that was asked for."""
    if args.start is None:
        if args.width % args.heads:
            raise TrainingError(f"--width {args.width} is not a multiple of --heads {args.heads}.")
        torch.manual_seed(args.seed)
        shape = {"n_layer": args.layers, "n_embd": args.width, "n_head": args.heads}
        return build(GPT2Config(n_positions=args.context, **shape), None)
    if not (args.start / "config.json").exists():
        raise TrainingError(f"--start {args.start} holds no config.json; give the folder of a GPT-2 model.")
    model = GPT2LMHeadModel.from_pretrained(args.start, dtype=torch.float32)
    return build(model.config, model.state_dict())


def export(model: GPT2LMHeadModel, tokenizer_folder: Path, out: Path) -> None:
    """Write a float16 folder that `from_pretrained` loads, and leave the model rounded as it was written."""
    out.mkdir(parents=True, exist_ok=True)
    end = model.config.eos_token_id
    model.config.activation_function = "gelu_new"
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    model.generation_config = GenerationConfig(**ids)
    model.half().save_pretrained(out)
    model.float()
    (out / "model.safetensors").chmod(0o644)  # safetensors lets nobody but its owner read it
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer_folder / name, out / name)


# --- Training -----------------------------------------------------------------------------------------------


@dataclass
class Progress:
    """What has been done; written to training.json, and part of the checkpoint."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    heldout: list[dict[str, Any]] = field(default_factory=list)


def rate(share: float, warmup: float, decay: float) -> float:
    """Factor of the learning rates: rising over the first `warmup`, level, to 0 over the last `decay`.

    The share is of the wall clock where the budget is in minutes, so that a training on a busy or paused
    machine still ends on time and with the whole descent.
    """
    rise = min(1.0, (share + 1e-3) / (warmup + 1e-3))
    return min(rise, (1 - share) / decay, 1.0) if decay else rise


def optimizers_of(model: GPT2LMHeadModel, muon: float, adamw: float) -> list[torch.optim.Optimizer]:
    """Muon with the peak rate `muon` for the matrices of the layers, AdamW with `adamw` for all else."""
    matrices = [parameter for parameter in model.transformer.h.parameters() if parameter.ndim > 1]
    taken = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    # match_rms_adamw puts both rates in one unit, and treats a matrix and its transpose alike, as it must:
    # GPT-2 stores (in, out) where torch's Linear, which Muon's own scale is made for, stores (out, in).
    return [
        torch.optim.Muon(matrices, lr=muon, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=adamw, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


class Training:
    """A model, its text and its optimizers, between two checkpoints."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.progress, self.stopped = args, Progress(), False
        self.checkpoint = args.work / "checkpoint.pt"
        self.tokenizer_folder = args.tokenizer or args.start or BUNDLED
        for name in TOKENIZER_FILES:
            if not (self.tokenizer_folder / name).exists():
                raise TrainingError(f"{self.tokenizer_folder} holds no {name}; name GPT-2's by --tokenizer.")
        saved: dict[str, Any] | None = None
        if args.resume:
            if not self.checkpoint.exists():
                raise TrainingError(f"There is nothing to resume: {self.checkpoint} does not exist.")
            saved = torch.load(self.checkpoint, weights_only=True)
        self.model = build(GPT2Config(**saved["config"]), saved["model"]) if saved else first_model(args)
        self.model.train()
        self.sources = load_corpus(args.corpus, dict(args.weight), self.tokenizer_folder, args.work / "cache")
        self.batches = Batches(self.sources, self.model.config.n_positions, args.batch, args.seed)
        self.optimizers = optimizers_of(self.model, args.muon_lr, args.adamw_lr)
        if saved:
            self.progress, self.batches.drawn = Progress(**saved["progress"]), saved["drawn"]
            for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state)

    def save(self) -> None:
        """Write all that `--resume` needs; the last checkpoint stays whole until the new one is."""
        state = {
            "config": self.model.config.to_dict(),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": asdict(self.progress),
            "drawn": self.batches.drawn,
        }
        unfinished = self.checkpoint.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(self.checkpoint)

    def evaluate(self) -> None:
        """Print the held-out losses and add them to training.json."""
        done, losses = self.progress, heldout_losses(self.model, self.sources, self.args.batch)
        done.heldout.append({"step": done.step, "tokens": done.tokens, "loss": losses})
        path = self.args.work / "training.json"
        path.write_text(json.dumps(asdict(done), indent=1) + "\n", encoding="utf-8")
        each = "  ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
        print(f"held out at step {done.step}: {each}  perplexity {math.exp(losses['mixed']):.1f}", flush=True)

    def learn(self, factor: float) -> float:
        """One step at `factor` times the peak rates; returns its loss before the step."""
        peaks = (self.args.muon_lr, self.args.adamw_lr)
        ids = self.batches.draw(self.progress.step)
        loss = loss_of(self.model, ids)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        for optimizer, peak in zip(self.optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.tokens += ids[:, 1:].numel()
        return float(loss.detach())

    def share(self) -> float:
        """The elapsed share of the budget, 0 to 1."""
        done, args = self.progress, self.args
        spent: float = done.step / args.steps if args.steps else done.seconds / (60 * args.minutes)
        return min(1.0, spent)

    def run(self) -> None:
        """Train until the budget is spent or `stopped` is set, then export and evaluate what was exported."""
        args, done = self.args, self.progress
        for s in self.sources:
            print(f"{s.name}: {len(s.train):,} tokens x {s.weight:g}, {len(s.heldout):,} held out")
        if not done.heldout:
            self.evaluate()
        reported = evaluated = saved = time.time()
        began, tokens = reported - done.seconds, done.tokens
        while self.share() < 1 and not self.stopped:
            factor = rate(self.share(), args.warmup, args.decay)
            loss = self.learn(factor)
            now = time.time()
            done.seconds = now - began
            if now - reported >= REPORT_SECONDS:
                share, speed = self.share(), (done.tokens - tokens) / (now - reported)
                left = done.seconds * (1 / share - 1) / 60
                print(f"step {done.step}  {share:.1%}  {done.tokens:,} tokens  {speed:,.0f}/s", end="  ")
                print(f"loss {loss:.3f}  rate {factor:.3f}  {left:.1f} min left", flush=True)
                reported, tokens = now, done.tokens
            if now - evaluated >= 60 * args.eval_minutes:
                self.evaluate()
                evaluated = now
            if now - saved >= 60 * args.checkpoint_minutes:
                self.save()
                saved = now
        self.save()
        export(self.model, self.tokenizer_folder, args.out)
        self.evaluate()


# --- Command line -------------------------------------------------------------------------------------------


def positive(text: str) -> float:
    """A number above 0; argparse reports what this raises as one sentence."""
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return float(text)


def positive_whole(text: str) -> int:
    """A whole number above 0."""
    return int(positive(str(int(text))))


def weight(text: str) -> tuple[str, float]:
    """SOURCE=X, where X is not negative."""
    name, _, value = text.rpartition("=")
    if not float(value) >= 0:
        raise argparse.ArgumentTypeError(f"the weight of {name} is negative")
    return name, float(value)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; --work defaults to a folder beside --out."""
    parser = argparse.ArgumentParser(description="Train the small GPT-2 that Nucleus Lens ships.")
    add = parser.add_argument
    add("corpus", type=Path, help="folder of .txt files; its direct sub-folders are the sources")
    add("--out", type=Path, required=True, help="folder to export the trained model to")
    add("--work", type=Path, help="folder of token cache, checkpoint and training.json (OUT-work)")
    add("--start", type=Path, help="folder of the model to continue from (without it: fresh weights)")
    add("--tokenizer", type=Path, help="folder of GPT-2's tokenizer files (that of --start, or the bundled)")
    add("--resume", action="store_true", help="go on from the checkpoint in --work")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=positive, help="budget of wall clock, evaluations included")
    budget.add_argument("--steps", type=positive_whole, help="budget in steps instead")
    often = "read this source X times as often as its size says; may be repeated"
    add("--weight", type=weight, action="append", default=[], metavar="SOURCE=X", help=often)
    number: dict[str, tuple[Any, float, str]] = {
        "layers": (positive_whole, 6, "layers of fresh weights"),
        "width": (positive_whole, 256, "width of fresh weights"),
        "heads": (positive_whole, 4, "attention heads of fresh weights"),
        "context": (positive_whole, 512, "tokens in a window, for fresh weights"),
        "batch": (positive_whole, 8, "windows in a step"),
        "muon-lr": (positive, 4e-3, "peak learning rate of the layers' matrices"),
        "adamw-lr": (positive, 2e-3, "peak learning rate of everything else"),
        "warmup": (float, 0.02, "share of the budget over which the rates rise"),
        "decay": (float, 0.8, "share of the budget, at its end, over which the rates fall to 0"),
        "seed": (int, 0, "seed of fresh weights and of the order of the text"),
        "eval-minutes": (float, 20, "minutes between two held-out losses"),
        "checkpoint-minutes": (float, 5, "minutes between two checkpoints"),
    }
    for name, (kind, default, text) in number.items():
        add(f"--{name}", type=kind, default=default, help=f"{text} (%(default)s)")
    args = parser.parse_args(argv)
    args.work = args.work or args.out.with_name(f"{args.out.name}-work")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when a model was exported, 2 after an error of the user's."""
    args = parse(argv)
    transformers_logging.disable_progress_bar()
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        training = Training(args)
        for number in (signal.SIGINT, signal.SIGTERM):  # ends the training after its step, and still exports
            signal.signal(number, lambda *_: setattr(training, "stopped", True))
        training.run()
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"exported to {args.out} after {training.progress.tokens:,} tokens")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""From files to a model that can be asked: float32 weights, tokenizer, vocabulary, limits.

Only safetensors (or the GGUF file of an installed wheel) are read; code that comes with a model is never run.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from dashboard.errors import ModelDownloadError, ModelError, ModelFilesError, PromptError
from dashboard.sampling.acceleration import accelerate
from dashboard.sampling.catalogue import (
    Available,
    CatalogueEntry,
    Downloadable,
    HubSource,
    Unavailable,
    availability,
)
from dashboard.sampling.downloads import Progress, ProgressReport, download
from dashboard.sampling.model_files import fingerprint, weights_of
from dashboard.sampling.vocabulary import Tokenizer, Vocabulary

# Loading is shown by ``progress``; transformers' own bars would only fill the server's log.
transformers_logging.disable_progress_bar()

# ``from_pretrained`` replaces parts of torch (initialisation, default dtype) while it runs: one at a time.
_one_at_a_time: Final = threading.Lock()

# Accents, an emoji, other scripts and white space: what a tokenizer that is not byte-level loses or changes.
_PROBE: Final = "Ça va,  naïve\n\n\tdéjà vu? 😀 你好 1234 "


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model in memory, ready to be asked.

    name, title: of its catalogue entry.
    revision: the hub's commit, the version of the wheel, "bundled" or "local".
    fingerprint: SHA-256 of its weights' files (``model_files.fingerprint``).
    model: in float32, in evaluation mode, without gradients.
    tokenizer: treats special tokens in a text as text.
    context_length: tokens of prompt and output together.
    eos_ids: tokens that end a text; those that transformers' ``generate`` stops at.
    """

    name: str
    title: str
    revision: str
    fingerprint: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary
    context_length: int
    eos_ids: frozenset[int]

    @property
    def start_id(self) -> int | None:
        """The token that a text begins after: end of text, which stands between texts in training; else the BOS token.

        None for a model that has neither.
        """
        ends = (i for i in sorted(self.vocabulary.special) if self.vocabulary.tokens[i] == b"<|endoftext|>")
        bos: int | None = self.tokenizer.bos_token_id
        return next(ends, bos)

    def encode(self, text: str) -> list[int]:
        """The token ids of a prompt, at least one; nothing is added, and ``<|endoftext|>`` is read as text.

        Raises:
            PromptError: the prompt is empty, or no text that could be written down as UTF-8.
        """
        if not text:
            raise PromptError("The prompt is empty: type at least one character for the model to go on from.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise PromptError(
                f"The prompt holds half a character at position {error.start + 1}: remove it or type it anew."
            ) from error
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return ids


def load(entry: CatalogueEntry, progress: ProgressReport) -> LoadedModel:
    """Load a model, fetching it first if it is not on this machine.

    Args:
        entry: the model.
        progress: told of the stages in order: "downloading" (if something is fetched), "loading", "ready".

    Raises:
        ModelNotFound, ModelDownloadError: it cannot be fetched (``downloads.download``).
        ModelFilesError: its files are missing, damaged, or of a kind that is not loaded.
        ModelError: there is not enough memory for it.
    """
    files = _files(entry, progress)
    weights = (files.folder / files.gguf,) if files.gguf else weights_of(files.folder)
    size = sum(path.stat().st_size for path in weights)
    with _one_at_a_time:
        progress(Progress("loading", 0, size))
        try:
            loaded = _read(entry, files, fingerprint(weights))
        except ModelError:
            raise
        except Exception as error:  # damaged files fail in as many ways as there are readers
            raise _explained(error, entry) from error
    progress(Progress("ready", size, size))
    return loaded


def _files(entry: CatalogueEntry, progress: ProgressReport) -> Available:
    match availability(entry):
        case Available() as files:
            return files
        case Downloadable(hub_id):
            folder = download(entry.title, hub_id, progress)
            return Available(folder, revision=folder.name)
        case Unavailable(reason):
            raise (ModelDownloadError if isinstance(entry.source, HubSource) else ModelFilesError)(reason)


def _read(entry: CatalogueEntry, files: Available, digest: str) -> LoadedModel:
    # A folder, never an id of the hub: what is loaded is what was checked.
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if files.gguf:
        where["gguf_file"] = files.gguf
    tokenizer = cast(
        PreTrainedTokenizerBase,
        AutoTokenizer.from_pretrained(files.folder, split_special_tokens=True, **where),
    )
    model, report = cast(
        tuple[PreTrainedModel, dict[str, Any]],
        AutoModelForCausalLM.from_pretrained(
            files.folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **where
        ),
    )
    if report["missing_keys"]:
        # transformers would fill them with random numbers and go on.
        raise ModelFilesError(
            f"The weights of {entry.title} are incomplete ({sorted(report['missing_keys'])[0]} is missing): "
            "copy or download it again."
        )
    model.eval()
    model.requires_grad_(False)
    accelerate(model)

    vocabulary = Vocabulary.from_tokenizer(cast(Tokenizer, tokenizer))
    loaded = LoadedModel(
        name=entry.name,
        title=entry.title,
        revision=files.revision,
        fingerprint=digest,
        model=model,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        context_length=_context_length(entry, model),
        eos_ids=_eos_ids(model),
    )
    _check_tokenizer(loaded)
    return loaded


def _context_length(entry: CatalogueEntry, model: PreTrainedModel) -> int:
    length = getattr(model.config, "max_position_embeddings", None) or entry.context_length
    if not isinstance(length, int):
        raise ModelFilesError(f"The configuration of {entry.title} does not say how long its context is.")
    return length


def _eos_ids(model: PreTrainedModel) -> frozenset[int]:
    """What ``generate`` stops at, and nothing else: a run is to end where ``generate`` ends."""
    generation = model.generation_config
    ids = generation.eos_token_id if generation is not None else None
    if ids is None:
        return frozenset()
    return frozenset({ids} if isinstance(ids, int) else ids)


def _check_tokenizer(loaded: LoadedModel) -> None:
    """Raise ModelFilesError unless the vocabulary gives back, byte for byte, what was taken apart."""
    if len(loaded.tokenizer) > loaded.model.config.vocab_size:
        raise ModelFilesError(
            f"The tokenizer of {loaded.title} has more tokens than its weights: they do not belong together."
        )
    if loaded.vocabulary.decode(loaded.encode(_PROBE)) != _PROBE:
        raise ModelFilesError(
            f"The tokenizer of {loaded.title} does not keep every byte of a text: "
            "only models with a byte-level vocabulary like GPT-2's can be shown here."
        )


def _explained(error: Exception, entry: CatalogueEntry) -> ModelError:
    # torch reports a failed allocation as RuntimeError.
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return ModelError(f"There is not enough memory for {entry.title}: choose a smaller model.")
    return ModelFilesError(
        f"The files of {entry.title} are damaged or of a kind that is not loaded ({type(error).__name__}; "
        "the log says more): copy or download it again, or choose another model."
    )

"""The files of a model in the hub's layout: which are wanted, whether all are there, and their fingerprint.

Weights are read from safetensors alone. The older ``.bin`` files are Python pickles, which run code when they
are opened, so they are neither fetched nor looked into.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from dashboard.errors import ModelFilesError

CONFIG: Final = "config.json"
_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_SHARD: Final = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_SMALL: Final = (
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
_LARGEST_HEADER: Final = 100_000_000  # bytes; the limit of the safetensors format
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_BLOCK: Final = 1 << 20


def files_to_fetch(names: Iterable[str]) -> list[str]:
    """Of the file names of a repository, those that are needed: small ones first, weights last.

    Raises:
        ModelFilesError: there is no safetensors file among them.
    """
    there = set(names)
    if _SINGLE in there:
        weights = [_SINGLE]
    elif _INDEX in there:
        weights = [_INDEX, *sorted(name for name in there if _SHARD.fullmatch(name))]
    else:
        raise ModelFilesError(_without_safetensors(there))
    return [*(name for name in _SMALL if name in there), *weights]


def weights_of(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a model's folder, one or several; all of them whole.

    Raises:
        ModelFilesError: a file is missing or shorter than its own header says, or only pickles are there.
    """
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if CONFIG not in there:
        raise ModelFilesError(f"There is no model in {folder}: a folder with config.json was expected.")
    if "tokenizer.json" not in there and not {"vocab.json", "merges.txt"} <= there:
        raise ModelFilesError(
            f"The model in {folder} has no tokenizer: add tokenizer.json, or vocab.json and merges.txt."
        )
    if _SINGLE in there:
        names = [_SINGLE]
    elif _INDEX in there:
        names = _shards(folder / _INDEX)
    else:
        raise ModelFilesError(_without_safetensors(there))
    for name in names:
        if name not in there or not is_whole(folder / name):
            raise ModelFilesError(
                f"{name} of the model in {folder} is missing or incomplete: copy or download it again."
            )
    return tuple(folder / name for name in names)


def is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says (8 bytes of length, JSON, tensors)."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _LARGEST_HEADER:
                return False
            header: dict[str, Any] = json.loads(file.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256, in hex, of the content of a model's weights: the same on every machine for the same file.

    Several files give the SHA-256 of their own ones, in the order of their names. The hub's cache names large
    files by their SHA-256, which is taken from there; another file is read once a process, at about 1 GB/s.
    """
    digests = [file_sha256(path) for path in sorted(files, key=lambda path: path.name)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of one file, in hex; of a file in the hub's cache, the name under which the cache keeps it."""
    # One link only: the blob may itself be a link into the part of the cache that several models share, where files
    # bear another hash.
    blob = path.parent / path.readlink() if path.is_symlink() else path
    if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
        return blob.name
    return content_sha256(path)


def content_sha256(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hex, computed once for as long as the file stays the same."""
    status = path.stat()
    return _content_sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _content_sha256(path: Path, size: int, modified: int) -> str:
    # Size and time of change are there for the cache alone: a file that was replaced is read again.
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelFilesError(f"{index} cannot be read: copy or download it again.") from error
    if not names or not all(isinstance(name, str) and _SHARD.fullmatch(name) for name in names):
        raise ModelFilesError(f"{index} names files that are no safetensors shards: the model is not loaded.")
    return names


def _without_safetensors(names: Iterable[str]) -> str:
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")) for name in names):
        return (
            "The model's weights are there only as pickle files, which can run code when opened and are "
            "never loaded: choose a model with model.safetensors, or convert it."
        )
    return "The model has no model.safetensors: choose a model in that format."

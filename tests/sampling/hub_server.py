"""A small hub on this machine, with the addresses and headers that huggingface_hub asks for, and a tiny model.

It stands in for the real hub through HF_ENDPOINT, so that the real download path is what the tests run.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save

from dashboard.config import REPOSITORY
from dashboard.sampling import downloads

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY_ID = "nucleus/tiny"
POCKET_FOLDER = REPOSITORY / "data" / "pocket-gpt2"


def tiny_tensors(width: int = 8, positions: int = 32) -> dict[str, np.ndarray[Any, Any]]:
    """Random weights of a GPT-2 with one layer, in float16, named as in GPT-2's own file on the hub."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray[Any, Any]:
        return rng.normal(0, 0.1, shape).astype(np.float16)

    layer = {
        "ln_1.weight": random(width),
        "ln_1.bias": random(width),
        "attn.c_attn.weight": random(width, 3 * width),
        "attn.c_attn.bias": random(3 * width),
        "attn.c_proj.weight": random(width, width),
        "attn.c_proj.bias": random(width),
        "ln_2.weight": random(width),
        "ln_2.bias": random(width),
        "mlp.c_fc.weight": random(width, 4 * width),
        "mlp.c_fc.bias": random(4 * width),
        "mlp.c_proj.weight": random(4 * width, width),
        "mlp.c_proj.bias": random(width),
    }
    return {
        "wte.weight": random(50257, width),
        "wpe.weight": random(positions, width),
        **{f"h.0.{name}": tensor for name, tensor in layer.items()},
        "ln_f.weight": random(width),
        "ln_f.bias": random(width),
    }


def tiny_files() -> dict[str, bytes]:
    """A repository: the tiny model with GPT-2's tokenizer, a card, and a pickle that nobody should fetch."""
    config = json.loads((POCKET_FOLDER / "config.json").read_text())
    config |= {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 32}
    names = ("generation_config.json", "tokenizer_config.json", "vocab.json", "merges.txt")
    return {
        "README.md": b"# Tiny",
        "config.json": json.dumps(config).encode(),
        **{name: (POCKET_FOLDER / name).read_bytes() for name in names},
        "model.safetensors": save(tiny_tensors()),
        "pytorch_model.bin": b"a pickle",
    }


def tiny_shards() -> dict[str, bytes]:
    """The tiny model with its weights in two files and their index."""
    files = {name: content for name, content in tiny_files().items() if name != "model.safetensors"}
    tensors = tiny_tensors()
    embeddings = {name: tensor for name, tensor in tensors.items() if name.startswith("w")}
    rest = {name: tensor for name, tensor in tensors.items() if name not in embeddings}
    parts = {"model-00001-of-00002.safetensors": embeddings, "model-00002-of-00002.safetensors": rest}
    index = {"metadata": {}, "weight_map": {name: part for part, held in parts.items() for name in held}}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    return files | {name: save(held) for name, held in parts.items()}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """The files of a repository as a folder on this disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@dataclass
class Hub:
    """What the server serves, how it misbehaves, and what it was asked.

    short: file -> the number of bytes it sends, and says that it sends, although the hub announced more.
    broken_off: file -> the number of bytes after which its connection breaks, once.
    damaged: files whose last byte is another one. status: answer everything with this error.
    """

    endpoint: str
    repositories: dict[str, dict[str, bytes]] = field(default_factory=lambda: {TINY_ID: tiny_files()})
    short: dict[str, int] = field(default_factory=dict)
    broken_off: dict[str, int] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    status: tuple[int, str] | None = None
    hold: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def fetched(self) -> Counter[str]:
        """How often each file was asked for with GET."""
        return Counter(
            path.rsplit("/", 1)[-1] for method, path in self.requests if "/resolve/" in path and method == "GET"
        )


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""

    def _answer(self) -> None:
        path = self.path.split("?")[0]
        self.hub.requests.append((self.command, path))
        self.hub.hold.wait(10)
        if self.hub.status is not None:
            code, error = self.hub.status
            self._send(code, b"", {"X-Error-Code": error} if error else {})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            self._listing(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._file(match[1], match[2])
        else:
            self._send(404, b"")

    def _listing(self, hub_id: str) -> None:
        files = self.hub.repositories.get(hub_id)
        if files is None:
            # What the real hub answers to those who are not logged in.
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return
        siblings = [_sibling(name, content) for name, content in files.items()]
        answer = {"id": hub_id, "modelId": hub_id, "sha": COMMIT, "private": False, "siblings": siblings}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _file(self, hub_id: str, name: str) -> None:
        content = self.hub.repositories.get(hub_id, {}).get(name)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(name, content)}"', "Accept-Ranges": "bytes"}
        headers["X-Linked-Size"] = str(len(content))
        code, start = 200, 0
        if requested := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            code, start = 206, int(requested[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET":
            content = content[: self.hub.short.get(name, len(content))]
            if name in self.hub.damaged:
                content = content[:-1] + bytes([content[-1] ^ 1])
        self._send(
            code,
            content[start:],
            headers,
            self.hub.broken_off.pop(name, None) if self.command == "GET" else None,
        )

    def _send(self, code: int, body: bytes, headers: dict[str, str] | None = None, only: int | None = None) -> None:
        self.send_response(code)
        for header, value in (headers or {}).items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:only])
        if only is not None:
            self.close_connection = True


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def _etag(name: str, content: bytes) -> str:
    """What the hub names a file by: the SHA-256 of a large one, git's SHA-1 of a small one."""
    return (hashlib.sha256 if _is_large(name) else hashlib.sha1)(content).hexdigest()


def _sibling(name: str, content: bytes) -> dict[str, object]:
    described: dict[str, object] = {
        "rfilename": name,
        "size": len(content),
        "blobId": hashlib.sha1(content).hexdigest(),
    }
    if _is_large(name):
        described["lfs"] = {"size": len(content), "sha256": _etag(name, content), "pointerSize": 134}
    return described


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A running hub on a free port of this machine."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub = handler.hub = Hub(endpoint=f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    hub.hold.set()
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    try:
        yield hub
    finally:
        hub.hold.set()
        server.shutdown()
        server.server_close()
        serving.join()


def use_hub(patch: pytest.MonkeyPatch, endpoint: str, cache: Path, *, offline: bool = False) -> None:
    """Let huggingface_hub use this hub and cache, as HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE do at start."""
    patch.setattr(constants, "ENDPOINT", endpoint)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", offline)
    patch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    # The client waits a second before it takes up a broken connection again.
    patch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
    downloads._last_answer = None


def fill_cache(cache: Path, hub_id: str, files: dict[str, bytes], commit: str = COMMIT) -> Path:
    """Put a repository into the hub's cache without a hub; returns the folder of its files."""
    storage = cache / f"models--{hub_id.replace('/', '--')}"
    shutil.rmtree(storage, ignore_errors=True)
    snapshot = storage / "snapshots" / commit
    (storage / "blobs").mkdir(parents=True)
    (storage / "refs").mkdir()
    (storage / "refs" / "main").write_text(commit)
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        blob = storage / "blobs" / _etag(name, content)
        blob.write_bytes(content)
        (snapshot / name).symlink_to(blob)
    return snapshot

"""Models from the hub: what its cache on this disk holds, whether the hub answers, and the download itself.

huggingface_hub imports its parts when they are first used, and this module keeps to that: importing it costs
nothing that a page would feel.
"""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import huggingface_hub
from huggingface_hub import constants

from dashboard.errors import ModelDownloadError, ModelError, ModelFilesError, ModelNotFound
from dashboard.sampling.model_files import CONFIG, content_sha256, files_to_fetch, weights_of

Stage: TypeAlias = Literal["downloading", "loading", "ready"]

_ANSWER_LASTS: Final = 60.0  # seconds
_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a model has come on its way into memory. ``done`` and ``total`` are bytes of its files."""

    stage: Stage
    done: int
    total: int


ProgressReport: TypeAlias = Callable[[Progress], None]


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids all requests."""
    return constants.HF_HUB_OFFLINE


def cached_snapshot(hub_ids: Sequence[str]) -> Path | None:
    """The folder of a complete model in the hub's cache, or None; the first of several ids that is there.

    A half-downloaded model, or one without safetensors, does not count. Makes no request.
    """
    for hub_id in hub_ids:
        config = huggingface_hub.try_to_load_from_cache(hub_id, CONFIG)
        if isinstance(config, str):
            folder = Path(config).parent
            try:
                weights_of(folder)
            except ModelFilesError:
                continue
            return folder
    return None


@dataclass(frozen=True, slots=True)
class _Answer:
    endpoint: str
    hub_id: str
    at: float
    answered: bool


_last_answer: _Answer | None = None


def hub_answers(hub_id: str, timeout: float) -> bool:
    """Whether the hub (HF_ENDPOINT) has this model and says so within ``timeout`` seconds.

    The answer is kept for a minute, so that a page may ask at every rerun. False when HF_HUB_OFFLINE is set.
    """
    global _last_answer  # noqa: PLW0603  # one answer for the whole process is the point
    if is_offline():
        return False
    last, endpoint = _last_answer, constants.ENDPOINT
    if last and (last.endpoint, last.hub_id) == (endpoint, hub_id) and time.monotonic() - last.at < _ANSWER_LASTS:
        return last.answered
    found = threading.Event()

    def ask() -> None:
        try:
            url = huggingface_hub.hf_hub_url(hub_id, CONFIG, endpoint=endpoint)
            metadata = huggingface_hub.get_hf_file_metadata(url, timeout=timeout)
        except Exception:  # whatever it was, the hub did not answer
            return
        # The page of a captive network answers too, but names no commit.
        if metadata.commit_hash:
            found.set()

    # In a thread of its own, because no timeout of a request covers a name server that keeps silent.
    asking = threading.Thread(target=ask, name="ask-hub", daemon=True)
    asking.start()
    asking.join(timeout)
    _last_answer = _Answer(endpoint, hub_id, time.monotonic(), found.is_set())
    return found.is_set()


def download(title: str, hub_id: str, progress: ProgressReport) -> Path:
    """Fetch a model into the hub's cache and return its folder there; files that are there already are kept.

    Only configuration, tokenizer and safetensors files are asked for. The weights are compared with the
    SHA-256 that the hub names; what is broken is removed, so that the next try starts clean.

    Args:
        title: the model's name for the user, used in errors.
        hub_id: ``owner/name``.
        progress: told the bytes done and in total, first with 0 and last with the total.

    Raises:
        ModelNotFound: the hub has no such model.
        ModelDownloadError: no connection, no permission, no space, or a file that does not arrive whole.
        ModelFilesError: the model has no safetensors.
    """
    try:
        return _download(title, hub_id, progress)
    except ModelError:
        raise
    except Exception as error:  # the Xet client, for one, raises classes of its own
        raise _explained(error, title, hub_id) from error


def _download(title: str, hub_id: str, progress: ProgressReport) -> Path:
    if is_offline():
        raise ModelDownloadError(
            f"{title} is not on this machine and HF_HUB_OFFLINE forbids fetching it; unset that to use it."
        )
    api = huggingface_hub.HfApi(endpoint=constants.ENDPOINT)
    # The client's default is to wait for ever.
    info = api.model_info(hub_id, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
    # One commit for all files, even if the repository changes meanwhile.
    commit = info.sha
    listing = {file.rfilename: file for file in info.siblings or []}
    names = files_to_fetch(listing)
    sizes = {name: listing[name].size or 0 for name in names}
    total = sum(sizes.values())
    # A broken file goes before the room is counted: its space will be free again.
    there = {name for name in names if _keeps(hub_id, name, commit, sizes[name])}
    _check_room(title, sum(size for name, size in sizes.items() if name not in there))

    done = 0
    progress(Progress("downloading", 0, total))
    folder = Path()
    for name in names:

        def report(bytes_of_file: int, before: int = done) -> None:
            progress(Progress("downloading", min(before + bytes_of_file, total), total))

        counter = _counter(report)
        path = Path(
            huggingface_hub.hf_hub_download(
                hub_id, name, revision=commit, endpoint=constants.ENDPOINT, tqdm_class=counter
            )
        )
        lfs = listing[name].lfs
        if lfs is not None and name not in there:
            _check_content(title, path, lfs.sha256)
        done += sizes[name]
        progress(Progress("downloading", done, total))
        folder = path.parent
    weights_of(folder)
    # Asked for by branch, a file that is there already makes the cache note this commit as the current one; last, so
    # that an older model stays in use until this one is complete.
    huggingface_hub.hf_hub_download(hub_id, CONFIG, endpoint=constants.ENDPOINT)
    return folder


def _keeps(hub_id: str, name: str, commit: str | None, size: int) -> bool:
    """Whether the cache holds this file in full; one of another size is removed: the client trusts it."""
    cached = huggingface_hub.try_to_load_from_cache(hub_id, name, revision=commit)
    if not isinstance(cached, str):
        return False
    if Path(cached).stat().st_size == size:
        return True
    _remove(Path(cached))
    return False


def _check_content(title: str, path: Path, sha256: str) -> None:
    if content_sha256(path) != sha256:
        _remove(path)
        raise ModelDownloadError(
            f"The download of {title} is damaged ({path.name} is not what the hub announced) and was "
            "removed: try again."
        )


def _remove(path: Path) -> None:
    """Remove a file of the cache: every link on the way to its content, and the content."""
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def _check_room(title: str, needed: int) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ModelDownloadError(
            f"{title} needs {_megabytes(needed)} in {cache}, where {_megabytes(free)} are free: "
            "make room there, or let HF_HOME name a folder on a larger disk."
        )


def _counter(report: Callable[[int], None]) -> type:
    """A class for huggingface_hub's ``tqdm_class``: draws nothing, reports the bytes of its file so far."""

    class Counter:
        total: int | None = None

        def __init__(self, *_: object, initial: int = 0, **__: object) -> None:
            self.n = initial

        def update(self, n: float | None = 1) -> None:
            self.n += int(n or 0)
            report(self.n)

        def update_transfer(self, n: float | None = 1) -> None:
            """Bytes on the wire, fewer than those of the file; that this exists asks for one bar a file."""

        def set_postfix_str(self, *_: object, **__: object) -> None: ...

        def set_transfer_postfix_str(self, *_: object, **__: object) -> None: ...

        def close(self) -> None: ...

        def __enter__(self) -> Counter:
            return self

        def __exit__(self, *_: object) -> None: ...

    return Counter


def _explained(error: Exception, title: str, hub_id: str) -> ModelError:
    """The error of a user for an error of the hub's client."""
    # Imported here, after a failed request, because they bring the HTTP client with them.
    import httpx2  # noqa: PLC0415
    from huggingface_hub import errors as hub  # noqa: PLC0415

    code = error.errno if isinstance(error, OSError) else None
    status = error.response.status_code if isinstance(error, hub.HfHubHTTPError) else None
    kind: type[ModelError] = ModelDownloadError
    cache, endpoint = constants.HF_HUB_CACHE, constants.ENDPOINT
    match error:
        case hub.GatedRepoError():
            sentence = f"{title} is given out only on request: accept its terms on the hub and set HF_TOKEN."
        case hub.RepositoryNotFoundError() | hub.HFValidationError():
            kind = ModelNotFound
            sentence = f"The hub knows no model {hub_id}: check the name, or set HF_TOKEN if it is private."
        case hub.HfHubHTTPError() if status in {401, 403}:
            sentence = f"The hub refuses {title} ({hub_id}): check HF_TOKEN and what it may read."
        case hub.HfHubHTTPError():
            sentence = f"The hub at {endpoint} answered with error {status} for {title}: try again later."
        case OSError() if code in _NO_SPACE:
            sentence = (
                f"The disk has no room for {title} in {cache}: make room there and try again, "
                "or let HF_HOME name a folder on a larger disk."
            )
        case OSError() if code in _NOT_WRITABLE:
            sentence = f"{title} cannot be kept in {cache}, which is read-only: let HF_HOME name another."
        case hub.LocalEntryNotFoundError() | httpx2.TransportError():
            sentence = (
                f"{title} is not on this machine and the hub at {endpoint} does not answer: "
                "connect to the internet and try again, or let HF_ENDPOINT name a hub that answers."
            )
        case _:
            sentence = (
                f"The download of {title} broke off before it was complete, and what had come was removed: try again."
            )
    return kind(sentence)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB".replace(",", "\u202f")

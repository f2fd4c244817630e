"""How the distribution of the chosen step was made: its stages in order, the top tokens at each, and what p is not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from dashboard.app_pages import shared
from dashboard.app_pages.viewing import View, ask_for_model
from dashboard.figures.labels import visible
from dashboard.figures.sentences import bits, count, p_value, percent
from dashboard.figures.stages import dropped_told, stages_figure
from dashboard.sampling.settings import KNOB, SamplingSettings
from dashboard.sampling.stages import (
    PENALTIES,
    Change,
    Draw,
    Misreading,
    Penalty,
    Renormalisation,
    Softmax,
    StagedToken,
    Stages,
    Temperature,
    Truncation,
    misreading,
)
from dashboard.sampling.stored_stages import stored_stages

_CARD: Final = 174  # pixels: two of them stand side by side on a phone
_ROW: Final = 35
_EXAMPLE_P: Final = 0.1


def stages_view(view: View, position: int) -> None:
    """Show the stages of one step of a view, at the p that is asked about.

    Exact where the model is in memory. Without it, what the stored step tells: then at the p of the settings.
    """
    stages, settings = _find(view, position)
    _chain(stages, settings, view)
    if settings.top_p != view.p:
        st.caption(
            f"Shown for p = {p_value(settings.top_p)}; the stages at p = {p_value(view.p)} are known with the model."
        )
    drawn = stages_figure(stages, position=position, vocabulary=view.vocabulary, theme=shared.theme())
    shared.chart(drawn, "stages")
    _table(stages, settings, view)
    if stages.tokens[0].logit is None:
        ask_for_model(view, "for the logits themselves")
    _what_p_is_not(view, position)


def _find(view: View, position: int) -> tuple[Stages, SamplingSettings]:
    """The stages of a step and the settings that they are of."""
    reading = view.find_reading()
    if reading is None:
        return stored_stages(view.trace.step(position), view.settings), view.settings
    from dashboard.sampling.staging import stages_of  # noqa: PLC0415  # torch, only when a model is there

    settings = replace(view.settings, top_p=view.p)
    [logits] = reading.logits(position, position + 1)
    token_id = int(view.trace.token_ids[position])
    return stages_of(settings, reading.ids_before(position), logits, token_id), settings


def _chain(stages: Stages, settings: SamplingSettings, view: View) -> None:
    """The stages from left to right, each with what it changed."""
    with st.container(horizontal=True, gap="xsmall"):
        for place, change in enumerate(stages.changes):
            title, lines = change_told(change, settings, view)
            with st.container(border=True, width=_CARD, height="stretch", gap=None):
                st.markdown(f"{':gray[→] ' if place else ''}**{shared.as_text(title)}**")
                for line in lines:
                    st.caption(shared.as_text(line))
    if stages.off:
        st.caption(f"Off: {', '.join(KNOB[name].label.lower() for name in stages.off)}.")


def change_told(change: Change, settings: SamplingSettings, view: View) -> tuple[str, list[str]]:
    """A stage by name, and what it changed, a few words each. Quotes tokens: to be shown as text."""
    match change:
        case Penalty(setting, changed, before, after):
            verb = "forbidden" if setting == "no_repeat_ngram_size" else "changed"
            return _named(setting, settings), [*_tokens(changed, verb), *_entropy(before, after)]
        case Temperature(before, after, top_before, top_after):
            return _named("temperature", settings), [*_entropy(before, after), *_top(top_before, top_after)]
        case Softmax(entropy, top):
            return "Softmax", [*_entropy(None, entropy), *_top(None, top)]
        case Truncation(setting, reached, left, mass):
            return _named(setting, settings), _taken(reached, left, mass)
        case Renormalisation(factor):
            return "Renormalised", [f"all times {factor:.3g},", "so that they sum to 1"]
        case Draw(token_id, rank, final_probability):
            name = visible(view.vocabulary.label(token_id), longest=14)
            chance = "not in the kept set" if final_probability <= 0 else f"probability {percent(final_probability)}"
            return "Drawn" if view.drawn else "In the text", [f"◆ {name}, rank {count(rank)}", chance]


def _named(setting: str, settings: SamplingSettings) -> str:
    return f"{KNOB[setting].label} {getattr(settings, setting):g}"


def _tokens(number: int | None, verb: str) -> list[str]:
    if number is None:
        return [f"tokens {verb}: not stored"]
    return [f"{count(number)} token{'' if number == 1 else 's'} {verb}"]


def _entropy(before: float | None, after: float | None) -> list[str]:
    """The entropy before and after a stage, as far as it is known."""
    if after is None:
        return []
    return [f"entropy {bits(after)}" if before is None else f"entropy {before:.1f} → {bits(after)}"]


def _top(before: float | None, after: float) -> list[str]:
    """The probability of the most probable token before and after a stage, as far as it is known."""
    told = percent(after)
    return [f"top token {told}" if before is None else f"top {percent(before)} → {told}"]


def _taken(reached: int | None, left: int | None, mass: float | None) -> list[str]:
    if left is None:
        return ["what it left is not stored"]
    if reached == left:
        return ["took no token", f"of the {count(left)}" if left > 1 else "of the one left"]
    of = "" if reached is None else f" of {count(reached)}"
    lines = [f"{count(left)}{of} left"]
    return lines if mass is None else [*lines, f"{percent(mass)} of the mass"]


def _table(stages: Stages, settings: SamplingSettings, view: View) -> None:
    table = stage_rows(stages, settings, view)
    st.dataframe(
        table,
        key=f"{view.key}-stages-table",
        hide_index=True,
        column_config=_columns(settings),
        row_height=_ROW,
        height=(len(table) + 1) * _ROW + 2,
        placeholder="–",
    )


def stage_rows(stages: Stages, settings: SamplingSettings, view: View) -> pd.DataFrame:
    """One row a token, one column an active stage; probabilities in per cent, logits in natural units."""
    tokens, active = stages.tokens, settings.active()
    has_penalty, has_temperature = any(name in active for name in PENALTIES), "temperature" in active

    def shares(values: Iterable[float | None]) -> list[float | None]:
        return [None if value is None else value * 100 for value in values]

    columns: dict[str, Sequence[object]] = {
        "Token": [_token_name(token, stages, view) for token in tokens],
        "Rank": [token.rank for token in tokens],
    }
    if tokens[0].logit is not None:
        columns["Logit"] = _finite(token.logit for token in tokens)
        if has_penalty:
            columns["After penalties"] = _finite(token.penalised for token in tokens)
        if has_temperature:
            columns["After temperature"] = _finite(token.tempered for token in tokens)
    columns["Raw"] = shares(token.raw_probability for token in tokens)
    if has_penalty or has_temperature:
        columns["Shaped"] = shares(token.probability for token in tokens)
    columns["Truncation"] = [_fate(token) for token in tokens]
    columns["Final"] = shares(None if token.kept is False else token.final_probability for token in tokens)
    return pd.DataFrame(columns)


def _token_name(token: StagedToken, stages: Stages, view: View) -> str:
    name = visible(view.vocabulary.label(token.token_id), longest=40)
    return f"◆ {name}" if token.token_id == stages.drawn_id else name


def _fate(token: StagedToken) -> str:
    if token.kept is None:
        return "not stored"
    return "kept" if token.kept else dropped_told(token)


def _finite(values: Iterable[float | None]) -> list[float | None]:
    """The values, None in place of the -inf of a forbidden token."""
    return [None if value is None or math.isinf(value) else value for value in values]


def _columns(settings: SamplingSettings) -> dict[str, ColumnConfig]:
    number = st.column_config.NumberColumn
    divided = f"Divided by the temperature, {settings.temperature:g}."
    return {
        "Token": st.column_config.TextColumn(help="◆ is the token drawn.", width=130, pinned=True),
        "Rank": number(format="localized", help="1 is the most probable token of the shaped distribution.", width=70),
        "Logit": number(format="%.2f", help="What the model gave the token, in natural units.", width=80),
        "After penalties": number(format="%.2f", help="Repetition penalty and no-repeat n-gram.", width=110),
        "After temperature": number(format="%.2f", help=divided, width=120),
        "Raw": number(format="%.3f %%", help="Softmax of the logits, untouched.", width=90),
        "Shaped": number(format="%.3f %%", help="Softmax after penalties and temperature.", width=90),
        "Truncation": st.column_config.TextColumn(help="The first setting that took the token.", width=180),
        "Final": number(format="%.3f %%", help="What is left, renormalised: the draw is from it.", width=90),
    }


def _what_p_is_not(view: View, position: int) -> None:
    """The common misreading of p, with the numbers of this step."""
    step, top_p = view.trace.step(position), view.settings.top_p
    st.markdown("##### What p does not mean")
    st.text("p is a share of the probability mass, not of the tokens.")
    for p in sorted({_EXAMPLE_P, top_p, view.p}):
        # p = 1 keeps everything, however it is read.
        if p < 1:
            st.text(misreading_told(misreading(step, p, top_p=top_p), len(view.vocabulary)))


def misreading_told(numbers: Misreading, vocabulary_size: int) -> str:
    """What p keeps, and what it would keep if it counted tokens."""
    share = f"{numbers.p * 100:g}\u00a0%"
    size = f"{count(numbers.size)} token{'' if numbers.size == 1 else 's'}"
    kept = f"p = {p_value(numbers.p)} keeps {size} here: the smallest set whose mass reaches {share}."
    choices = f"the {count(numbers.choices)} choices" if numbers.choices > 1 else "the one choice"
    if numbers.choices < vocabulary_size:
        choices += " that reach top-p" if numbers.choices > 1 else " that reaches top-p"
    if numbers.share_size <= numbers.size:
        return f"{kept} That is no fewer than the top {share} of {choices} would be."
    mass = "all" if numbers.share_mass >= 1 else f"at least {percent(numbers.share_mass)}"
    return f"{kept} The top {share} of {choices} would be {count(numbers.share_size)} tokens, with {mass} of the mass."

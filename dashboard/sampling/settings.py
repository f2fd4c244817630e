"""The knobs of the sampler, each described once: range, default, unit and help.

The interface, the command line, the run document and the database all draw their knobs from ``KNOBS``.
Names and meanings are those of transformers' ``GenerationConfig``.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from dashboard.errors import SettingError

# Chosen seeds stay below 2**32 so that they are easy to read and to type; given ones may be as large as a signed
# 64-bit column holds.
_CHOSEN_SEED_BITS = 32
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting of the sampler.

    ``low`` itself is excluded when ``low_open``; ``high`` is always allowed. ``off`` is the value at which the knob
    does nothing, or None if it always acts.
    """

    name: str
    label: str
    kind: Literal["int", "float"]
    low: float
    high: float
    low_open: bool
    default: float | int | None
    off: float | int | None
    step: float
    unit: str
    help: str

    @property
    def range_text(self) -> str:
        """The range in words, e.g. ``above 0, up to 1``."""
        high = f"{int(self.high):,}" if self.kind == "int" else f"{self.high:g}"
        return f"above {self.low:g}, up to {high}" if self.low_open else f"from {self.low:g} to {high}"

    def check(self, value: object) -> float | int:
        """Return ``value`` as this knob's type, or raise SettingError naming the knob, the value and the range."""
        number = self._number(value)
        low_fails = number <= self.low if self.low_open else number < self.low
        if math.isnan(number) or low_fails or number > self.high:
            raise SettingError(f"{self.label} ({self.name}) cannot be {value}: choose a value {self.range_text}.")
        return number

    def _number(self, value: object) -> float | int:
        # bool is an int to Python, but never a setting.
        if not isinstance(value, bool):
            if self.kind == "float" and isinstance(value, int | float):
                return float(value)
            if self.kind == "int" and isinstance(value, int):
                return value
            if self.kind == "int" and isinstance(value, float) and value.is_integer():
                return int(value)
        wanted = "a whole number" if self.kind == "int" else "a number"
        raise SettingError(f"{self.label} ({self.name}) cannot be {value!r}: {wanted} {self.range_text} is needed.")


def _knob(
    label: str,
    *,
    kind: Literal["int", "float"] = "float",
    low: float = 0.0,
    high: float = 1.0,
    low_open: bool = False,
    default: float | int | None,
    off: float | int | None,
    step: float = 0.01,
    unit: str = "",
    help: str,  # noqa: A002  the word that dataclass, argparse and Streamlit use too
) -> Any:
    """A dataclass field that carries its own description; ``KNOBS`` collects them with their names."""
    description = {
        "label": label,
        "kind": kind,
        "low": low,
        "high": high,
        "low_open": low_open,
        "default": default,
        "off": off,
        "step": step,
        "unit": unit,
        "help": help,
    }
    return field(default=default, metadata={"knob": description})


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How the next token is drawn. Checked when made: a value out of range raises SettingError."""

    top_p: float = _knob(
        "Top-p",
        low_open=True,
        default=0.9,
        off=1.0,
        help="Keep the smallest set of most probable tokens whose mass reaches p; 1 keeps everything.",
    )
    temperature: float = _knob(
        "Temperature",
        low_open=True,
        high=10.0,
        default=1.0,
        off=1.0,
        step=0.05,
        help="Divide the logits by this: below 1 sharpens the distribution, above 1 flattens it.",
    )
    top_k: int = _knob(
        "Top-k",
        kind="int",
        high=1_000_000,
        default=0,
        off=0,
        step=1,
        unit="tokens",
        help="Keep only the k most probable tokens, before top-p looks at them; 0 is off.",
    )
    min_p: float = _knob(
        "Min-p",
        default=0.0,
        off=0.0,
        help="Drop tokens less probable than this share of the most probable one; 0 is off.",
    )
    typical_p: float = _knob(
        "Typical p",
        low_open=True,
        default=1.0,
        off=1.0,
        help="Keep the tokens whose surprisal is closest to the entropy, until their mass reaches this; 1 is off.",
    )
    epsilon_cutoff: float = _knob(
        "Epsilon cutoff",
        high=0.999,
        default=0.0,
        off=0.0,
        step=0.0001,
        help="Drop tokens whose probability is below this; 0 is off, 0.0003 to 0.0009 is usual.",
    )
    eta_cutoff: float = _knob(
        "Eta cutoff",
        high=0.999,
        default=0.0,
        off=0.0,
        step=0.0001,
        help="Like epsilon, but milder where the distribution is flat; 0 is off, 0.0003 to 0.002 is usual.",
    )
    repetition_penalty: float = _knob(
        "Repetition penalty",
        low_open=True,
        high=10.0,
        default=1.0,
        off=1.0,
        step=0.05,
        help="Make tokens that already stand in the text less probable (above 1) or more (below 1); 1 is off.",
    )
    no_repeat_ngram_size: int = _knob(
        "No-repeat n-gram size",
        kind="int",
        high=1024,
        default=0,
        off=0,
        step=1,
        unit="tokens",
        help="Forbid any sequence of this many tokens from occurring twice, prompt included; 0 is off.",
    )
    max_new_tokens: int = _knob(
        "New tokens",
        kind="int",
        low=1,
        high=100_000,
        default=100,
        off=None,
        step=1,
        unit="tokens",
        help="Stop after this many tokens, if the model has not ended the text itself.",
    )
    seed: int | None = _knob(
        "Seed",
        kind="int",
        high=_LARGEST_SEED,
        default=None,
        off=None,
        step=1,
        help="Start of the random numbers: the same seed, settings, prompt and model give the same text.",
    )

    def __post_init__(self) -> None:
        for knob in KNOBS:
            value = getattr(self, knob.name)
            if knob.name == "seed" and value is None:
                continue
            # The dataclass is frozen; the value is stored as the knob's own type (1 becomes 1.0 for a float).
            object.__setattr__(self, knob.name, knob.check(value))

    def with_seed(self) -> SamplingSettings:
        """These settings with a seed: the one given, or one chosen now, so that every run can be repeated."""
        if self.seed is not None:
            return self
        return replace(self, seed=secrets.randbits(_CHOSEN_SEED_BITS))

    def as_dict(self) -> dict[str, float | int | None]:
        """All settings by name, in the order of ``KNOBS``."""
        return asdict(self)

    def active(self) -> dict[str, float | int]:
        """The settings that do something, by name: those that differ from their knob's off value."""
        values = {knob.name: getattr(self, knob.name) for knob in KNOBS if knob.off is not None}
        return {name: value for name, value in values.items() if value != KNOB[name].off}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> SamplingSettings:
        """Settings from a mapping of names to values; an unknown name raises SettingError."""
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise SettingError(f"{unknown[0]!r} is not a setting: known are {', '.join(KNOB)}.")
        return cls(**dict(values))  # type: ignore[arg-type]  # the values are checked one by one when it is made


KNOBS: tuple[Knob, ...] = tuple(Knob(name=f.name, **f.metadata["knob"]) for f in fields(SamplingSettings))
KNOB: dict[str, Knob] = {knob.name: knob for knob in KNOBS}

"""The colours and what each of them means; the same meaning everywhere: text, strip, bars, curves and tables.

``.streamlit/config.toml`` hands the same values to Streamlit, from whose theme the token strip's CSS takes
them; a test holds the two together. Colour never speaks alone: the drawn token also has a mark, the cut also
has its label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Theme: TypeAlias = Literal["light", "dark"]

FONT_FAMILY: Final = '"Source Sans", sans-serif'
"""The font that Streamlit brings along."""

_LINEAR_UP_TO: Final = 0.04045  # where the sRGB curve turns from a line into a power

LARGEST_WASH: Final = 0.45
"""Share of colour in the strongest wash behind a token; more would cost the text its contrast."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one theme, as ``#rrggbb``.

    kept: tokens in the nucleus. dropped: tokens below the cut. drawn: the token drawn. cut: the border of the
    nucleus and p. text, secondary: what is read first and second. hairline: grids and frames. panel: a
    surface set off from the background. accent: controls that can be used; dark enough for white text.
    """

    kept: str
    dropped: str
    drawn: str
    cut: str
    text: str
    secondary: str
    hairline: str
    background: str
    panel: str
    accent: str


PALETTES: Final[dict[Theme, Palette]] = {
    "light": Palette(
        kept="#0f8b7e",
        dropped="#c5cfd4",
        drawn="#d9730d",
        cut="#c4314b",
        text="#1d2a30",
        secondary="#5d6f78",
        hairline="#e6ecef",
        background="#ffffff",
        panel="#f5f8f9",
        accent="#0c7b70",
    ),
    "dark": Palette(
        kept="#3fb6a8",
        dropped="#44535b",
        drawn="#ffb454",
        cut="#ff6b7a",
        text="#e6edf0",
        secondary="#93a4ad",
        hairline="#243036",
        background="#0f1417",
        panel="#161d21",
        accent="#17877b",
    ),
}


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    dark, light = sorted((_luminance(first), _luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def mix(colour: str, background: str, share: float) -> str:
    """``share`` of a colour mixed into a background, as CSS ``color-mix(in srgb, ...)`` does it."""
    pairs = zip(_channels(colour), _channels(background), strict=True)
    return "#" + "".join(f"{round(over * share + under * (1 - share)):02x}" for over, under in pairs)


def translucent(colour: str, opacity: float) -> str:
    """The colour as CSS ``rgba()`` of that opacity, 0 to 1."""
    red, green, blue = _channels(colour)
    return f"rgba({red}, {green}, {blue}, {opacity:g})"


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def _luminance(colour: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2)."""
    red, green, blue = (_linear(channel / 255) for channel in _channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= _LINEAR_UP_TO else ((channel + 0.055) / 1.055) ** 2.4

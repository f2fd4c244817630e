"""The colours: readable, told apart, and the same in Streamlit's theme."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from dashboard.figures.palette import LARGEST_WASH, PALETTES, Theme, contrast, mix, translucent

CONFIG = Path(__file__).parents[2] / ".streamlit" / "config.toml"
THEMES: tuple[Theme, ...] = ("light", "dark")
Meaning = Literal["kept", "dropped", "drawn", "cut"]

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
SIMULATIONS = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


def streamlit_config() -> dict[str, Any]:
    return tomllib.loads(CONFIG.read_text(encoding="utf-8"))


def lab(colour: str, simulation: list[list[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """CIE Lab of a colour as seen with that colour blindness."""
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(simulation) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ seen / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_black_on_white_has_the_largest_contrast_and_a_colour_on_itself_none() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#d9730d", "#d9730d") == pytest.approx(1)


def test_mix_takes_that_share_of_the_first_colour() -> None:
    assert mix("#ff0000", "#0000ff", 1.0) == "#ff0000"
    assert mix("#ff0000", "#0000ff", 0.0) == "#0000ff"
    assert mix("#ffffff", "#000000", 0.5) == "#808080"
    assert translucent("#ff8000", 0.25) == "rgba(255, 128, 0, 0.25)"


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_readable_on_the_background_and_on_panels(theme: Theme) -> None:
    palette = PALETTES[theme]
    for background in (palette.background, palette.panel):
        for colour in (palette.text, palette.secondary, palette.cut):
            assert contrast(colour, background) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_marks_stand_out_from_the_background(theme: Theme) -> None:
    palette = PALETTES[theme]
    for colour in (palette.kept, palette.drawn, palette.cut, palette.accent):
        assert contrast(colour, palette.background) >= 3


@pytest.mark.parametrize("theme", THEMES)
def test_text_keeps_its_contrast_on_every_wash(theme: Theme) -> None:
    palette = PALETTES[theme]
    for hue, strength in itertools.product((palette.kept, palette.drawn), np.linspace(0, 1, 11)):
        wash = mix(hue, palette.background, LARGEST_WASH * strength)
        assert contrast(palette.text, wash) >= 4.5
        # Marks for white space go from the secondary colour to that of the text as the wash grows.
        assert contrast(mix(palette.text, palette.secondary, strength), wash) >= 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_meanings_are_told_apart_by_the_colour_blind(theme: Theme, simulation: str) -> None:
    palette = PALETTES[theme]
    seen = {m: lab(getattr(palette, m), SIMULATIONS[simulation]) for m in ("kept", "dropped", "drawn", "cut")}
    for first, second in itertools.combinations(seen, 2):
        distance = float(np.linalg.norm(seen[first] - seen[second]))
        assert distance > 12, f"{first} and {second}: {distance:.1f}"


@pytest.mark.parametrize("theme", THEMES)
def test_streamlit_has_the_colours_of_the_palette(theme: Theme) -> None:
    palette, section = PALETTES[theme], streamlit_config()["theme"][theme]
    assert section["backgroundColor"] == palette.background
    assert section["secondaryBackgroundColor"] == palette.panel
    assert section["textColor"] == palette.text
    assert section["borderColor"] == palette.hairline
    assert section["primaryColor"] == palette.accent
    assert section["greenColor"] == palette.kept
    assert section["orangeColor"] == palette.drawn
    assert section["redColor"] == palette.cut
    assert section["grayColor"] == palette.secondary


@pytest.mark.parametrize("theme", THEMES)
def test_streamlit_is_given_ten_different_chart_colours(theme: Theme) -> None:
    # With any other number Plotly falls back to its own.
    assert len(set(streamlit_config()["theme"][theme]["chartCategoricalColors"])) == 10


def test_streamlit_asks_nobody_anything() -> None:
    config = streamlit_config()
    assert config["browser"]["gatherUsageStats"] is False
    assert config["server"]["showEmailPrompt"] is False
    assert "http" not in CONFIG.read_text(encoding="utf-8")

"""Numbers as words: the formats and the sentences that figures, pages and screen readers share.

Every sentence is plain text. Those that quote a token may hold any character, so they are shown as text,
never as Markdown or HTML.
"""

from __future__ import annotations

import math
from typing import Final

from dashboard.figures.labels import visible
from dashboard.sampling.trace import Integers, Step, Trace
from dashboard.sampling.vocabulary import Vocabulary

_NBSP: Final = "\u00a0"
_SMALLEST_SHARE: Final = 1e-5
_LARGEST_SHARE: Final = 1 - 1e-5

FACT_LABELS: Final = (
    "Token",
    "Probability, raw",
    "Probability, final",
    "Rank",
    "Surprisal",
    "Entropy of the step",
    "Nucleus size",
    "In the nucleus from",
)
"""What ``token_facts`` tells of a token, in order."""


def count(number: int) -> str:
    """A whole number with its thousands apart: ``49,152``."""
    return f"{number:,}"


def percent(share: float, *, padded: bool = False) -> str:
    """A share of 1 in per cent, to a sensible number of digits: ``90.0 %``, ``0.5 %``, ``0.0042 %``.

    ``padded`` keeps the zeros of two significant digits, for columns: ``0.50 %``.
    Only 0 is ``0 %`` and only 1 is ``100 %``; what lies beyond the shown digits is ``< 0.001 %`` or ``>
    99.999 %``.
    """
    if share <= 0 or share >= 1:
        return f"{0 if share <= 0 else 100}{_NBSP}%"
    if share < _SMALLEST_SHARE:
        return f"<{_NBSP}0.001{_NBSP}%"
    if share > _LARGEST_SHARE:
        return f">{_NBSP}99.999{_NBSP}%"
    hundredths = share * 100
    if hundredths < 1:
        decimals = 1 - math.floor(math.log10(hundredths))
        text = f"{hundredths:.{decimals}f}"
        return f"{text if padded else text.rstrip('0').rstrip('.')}{_NBSP}%"
    decimals = next(d for d in range(1, 6) if round(hundredths, d) < 100)  # noqa: PLR2004 - per cent
    return f"{hundredths:.{decimals}f}{_NBSP}%"


def bits(value: float) -> str:
    """Information in bits: ``7.3 bits``."""
    return f"{value:.1f}{_NBSP}bits"


def p_value(p: float) -> str:
    """A p as it is set or admits: two decimals, more where two would read as 0 or 1: ``0.57``, ``0.995``."""
    if p <= 0 or p >= 1:
        return f"{p:g}"
    decimals = next((d for d in range(2, 7) if 0 < round(p, d) < 1 and abs(round(p, d) - p) <= min(p, 1 - p) / 10), 7)
    text = f"{p:.{decimals}f}"
    return text[:-1] if decimals == 2 and text.endswith("0") else text  # noqa: PLR2004 - 0.9, not 0.90


def kept_sentence(size: int, vocabulary_size: int, mass: float | None) -> str:
    """``351 of 49,152 tokens kept, 90.0 % of the mass``; without the mass where it is not known."""
    kept = f"{count(size)} of {count(vocabulary_size)} tokens kept"
    return kept if mass is None else f"{kept}, {percent(mass)} of the mass"


def drawn_sentence(step: Step) -> str:
    """``drawn at rank 30, probability 0.5 %, in the nucleus from p > 0.57``."""
    drawn = f"drawn at rank {count(step.rank)}, probability {percent(step.probability)}"
    return f"{drawn}, {_admitted(step.admitting_p)}"


def edge_sentence(step: Step, vocabulary: Vocabulary, *, longest: int = 18) -> str:
    """The tokens on both sides of the cut, each of ``longest`` characters, with their shaped probabilities."""
    last = f"last kept {_quoted(vocabulary, step.last_kept.token_id, longest)} ({percent(step.last_kept.probability)})"
    if step.first_dropped is None:
        return f"{last}, nothing dropped"
    first = _quoted(vocabulary, step.first_dropped.token_id, longest)
    return f"{last}, first dropped {first} ({percent(step.first_dropped.probability)})"


def later_settings_sentence(step: Step) -> str:
    """What the settings after top-p left of it: ``nucleus of 351, the later settings kept 40``."""
    return f"nucleus of {count(step.nucleus_size)}, the later settings kept {count(step.kept_size)}"


def smallest_p_sentence(p: float) -> str:
    """What ``what_if.smallest_p`` says of a whole run."""
    return f"the smallest p that could have written this text: {p:.3f}"


def token_facts(
    trace: Trace, vocabulary: Vocabulary, *, nucleus_sizes: Integers | None = None
) -> list[tuple[str, ...]]:
    """The numbers of each drawn token, one for each of ``FACT_LABELS``.

    Args:
        trace: the steps.
        vocabulary: names the tokens.
        nucleus_sizes: (steps,) at the p that is asked about, if that is not the trace's own.
    """
    sizes = trace.nucleus_size if nucleus_sizes is None else nucleus_sizes
    in_all = count(len(vocabulary))
    return [
        (
            visible(vocabulary.label(token_id), longest=40),
            percent(raw),
            percent(final),
            count(rank),
            bits(surprisal),
            bits(entropy),
            f"{count(size)} of {in_all}",
            _admitted(admitting).removeprefix("in the nucleus ").removeprefix("from "),
        )
        for token_id, raw, final, rank, surprisal, entropy, size, admitting in zip(
            trace.token_ids.tolist(),
            trace.raw_probability.tolist(),
            trace.final_probability.tolist(),
            trace.rank.tolist(),
            trace.surprisal.tolist(),
            trace.entropy.tolist(),
            sizes.tolist(),
            trace.admitting_p.tolist(),
            strict=True,
        )
    ]


def _admitted(admitting_p: float) -> str:
    return "in the nucleus at every p" if admitting_p <= 0 else f"in the nucleus from p > {p_value(admitting_p)}"


def _quoted(vocabulary: Vocabulary, token_id: int, longest: int) -> str:
    return f"“{visible(vocabulary.label(token_id), longest)}”"

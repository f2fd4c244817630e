"""Numbers as words."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.figures import sentences
from dashboard.figures.sentences import bits, count, kept_sentence, p_value, percent, smallest_p_sentence
from tests.figures.factory import make_step, make_trace, make_vocabulary


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.9, "90.0 %"),
        (0.1543, "15.4 %"),
        (0.0123, "1.2 %"),
        (0.005, "0.5 %"),
        (0.00042, "0.042 %"),
        (0.000042, "0.0042 %"),
        (1e-5, "0.001 %"),
        (9.9e-6, "< 0.001 %"),
        (1e-300, "< 0.001 %"),
        (0.99951, "99.95 %"),
        (0.99996, "99.996 %"),
        (0.9999999, "> 99.999 %"),
        (0.00999, "1 %"),
    ],
)
def test_percentages_have_sensible_digits(share: float, text: str) -> None:
    assert plain(percent(share)) == text


@pytest.mark.parametrize("exponent", range(1, 40))
def test_no_positive_share_reads_as_nothing_and_none_below_one_as_everything(exponent: int) -> None:
    assert plain(percent(10.0**-exponent)) not in {"0 %", "0.0 %", "0.00 %"}
    assert plain(percent(1 - 10.0 ** -min(exponent, 15))) not in {"100 %", "100.0 %"}


def test_a_column_of_percentages_keeps_its_zeros() -> None:
    assert plain(percent(0.005, padded=True)) == "0.50 %"


def test_thousands_are_apart() -> None:
    assert count(49_152) == "49,152"
    assert plain(bits(7.34)) == "7.3 bits"


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.9, "0.9"),
        (0.57, "0.57"),
        (0.995, "0.995"),
        (0.999, "0.999"),
        (1.0, "1"),
        (0.0, "0"),
        (0.00007, "0.00007"),
        (0.9999, "0.9999"),
    ],
)
def test_a_p_never_reads_as_zero_or_one_unless_it_is(p: float, text: str) -> None:
    assert p_value(p) == text


def test_the_kept_sentence_tells_size_vocabulary_and_mass() -> None:
    assert plain(kept_sentence(351, 49_152, 0.9)) == "351 of 49,152 tokens kept, 90.0 % of the mass"
    assert kept_sentence(351, 49_152, None) == "351 of 49,152 tokens kept"


def test_the_drawn_sentence_tells_rank_probability_and_admitting_p() -> None:
    step = make_step([0.5, 0.3, 0.2], drawn=1)
    assert plain(sentences.drawn_sentence(step)) == "drawn at rank 2, probability 30.0 %, in the nucleus from p > 0.5"


def test_the_most_probable_token_is_in_every_nucleus() -> None:
    step = make_step([0.5, 0.3, 0.2], drawn=0)
    assert sentences.drawn_sentence(step).endswith("in the nucleus at every p")


def test_the_edge_sentence_names_both_sides_of_the_cut() -> None:
    vocabulary = make_vocabulary(3, [" a", "<b>", "\n"])
    step = make_step([0.5, 0.3, 0.2], top_p=0.7)
    assert plain(sentences.edge_sentence(step, vocabulary)) == "last kept “<b>” (30.0 %), first dropped “⏎” (20.0 %)"
    everything = make_step([0.5, 0.3, 0.2], top_p=1.0)
    assert sentences.edge_sentence(everything, vocabulary).endswith("nothing dropped")


def test_the_smallest_p_has_three_decimals() -> None:
    assert smallest_p_sentence(0.8982) == "the smallest p that could have written this text: 0.898"


def test_every_fact_has_a_label() -> None:
    trace = make_trace([make_step([0.5, 0.25, 0.25], drawn=1)])
    [facts] = sentences.token_facts(trace, make_vocabulary(3, ["a", " b", "c"]))
    assert len(facts) == len(sentences.FACT_LABELS)
    told = ["␣b", "25.0 %", "25.0 %", "2", "2.0 bits", "1.5 bits", "3 of 3", "p > 0.5"]
    assert [plain(fact) for fact in facts] == told


def test_the_facts_tell_the_nucleus_at_the_p_that_is_asked_about() -> None:
    trace = make_trace([make_step([0.5, 0.25, 0.25]), make_step([0.9, 0.05, 0.05])])
    facts = sentences.token_facts(trace, make_vocabulary(3), nucleus_sizes=np.array([2, 1]))
    place = sentences.FACT_LABELS.index("Nucleus size")
    assert [row[place] for row in facts] == ["2 of 3", "1 of 3"]

"""Token ids read as transformers reads them, and no character is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from dashboard.errors import ModelFilesError
from dashboard.sampling.vocabulary import Piece, Vocabulary

FOLDER = Path(__file__).parents[2] / "data" / "pocket-gpt2"


TOKENIZER = AutoTokenizer.from_pretrained(FOLDER)
VOCABULARY = Vocabulary.from_gpt2_file(FOLDER / "vocab.json")


def test_the_file_and_the_tokenizer_give_the_same_vocabulary() -> None:
    assert Vocabulary.from_tokenizer(TOKENIZER) == VOCABULARY
    assert len(VOCABULARY) == 50_257


@given(st.text(max_size=40))
def test_decoding_is_that_of_the_tokenizer(text: str) -> None:
    ids = TOKENIZER.encode(text, split_special_tokens=True)
    assert VOCABULARY.decode(ids) == TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


@given(st.lists(st.integers(0, 50_256), max_size=30))
def test_pieces_joined_are_the_text_without_its_broken_characters(ids: list[int]) -> None:
    pieces = VOCABULARY.pieces(ids)
    assert len(pieces) == len(ids)
    whole = b"".join(VOCABULARY.tokens[i] for i in ids).decode("utf-8", errors="ignore")
    assert "".join(piece.text for piece in pieces) == whole


def test_a_character_of_several_tokens_belongs_to_the_last_and_the_others_show_their_bytes() -> None:
    ids = TOKENIZER.encode("\N{DROMEDARY CAMEL}")
    assert len(ids) > 1
    pieces = VOCABULARY.pieces(ids)
    assert pieces[-1] == Piece("\N{DROMEDARY CAMEL}")
    assert all(piece.text == "" and piece.pending for piece in pieces[:-1])
    shown = b"".join(piece.pending for piece in pieces)
    assert "\N{DROMEDARY CAMEL}".encode().startswith(shown)


def test_a_lone_part_of_a_character_is_labelled_by_its_bytes() -> None:
    lone = next(i for i, raw in enumerate(VOCABULARY.tokens) if raw == b"\xf0")
    assert VOCABULARY.label(lone) == "\\xf0"
    assert VOCABULARY.label(50_256) == "<|endoftext|>"
    assert VOCABULARY.label(10**9) == "[1000000000]"


def test_the_end_of_text_token_that_ends_a_run_is_no_text() -> None:
    ids = TOKENIZER.encode("The end")
    assert VOCABULARY.output([*ids, 50_256], {50_256}) == "The end"
    assert VOCABULARY.output([50_256, *ids], {50_256}) == "<|endoftext|>The end"
    assert VOCABULARY.output([], {50_256}) == ""


def test_packing_keeps_every_byte_and_the_fingerprint() -> None:
    unpacked = Vocabulary.unpack(VOCABULARY.pack())
    assert unpacked == VOCABULARY
    assert unpacked.fingerprint == VOCABULARY.fingerprint


@pytest.mark.parametrize("damaged", [b"", b"nonsense", VOCABULARY.pack()[:-40]])
def test_a_damaged_pack_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed vocabulary"):
        Vocabulary.unpack(damaged)


def test_a_missing_vocabulary_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"vocab\.json"):
        Vocabulary.from_gpt2_file(tmp_path / "vocab.json")


def test_a_token_is_found_by_its_exact_text_and_special_ones_are_names() -> None:
    vocabulary = Vocabulary((b"a", b" a", "é".encode(), b"<|endoftext|>"), frozenset({3}))
    assert [vocabulary.find(text) for text in ("a", " a", "é", "b", "", "<|endoftext|>", "\ud800")] == [
        0, 1, 2, None, None, None, None,
    ]  # fmt: skip

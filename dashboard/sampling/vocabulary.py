"""What each token id reads as, without a tokenizer library: stored runs are shown where no model is installed.

A token of a byte-level vocabulary (GPT-2's, SmolLM2's) is a string of bytes, often only a part of a character. A
``Vocabulary`` keeps the bytes and turns sequences of ids into pieces of text that break no character.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from dashboard.errors import ModelFilesError


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that a vocabulary is read from."""

    def __len__(self) -> int:
        """The number of tokens, added ones included."""

    @property
    def all_special_ids(self) -> Any:
        """Ids of tokens that are names, not text."""

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """The names of the tokens."""


def _byte_letters() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, reversed: letter -> byte.

    Printable Latin-1 characters stand for themselves, the other bytes for U+0100 onwards, in order.
    Source: ``bytes_to_unicode`` of GPT-2's encoder.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    letters.update({chr(0x100 + i): byte for i, byte in enumerate(others)})
    return letters


_BYTE_LETTERS = _byte_letters()


@dataclass(frozen=True, slots=True)
class Piece:
    """What one token adds to a text.

    text: the characters that this token completes; may be empty.
    pending: bytes of a character that a later token completes, or that never will be one.
    """

    text: str
    pending: bytes = b""


@dataclass(frozen=True)
class Vocabulary:
    """The bytes of every token. ``special`` ids (end of text ...) are names, not text."""

    tokens: tuple[bytes, ...]
    special: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the packed form, in hex: two models with the same vocabulary share it."""
        return hashlib.sha256(self._plain()).hexdigest()

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> Vocabulary:
        """Read the tokens of a transformers tokenizer with a byte-level vocabulary."""
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        special = frozenset(i for i in tokenizer.all_special_ids if i < len(names))
        return cls(tuple(_token_bytes(name or "", i in special) for i, name in enumerate(names)), special)

    @classmethod
    def from_gpt2_file(cls, path: Path) -> Vocabulary:
        """Read GPT-2's ``vocab.json``; its last id is the end-of-text token."""
        try:
            ids: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelFilesError(f"The vocabulary {path.name} cannot be read: {error}.") from error
        names = sorted(ids, key=ids.__getitem__)
        special = frozenset(i for i, name in enumerate(names) if name == "<|endoftext|>")
        return cls(tuple(_token_bytes(name, i in special) for i, name in enumerate(names)), special)

    def label(self, token_id: int) -> str:
        r"""One token by itself, as text; bytes that are no whole character are shown as ``\xf0\x9f``.

        White space is left as it is: how to make it visible is for the figure or page that shows it.
        """
        if not 0 <= token_id < len(self.tokens):
            return f"[{token_id}]"
        return self.tokens[token_id].decode("utf-8", errors="backslashreplace")

    def labels(self, token_ids: Iterable[int]) -> list[str]:
        """``label`` of each id."""
        return [self.label(int(i)) for i in token_ids]

    def find(self, text: str) -> int | None:
        """The token that reads as exactly this text, special ones aside; None if no single token does."""
        wanted = text.encode("utf-8", errors="surrogatepass")
        return next((i for i, raw in enumerate(self.tokens) if raw == wanted and i not in self.special), None)

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text of a sequence of ids; bytes that form no character become U+FFFD, as transformers does it."""
        return b"".join(self._bytes(int(i)) for i in token_ids).decode("utf-8", errors="replace")

    def output(self, token_ids: Sequence[int], eos_ids: Collection[int]) -> str:
        """The text of a run: ``decode`` without the end-of-text token that ended it, which is a name, not text."""
        ended = len(token_ids) > 0 and int(token_ids[-1]) in eos_ids
        return self.decode(token_ids[:-1] if ended else token_ids)

    def pieces(self, token_ids: Sequence[int]) -> list[Piece]:
        """What each token of a sequence adds to the text; the pieces' texts joined are ``decode`` without its U+FFFD.

        A character spread over several tokens belongs to the last of them; the earlier ones show their bytes as
        pending.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        pieces = []
        for token_id in token_ids:
            raw = self._bytes(int(token_id))
            text = decoder.decode(raw)
            held, _ = decoder.getstate()
            if not text and not held and raw:
                # Bytes that can never be part of a character: the decoder skipped them.
                held = raw
            pieces.append(Piece(text, held[-len(raw) :] if raw else b""))
        return pieces

    def pack(self) -> bytes:
        """A compact form for storage; ``unpack`` reverses it."""
        return zlib.compress(self._plain(), level=6)

    @classmethod
    def unpack(cls, packed: bytes) -> Vocabulary:
        """The vocabulary packed by ``pack``. Raises ValueError for anything else."""
        try:
            content = json.loads(zlib.decompress(packed))
            tokens = tuple(token.encode("latin-1") for token in content["tokens"])
            return cls(tokens, frozenset(content["special"]))
        except (zlib.error, KeyError, TypeError, AttributeError, UnicodeError) as error:
            raise ValueError("not a packed vocabulary") from error

    def _plain(self) -> bytes:
        # Latin-1 maps each byte to the character of the same number, so any bytes fit into JSON.
        content = {
            "special": sorted(self.special),
            "tokens": [token.decode("latin-1") for token in self.tokens],
        }
        return json.dumps(content, separators=(",", ":")).encode("ascii")

    def _bytes(self, token_id: int) -> bytes:
        return self.tokens[token_id] if 0 <= token_id < len(self.tokens) else b""


def _token_bytes(name: str, special: bool) -> bytes:
    """The bytes that a byte-level token's name stands for; a name outside that alphabet is its own text."""
    if special or any(letter not in _BYTE_LETTERS for letter in name):
        return name.encode("utf-8")
    return bytes(_BYTE_LETTERS[letter] for letter in name)

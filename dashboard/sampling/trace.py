"""What a run leaves behind: ``Step``, one drawn token with its distribution, and ``Trace``, all steps as columns.

Both are frozen and hold numpy arrays only; nothing here imports torch. The words (raw, shaped and final
distribution, nucleus, kept set, admitting p, head, size curve) are those of README, "The words".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Floats: TypeAlias = NDArray[np.float64]
Floats32: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]
TokenIds: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]

StopReason: TypeAlias = Literal["eos", "length", "context", "stopped", "error"]
"""Why a run ended: end-of-text token, max_new_tokens, context full, stopped by the user, failed."""

HEAD_SIZE: Final = 256
"""The number of most probable tokens stored with each step (fewer only if the vocabulary is smaller)."""

SIZE_CURVE_P: Final[tuple[float, ...]] = (*(i / 100 for i in range(1, 100)), 0.995, 0.999)
"""The values of p at which each step's size curve is known."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token beside the cut, with its shaped probability."""

    token_id: int
    probability: float


@dataclass(frozen=True, slots=True)
class Step:
    """One drawn token and the distribution that it was drawn from. Every number is of the whole vocabulary.

    position: 0 for the first new token.
    raw_probability, probability, final_probability: of the drawn token in the raw, shaped and final distribution.
    rank: 1 for the most probable token of the shaped distribution.
    surprisal: -log2 of the raw probability, bits. entropy: of the shaped distribution, bits.
    nucleus_size: tokens that top-p keeps of the distribution that reaches it (after top-k).
    nucleus_mass: their mass in that distribution; at least p, 1.0 when top-p is off.
    kept_size: tokens left after every truncation. kept_mass: their mass in the shaped distribution.
    reaching_size: tokens that reach top-p: all, less those that top-k or no-repeat n-grams took out.
    reaching_mass: their mass in the shaped distribution; 1.0 unless top-k is on.
    admitting_p: mass that ranks above the drawn token in the distribution that reaches top-p.
    last_kept: the lowest-ranked token kept. first_dropped: the highest-ranked one not kept, None if all were kept.
    head_ids: (HEAD_SIZE,) token ids by falling shaped probability, uint16, or uint32 for larger vocabularies.
    head_probabilities, head_raw_probabilities: (HEAD_SIZE,) float32, shaped and raw. They are one and the same array
        when nothing reshaped the distribution (temperature 1, no penalties).
    size_curve: (len(SIZE_CURVE_P),) int32, the nucleus size at each p of SIZE_CURVE_P.
    """

    position: int
    token_id: int
    raw_probability: float
    probability: float
    final_probability: float
    rank: int
    surprisal: float
    entropy: float
    nucleus_size: int
    nucleus_mass: float
    kept_size: int
    kept_mass: float
    reaching_size: int
    reaching_mass: float
    admitting_p: float
    last_kept: Candidate
    first_dropped: Candidate | None
    head_ids: TokenIds
    head_probabilities: Floats32
    head_raw_probabilities: Floats32
    size_curve: NDArray[np.int32]


STEP_NUMBERS: Final = tuple(field.name for field in fields(Step) if field.type in {"int", "float"})
"""The fields of a step that are one number each, position and token id first."""


@dataclass(frozen=True, slots=True)
class Trace:
    """All steps of a run as columns; row i of each is step i. Names are those of ``Step``.

    ``first_dropped_ids`` is -1 (and its probability NaN) where nothing was dropped. ``head_*`` are (steps, head size),
    ``size_curves`` is (steps, len(SIZE_CURVE_P)).
    """

    token_ids: Integers
    raw_probability: Floats
    probability: Floats
    final_probability: Floats
    rank: Integers
    surprisal: Floats
    entropy: Floats
    nucleus_size: Integers
    nucleus_mass: Floats
    kept_size: Integers
    kept_mass: Floats
    reaching_size: Integers
    reaching_mass: Floats
    admitting_p: Floats
    last_kept_ids: Integers
    last_kept_probability: Floats
    first_dropped_ids: Integers
    first_dropped_probability: Floats
    head_ids: TokenIds
    head_probabilities: Floats32
    head_raw_probabilities: Floats32
    size_curves: NDArray[np.int32]

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, f.name)) for f in fields(self)}
        if len(lengths) != 1:
            raise ValueError(f"the columns of a trace differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.token_ids)

    @classmethod
    def from_steps(cls, steps: Sequence[Step]) -> Trace:
        """Columns from steps, in order; no steps give a trace of length 0."""

        def floats(values: list[float]) -> Floats:
            return np.array(values, dtype=np.float64)

        def integers(values: list[int]) -> Integers:
            return np.array(values, dtype=np.int64)

        def rows(arrays: Sequence[NDArray[Any]], width: int, dtype: DTypeLike) -> NDArray[Any]:
            return np.stack(arrays) if arrays else np.empty((0, width), dtype)

        dropped = [step.first_dropped for step in steps]
        return cls(
            token_ids=integers([s.token_id for s in steps]),
            raw_probability=floats([s.raw_probability for s in steps]),
            probability=floats([s.probability for s in steps]),
            final_probability=floats([s.final_probability for s in steps]),
            rank=integers([s.rank for s in steps]),
            surprisal=floats([s.surprisal for s in steps]),
            entropy=floats([s.entropy for s in steps]),
            nucleus_size=integers([s.nucleus_size for s in steps]),
            nucleus_mass=floats([s.nucleus_mass for s in steps]),
            kept_size=integers([s.kept_size for s in steps]),
            kept_mass=floats([s.kept_mass for s in steps]),
            reaching_size=integers([s.reaching_size for s in steps]),
            reaching_mass=floats([s.reaching_mass for s in steps]),
            admitting_p=floats([s.admitting_p for s in steps]),
            last_kept_ids=integers([s.last_kept.token_id for s in steps]),
            last_kept_probability=floats([s.last_kept.probability for s in steps]),
            first_dropped_ids=integers([-1 if d is None else d.token_id for d in dropped]),
            first_dropped_probability=floats([np.nan if d is None else d.probability for d in dropped]),
            head_ids=rows([s.head_ids for s in steps], HEAD_SIZE, np.uint16),
            head_probabilities=rows([s.head_probabilities for s in steps], HEAD_SIZE, np.float32),
            head_raw_probabilities=rows([s.head_raw_probabilities for s in steps], HEAD_SIZE, np.float32),
            size_curves=rows([s.size_curve for s in steps], len(SIZE_CURVE_P), np.int32),
        )

    def step(self, position: int) -> Step:
        """The step at ``position`` (from 0); IndexError beyond the end."""
        if not 0 <= position < len(self):
            raise IndexError(f"step {position} of a run with {len(self)} steps")
        i, dropped = position, int(self.first_dropped_ids[position])
        return Step(
            position=i,
            token_id=int(self.token_ids[i]),
            raw_probability=float(self.raw_probability[i]),
            probability=float(self.probability[i]),
            final_probability=float(self.final_probability[i]),
            rank=int(self.rank[i]),
            surprisal=float(self.surprisal[i]),
            entropy=float(self.entropy[i]),
            nucleus_size=int(self.nucleus_size[i]),
            nucleus_mass=float(self.nucleus_mass[i]),
            kept_size=int(self.kept_size[i]),
            kept_mass=float(self.kept_mass[i]),
            reaching_size=int(self.reaching_size[i]),
            reaching_mass=float(self.reaching_mass[i]),
            admitting_p=float(self.admitting_p[i]),
            last_kept=Candidate(int(self.last_kept_ids[i]), float(self.last_kept_probability[i])),
            first_dropped=None if dropped < 0 else Candidate(dropped, float(self.first_dropped_probability[i])),
            head_ids=self.head_ids[i],
            head_probabilities=self.head_probabilities[i],
            head_raw_probabilities=self.head_raw_probabilities[i],
            size_curve=self.size_curves[i],
        )

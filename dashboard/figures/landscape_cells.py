"""The cells of the landscape: the probability of each rank, or of a stretch of ranks, at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dashboard.sampling.trace import SIZE_CURVE_P, Floats, Floats32, Trace

_SINGLE_RANKS: Final = 12  # rows that hold one rank each
_GROWTH: Final = 1.25  # how much deeper each further row reaches; 57 rows for 256,000 tokens
_LEAST: Final = 1e-12  # a probability of 0 has a cell too, and no logarithm


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows of ranks over columns of steps.

    edges: (rows + 1,) borders between the rows, half a rank above the first rank of the one below.
    log_probability: (rows, steps) float32, log10 of the mean shaped probability of those of a row's ranks that reach
        top-p; NaN where none does.
    """

    edges: Floats
    log_probability: Floats32


def row_edges(deepest: int) -> Floats:
    """(rows + 1,) borders of the rows down to rank ``deepest``: single ranks at first, then ever longer stretches."""
    edges = [0.5]
    while edges[-1] < deepest:
        longer = len(edges) > _SINGLE_RANKS
        edges.append(edges[-1] + (round((edges[-1] + 0.5) * (_GROWTH - 1)) if longer else 1))
    return np.minimum(edges, deepest + 0.5)


def cells_of(trace: Trace, deepest: int) -> Cells:
    """The cells of all steps down to rank ``deepest``.

    Inside the head each mean is that of the stored probabilities; below it, that of the size curve, whose points tell
    the mass up to a rank to within the probability of one token.
    """
    edges = row_edges(deepest)
    # A row in which the last token to reach top-p stands ends with that token.
    borders = np.minimum(edges[:, None] - 0.5, trace.reaching_size)
    heads = np.cumsum(trace.head_probabilities, axis=1, dtype=np.float64)
    masses = [_mass_up_to(borders[:, i], trace, i, heads[i]) for i in range(len(trace))]
    in_row, ranks = np.diff(np.stack(masses, axis=1), axis=0), np.diff(borders, axis=0)
    means = np.divide(in_row, ranks, out=np.full_like(in_row, np.nan), where=ranks > 0)
    return Cells(edges, np.log10(np.maximum(means, _LEAST)).astype(np.float32))


def _mass_up_to(ranks: Floats, trace: Trace, position: int, head: Floats) -> Floats:
    """(len(ranks),) shaped mass of all tokens up to each of these ranks; ``head``: up to those of the head."""
    size, whole = int(trace.reaching_size[position]), float(trace.reaching_mass[position])
    curve = trace.size_curves[position]
    below = (curve > len(head)) & (curve < size)
    known = np.concatenate([[0.0], head, np.array(SIZE_CURVE_P)[below] * whole, [max(whole, head[-1])]])
    at = np.concatenate([np.arange(len(head) + 1), curve[below], [max(size, len(head))]])
    masses: Floats = np.interp(ranks, at, np.maximum.accumulate(known))
    return masses

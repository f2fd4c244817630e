"""The cells of the landscape: the probability of each rank, or of a stretch of ranks, at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dashboard.sampling.trace import SIZE_CURVE_P, Floats, Trace

_SINGLE_RANKS: Final = 12  # rows that hold one rank each
_GROWTH: Final = 1.2  # how much deeper each further row reaches


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows of ranks over columns of steps.

    edges: (rows + 1,) borders between the rows, half a rank above the first rank of the one below.
    log_probability: (rows, steps) float32, log10 of the mean shaped probability of a row's ranks; NaN beyond the last.
    """

    edges: Floats
    log_probability: NDArray[np.float32]


def row_edges(depth: float) -> Floats:
    """(rows + 1,) borders of the rows down to rank ``depth``: single ranks at first, then ever longer stretches."""
    edges = [0.5]
    width = 1.0
    while edges[-1] < depth:
        if len(edges) > _SINGLE_RANKS:
            width = max(1.0, float(round((edges[-1] + 0.5) * (_GROWTH - 1))))
        edges.append(edges[-1] + width)
    return np.array(edges)


def cells_of(trace: Trace, depth: float) -> Cells:
    """The cells of all steps down to rank ``depth``.

    Inside the head each mean is that of the stored probabilities; below it, that of the size curve, whose points tell
    the mass up to a rank to within the probability of one token.
    """
    edges = row_edges(depth)
    masses = np.stack([_mass_up_to(trace, position, edges[1:] - 0.5) for position in range(len(trace))], axis=1)
    in_row = np.diff(masses, axis=0, prepend=0.0)
    # A row that the last token ends in holds fewer ranks than it is deep.
    last = np.minimum(edges[1:, None] - 0.5, trace.reaching_size[None])
    ranks = np.diff(last, axis=0, prepend=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(in_row / ranks)
    logs[ranks <= 0] = np.nan
    return Cells(edges, np.where(np.isneginf(logs), -12.0, logs).astype(np.float32))


def _mass_up_to(trace: Trace, position: int, ranks: Floats) -> Floats:
    """(len(ranks),) shaped mass of all ranks up to each of these."""
    head = np.cumsum(trace.head_probabilities[position], dtype=np.float64)
    reaching, whole = int(trace.reaching_size[position]), float(trace.reaching_mass[position])
    sizes = trace.size_curves[position]
    below = sizes > len(head)
    known_ranks = np.concatenate([[0.0], np.arange(1.0, len(head) + 1), sizes[below], [max(reaching, len(head))]])
    known = np.concatenate([[0.0], head, np.array(SIZE_CURVE_P)[below] * whole, [max(whole, head[-1])]])
    masses: Floats = np.interp(ranks, known_ranks, np.maximum.accumulate(known))
    return masses

"""A key/value cache that grows without copying what it holds.

Transformers' ``DynamicCache`` concatenates: with twenty rows and two hundred tokens it copies some 300 MB for each new
token. Here new keys are written into spare room behind the old ones, and the model sees a view of the same shape.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_ROOM = 64  # tokens of spare room made at a time


class RoomyLayer(DynamicLayer):
    """The cache of one layer: ``keys`` and ``values`` are (rows, heads, tokens, width) views of larger buffers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append (rows, heads, new tokens, width) keys and values; return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        seen = self.get_seq_length()
        length = seen + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < length:
            self._buffers = (
                self._with_room(self.keys, key_states, seen, length),
                self._with_room(self.values, value_states, seen, length),
            )
        keys, values = self._buffers
        keys[:, :, seen:length] = key_states
        values[:, :, seen:length] = value_states
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]
        return self.keys, self.values

    @staticmethod
    def _with_room(held: Tensor | None, new: Tensor, seen: int, length: int) -> Tensor:
        rows, heads, _, width = new.shape
        buffer = torch.empty((rows, heads, length + _ROOM, width), dtype=new.dtype, device=new.device)
        if held is not None and seen:
            buffer[:, :, :seen] = held
        return buffer

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row ``repeats`` times."""
        super().batch_repeat_interleave(repeats)
        self._buffers = None

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only the rows at ``indices``."""
        super().batch_select_indices(indices)
        self._buffers = None

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens; ``tokens_to_remove`` is negative, as transformers has it."""
        super().crop(tokens_to_remove)
        self._buffers = None


def new_cache(config: PreTrainedConfig) -> Cache:
    """An empty cache for a model; models with other than full attention get transformers' own."""
    cache = DynamicCache(config=config)
    if all(type(layer) is DynamicLayer for layer in cache.layers):
        # GPT-2's config fills no layers in advance: they are made when first used.
        return Cache(layers=[RoomyLayer() for _ in range(config.num_hidden_layers)])
    return cache

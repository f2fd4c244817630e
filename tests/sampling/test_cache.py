"""The roomy cache gives the model what transformers' own cache gives it."""

from __future__ import annotations

import torch
from transformers.cache_utils import DynamicLayer

from dashboard.sampling.cache import RoomyLayer, new_cache
from tests.sampling.reference import random_model


def test_every_update_returns_what_concatenation_returns() -> None:
    roomy, plain = RoomyLayer(), DynamicLayer()
    generator = torch.Generator().manual_seed(0)

    def states(rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(torch.randn(rows, 2, length, 3, generator=generator) for _ in range(2))  # type: ignore[return-value]

    def step(rows: int, length: int) -> None:
        new = states(rows, length)
        for ours, theirs in zip(roomy.update(*new), plain.update(*new), strict=True):
            assert torch.equal(ours, theirs)
        assert roomy.get_seq_length() == plain.get_seq_length()

    step(1, 70)
    for layer in (roomy, plain):
        layer.batch_repeat_interleave(3)
    for _ in range(80):  # beyond the spare room
        step(3, 1)
    for layer in (roomy, plain):
        layer.batch_select_indices(torch.tensor([0, 2]))
    step(2, 5)
    for layer in (roomy, plain):
        layer.crop(-4)
    step(2, 1)


def test_growing_by_a_token_copies_nothing() -> None:
    layer = RoomyLayer()
    one = torch.zeros(1, 2, 1, 3)
    before, _ = layer.update(one, one)
    after, _ = layer.update(one, one)
    assert after.untyped_storage().data_ptr() == before.untyped_storage().data_ptr()


def test_gpt2_gets_roomy_layers() -> None:
    config = random_model().model.config
    assert [type(layer) for layer in new_cache(config).layers] == [RoomyLayer] * config.num_hidden_layers

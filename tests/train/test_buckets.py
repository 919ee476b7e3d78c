"""What travels of an embedding's gradient is enough: the sum is that of the whole."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
import torch
from torch import nn

from tunefleet.train import buckets as module
from tunefleet.train.buckets import EmbeddingBucket
from tunefleet.train.group import Group
from tunefleet.train.reduce import GradientBuckets

ROWS, WIDTH = 40, 4


class Peers:
    """A group whose workers are threads of this process; counts the values that travel."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.travelled = 0
        self._barrier = threading.Barrier(world, timeout=30)
        self._brought: list[torch.Tensor] = []
        self._lock = threading.Lock()

    def sum(self, tensor: torch.Tensor) -> None:
        with self._lock:
            self._brought.append(tensor.clone())
        self._barrier.wait()
        tensor.copy_(torch.stack(self._brought).sum(0))
        if self._barrier.wait() == 0:
            self.travelled += tensor.numel()
            self._brought.clear()
        self._barrier.wait()

    def sum_async(self, tensor: torch.Tensor) -> None:
        self.sum(tensor)


def added_up(tables: Sequence[torch.Tensor]) -> tuple[list[EmbeddingBucket], int]:
    """Every worker's bucket after its sum, and how many values travelled."""
    peers = Peers(len(tables))

    def work(table: torch.Tensor) -> EmbeddingBucket:
        flat = table.clone().flatten()
        bucket = EmbeddingBucket(flat, 1, table=flat.view_as(table))
        bucket.send(cast(Group, peers))
        bucket.arrive()
        return bucket

    with ThreadPoolExecutor(len(tables)) as pool:
        return list(pool.map(work, tables)), peers.travelled


def a_table(**rows: float) -> torch.Tensor:
    """Zeros but for some rows: ``r7=0.5`` fills row 7."""
    table = torch.zeros(ROWS, WIDTH)
    for row, value in rows.items():
        table[int(row[1:])] = value
    return table


@pytest.mark.parametrize(
    "tables",
    [
        pytest.param([a_table(r1=1, r7=2), a_table(r7=3, r30=4)], id="some rows in common"),
        pytest.param([a_table(r1=1), a_table(r2=1), a_table(r3=1)], id="none in common"),
        pytest.param([a_table(r5=0.25), a_table()], id="a worker without a micro-batch"),
        pytest.param([a_table(), a_table()], id="nothing at all"),
        pytest.param([a_table(r9=1e-44), a_table()], id="so small that its square is zero"),
        pytest.param([a_table(r9=1), a_table(r9=-1)], id="rows that cancel out"),
        pytest.param([a_table(r9=float("inf")), a_table(r2=1)], id="infinity"),
        pytest.param([torch.ones(ROWS, WIDTH), a_table(r1=1)], id="more than is worth packing"),
        pytest.param([a_table(r1=1, r2=2)], id="one worker"),
    ],
)
def test_the_sum_is_that_of_the_whole(tables: list[torch.Tensor]) -> None:
    expected = torch.stack(tables).sum(0)
    found, travelled = added_up(tables)
    assert travelled <= ROWS + ROWS * WIDTH
    for bucket in found:
        assert torch.equal(bucket.table, expected)
        torch.testing.assert_close(bucket.norm(), torch.linalg.vector_norm(expected))
        bucket.scale(0.5)
        assert torch.equal(bucket.table, expected * 0.5)
        bucket.zero()
        assert not bucket.flat.any(), "the next step starts from nothing"


def test_what_is_not_a_number_reaches_everybody() -> None:
    found, _ = added_up([a_table(r3=float("nan")), a_table(r1=1)])
    for bucket in found:
        assert bool(bucket.table[3].isnan().all())
        assert bool(bucket.norm().isnan())
        bucket.zero()
        assert not bucket.flat.any()


def test_few_rows_travel_alone_and_many_with_all_others() -> None:
    few = [a_table(r1=1), a_table(r2=1)]
    assert added_up(few)[1] == ROWS + 2 * WIDTH
    many = a_table(**{f"r{row}": 1.0 for row in range(int(module.MOST_ROWS * ROWS) + 1)})
    assert added_up([many, many])[1] == ROWS + ROWS * WIDTH


def test_an_embedding_alone_in_its_bucket_gives_the_gradients_of_autograd() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(ROWS, WIDTH), nn.Linear(WIDTH, 2))
    ids = [torch.randint(0, ROWS, (6,)) for _ in range(3)]
    for part in ids:
        torch.autograd.backward(model(part).square().sum())
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    embedding = model[0]
    assert isinstance(embedding, nn.Embedding)
    one = GradientBuckets(list(embedding.parameters()), Group(), embeddings=[embedding])
    two = GradientBuckets(list(model[1].parameters()), Group(), embeddings=[embedding])
    for _ in range(2):
        one.zero()
        two.zero()
        for part in ids:
            torch.autograd.backward(model(part).square().sum())
        one.finish()
        two.finish()
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)

"""Scores of a split, computed by all workers, each unit exactly once.

Decides the cut of an evaluation: units sorted by length, in fixed micro-batches dealt whole
to workers, gathered and put back into the order of units. No unit is duplicated to make
shares even, and nothing of the size of a vocabulary is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from tunefleet.api.words import Precision
from tunefleet.data.batch import collate
from tunefleet.data.order import Indices, share
from tunefleet.data.tokens import TokenStore
from tunefleet.tasks.contract import Scores, Task
from tunefleet.train.group import Group
from tunefleet.train.step import autocast, padding_multiple, to_device


def cut(store: TokenStore, micro_batch: int) -> list[Indices]:
    """The micro-batches of an evaluation: a function of the store and the size alone."""
    order = np.argsort(store.lengths, kind="stable").astype(np.int64)
    return [order[i : i + micro_batch] for i in range(0, len(order), micro_batch)]


def score_split(
    task: Task,
    model: nn.Module,
    store: TokenStore,
    *,
    micro_batch: int,
    group: Group,
    device: torch.device,
    precision: Precision,
    tick: Callable[[], None] = lambda: None,
) -> Scores:
    """Scores of every unit of ``store`` in its order, on every worker, with ``ids`` added."""
    pieces = cut(store, micro_batch)
    costs = np.array([len(units) * int(store.lengths[units].max()) for units in pieces])
    mine = share(costs, group.world)[group.rank]
    padding = padding_multiple(device)
    was_training = model.training
    model.eval()
    parts: list[tuple[Indices, Scores]] = []
    with torch.no_grad():
        for index in mine:
            batch = to_device(
                collate(store, pieces[index], pad_to_multiple=padding), device, precision
            )
            with autocast(device, precision):
                parts.append((pieces[index], task.score(model, batch)))
            tick()
    model.train(was_training)
    gathered = [part for worker in group.gather(parts) for part in worker]
    units = np.concatenate([units for units, _ in gathered])
    back = np.argsort(units, kind="stable")
    names = gathered[0][1].keys()
    scores = {n: np.concatenate([part[n] for _, part in gathered])[back] for n in names}
    scores["ids"] = np.asarray(store.ids)
    return scores

"""The state of a run: what a checkpoint holds and how it comes back.

Decides the form: tensors keyed by parameter name (``weights.safetensors`` holds what is
trained, ``moments.safetensors`` the optimiser's), so that any number of workers, and later a
sharded one, can read it; everything else in ``state.json``. Saving copies to host memory and
lets the step go on; restoring needs no replay, because order and rate are functions of the
step number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import safetensors.torch
import torch
from torch import nn

from tunefleet.api.base import Document
from tunefleet.evaluate.result import History
from tunefleet.train.optimizer import named_trainable

WEIGHTS, MOMENTS, STATE = "weights.safetensors", "moments.safetensors", "state.json"


class RunState(Document):
    """The small part of a checkpoint. ``step`` counts the steps that are done."""

    version: int = 1
    step: int
    chain: str
    best_step: int | None = None
    best_metric: float | None = None
    unimproved: int = 0
    finished: bool = False
    before: dict[str, dict[str, float]] = {}
    history: History = History()


@dataclass(slots=True)
class HostCopy:
    """A copy of the tensors in host memory, re-used from save to save."""

    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    moments: dict[str, torch.Tensor] = field(default_factory=dict)

    def take(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Copy the trained weights and the moments as they are now."""
        trainable = named_trainable(model)
        _copy_into(self.weights, {name: p.detach() for name, p in trainable.items()})
        moments = {
            f"{kind}.{name}": tensor
            for name, parameter in trainable.items()
            for kind, tensor in optimizer.state.get(parameter, {}).items()
            if torch.is_tensor(tensor)
        }
        _copy_into(self.moments, moments)

    def files(self, state: RunState) -> dict[str, bytes]:
        """The files of a checkpoint."""
        return {
            WEIGHTS: safetensors.torch.save(self.weights),
            MOMENTS: safetensors.torch.save(self.moments),
            STATE: state.to_json().encode(),
        }


def _copy_into(held: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if name not in held or held[name].shape != tensor.shape:
            held[name] = torch.empty_like(
                tensor, device="cpu", memory_format=torch.contiguous_format
            )
        held[name].copy_(tensor)


def restore(
    model: nn.Module, optimizer: torch.optim.Optimizer, read: Callable[[str], bytes]
) -> RunState:
    """Put a checkpoint back into model and optimiser; ``read`` gives a file's bytes."""
    restore_weights(model, read)
    trainable = named_trainable(model)
    for name, tensor in safetensors.torch.load(read(MOMENTS)).items():
        kind, _, parameter_name = name.partition(".")
        parameter = trainable[parameter_name]
        # Fused optimisers keep their step counter beside the parameter.
        optimizer.state[parameter][kind] = tensor.to(parameter.device)
    return RunState.from_json(read(STATE))


def restore_weights(model: nn.Module, read: Callable[[str], bytes]) -> None:
    """Put a checkpoint's weights back; raises ``KeyError`` when the model is another one."""
    trainable = named_trainable(model)
    tensors = safetensors.torch.load(read(WEIGHTS))
    if tensors.keys() != trainable.keys():
        missing = sorted(trainable.keys() ^ tensors.keys())[:3]
        raise KeyError(f"the checkpoint is of another model: {', '.join(missing)} differ")
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(tensors[name])

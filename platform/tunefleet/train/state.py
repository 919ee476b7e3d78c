"""The state of a run: what a checkpoint holds and how it comes back.

Decides the form: tensors keyed by parameter name (``weights.safetensors`` holds what is
trained, ``moments.safetensors`` the optimiser's), so that any number of workers, and later a
sharded one, can read it; everything else in ``state.json``. Saving copies to host memory and
lets the step go on; restoring needs no replay, because order and rate are functions of the
step number.
"""

from __future__ import annotations

import torch
from torch import nn

from tunefleet.api.base import Document
from tunefleet.evaluate.result import History
from tunefleet.train.image import FileImage, FileReader, Kind
from tunefleet.train.node_files import Opened
from tunefleet.train.optimizer import named_trainable

WEIGHTS, MOMENTS, STATE = "weights.safetensors", "moments.safetensors", "state.json"
FILES = (WEIGHTS, MOMENTS, STATE)


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


class HostCopy:
    """A copy of the tensors in host memory, laid out as files and re-used from save to save."""

    def __init__(self) -> None:
        self._images: dict[str, FileImage] = {}

    def reserve(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Lay out the files, so that the first copy need not wait for memory.

        The optimiser has moments after its first step only.
        """
        for file, tensors in _tensors(model, optimizer).items():
            if file not in self._images or not self._images[file].fits(tensors):
                self._images[file] = FileImage(tensors)

    def take(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Copy the trained weights and the moments as they are now."""
        self.reserve(model, optimizer)
        for file, tensors in _tensors(model, optimizer).items():
            self._images[file].fill(tensors)

    def files(self, state: RunState) -> dict[str, bytes | memoryview]:
        """The files of a checkpoint; the next :meth:`take` writes over them."""
        bodies = {file: image.body for file, image in self._images.items()}
        return {**bodies, STATE: state.to_json().encode()}


def _tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, torch.Tensor]]:
    trainable = named_trainable(model)
    return {
        WEIGHTS: {name: parameter.detach() for name, parameter in trainable.items()},
        MOMENTS: {
            f"{kind}.{name}": tensor
            for name, parameter in trainable.items()
            for kind, tensor in optimizer.state.get(parameter, {}).items()
            if torch.is_tensor(tensor)
        },
    }


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, opened: Opened) -> RunState:
    """Put a checkpoint back into model and optimiser.

    Raises ``KeyError`` when the checkpoint is of another model, ``ValueError`` for a file that
    is none of a checkpoint.
    """
    restore_weights(model, opened)
    trainable = named_trainable(model)

    def moment(name: str, kind: Kind) -> torch.Tensor:
        what, _, parameter_name = name.partition(".")
        parameter = trainable[parameter_name]
        dtype, shape = kind
        # Fused optimisers keep their step counter beside the parameter.
        made = torch.empty(shape, dtype=dtype, device=parameter.device)
        optimizer.state[parameter][what] = made
        return made

    FileReader(opened(MOMENTS)).read(moment)
    return RunState.from_json(opened(STATE).readall())


def restore_weights(model: nn.Module, opened: Opened) -> None:
    """Put a checkpoint's weights back; raises ``KeyError`` when the model is another one."""
    trainable = named_trainable(model)
    weights = FileReader(opened(WEIGHTS))
    with torch.no_grad():
        if weights.kinds.keys() != trainable.keys():
            missing = sorted(trainable.keys() ^ weights.kinds.keys())[:3]
            raise KeyError(f"the checkpoint is of another model: {', '.join(missing)} differ")
        weights.read(lambda name, kind: trainable[name])

"""ONNX: the model as a graph with free batch and length, proved before it is called done.

Decides the graph's inputs and output, and the proof: ONNX Runtime must reproduce the bundle's
golden batch within its tolerance, and agree with torch on a batch of another shape. Made by
torch's own exporter. Imports torch, onnxruntime (inside functions), ``evaluate``, ``tasks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tunefleet.api.errors import MachineError, ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tunefleet.evaluate.predictor import Predictor

FILE = "model.onnx"
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def require_packages() -> None:
    """Raise ``MachineError`` without what exporting needs."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise MachineError(
            f"{', '.join(missing)} not installed", remedy="pip install 'tunefleet[export]'"
        )


def write_onnx(predictor: Predictor, draft: Path) -> float:
    """Write ``model.onnx`` and prove it; returns its largest difference from the golden batch.

    Raises ``ModelError`` when the architecture cannot be exported or the graph answers otherwise.
    """
    import torch

    from tunefleet.evaluate.golden import check_golden, read_batch

    batch = read_batch(predictor.folder)
    names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in batch]
    _export(predictor.model, {name: batch[name] for name in names}, draft / FILE)
    graph = _graph_module(draft / FILE, names)
    worst = check_golden(predictor.folder, predictor.task, graph)
    length = max(2, int(batch["attention_mask"][0].sum()))
    other = {name: batch[name][:1, :length] for name in names}
    with torch.no_grad():
        expected, found = predictor.model(**other).logits, graph(**other).logits
    if not torch.allclose(expected.float(), found, rtol=1e-3, atol=1e-3):
        raise ModelError(
            f"the ONNX graph answers otherwise than the model on a batch of {tuple(other)}",
            remedy="this architecture's graph depends on the shape it was made with; use --to hf",
        )
    return worst


def _export(model: nn.Module, inputs: dict[str, torch.Tensor], path: Path) -> None:
    import logging
    import warnings

    import torch

    cast("Any", model).config.use_cache = False
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Warnings of the exporter about itself; what it made is proved afterwards.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _logits_only(model),
                tuple(inputs.values()),
                path,
                dynamo=True,
                verbose=False,
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes={name: {0: "batch", 1: "length"} for name in inputs},
            )
    except Exception as error:  # the exporter's own kinds are many, and private
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(
            f"torch cannot export {type(model).__name__} to ONNX: {first}",
            remedy="use --to hf; the reason lies in the architecture, not in the bundle",
        ) from error


def _logits_only(model: nn.Module) -> nn.Module:
    from torch import nn

    class Logits(nn.Module):
        """The model with one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            token_type_ids: torch.Tensor | None = None,
        ) -> torch.Tensor:
            more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            logits: torch.Tensor = self.model(
                input_ids=input_ids, attention_mask=attention_mask, **more
            ).logits
            return logits

    return Logits().eval()


def _graph_module(path: Path, names: Sequence[str]) -> nn.Module:
    """ONNX Runtime dressed as a torch model, so that a task asks it as any other."""
    import onnxruntime
    import torch
    from torch import nn

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    class Graph(nn.Module):
        """Answers ``.logits`` from the graph."""

        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.zeros(1), requires_grad=False)

        def forward(self, **inputs: object) -> SimpleNamespace:
            given = {name: cast("torch.Tensor", inputs[name]).numpy() for name in names}
            return SimpleNamespace(logits=torch.from_numpy(session.run(["logits"], given)[0]))

    return Graph().eval()

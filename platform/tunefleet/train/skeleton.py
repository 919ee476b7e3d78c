"""The model as it will be trained, without its weights: exact sizes for the plan.

Decides how parameters are counted: the architecture is built on torch's meta device with the
task's head (and adapters), so tied weights count once and nothing is loaded. Imports torch,
transformers and ``tasks``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from tunefleet.api.errors import ModelError
from tunefleet.api.job import ModelSpec
from tunefleet.api.tasks import TaskDeclaration
from tunefleet.tasks.adapters import apply_adapter
from tunefleet.tasks.contract import ModelKind
from tunefleet.tasks.models import quiet

_SHIFTED = {
    "bertweet",
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
"""Model types whose positions begin after the padding index, so two of them are never used."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a plan has to know of a model (counts of numbers, not bytes)."""

    architecture: str
    model_type: str
    parameters: int
    trainable_parameters: int
    largest_parameter: int
    hidden_size: int
    layers: int
    attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_positions: int | None
    tied_embeddings: bool


def measure(
    path: Path,
    model: ModelSpec,
    declaration: TaskDeclaration,
    kind: ModelKind,
    tensors: Collection[str],
) -> Sizes:
    """Sizes of the model that a task loads from ``path``: of its kind, with its head.

    ``tensors`` are the names of the weights that the folder has. Raises ``ModelError``.
    """
    config = _config(path)
    if kind.outputs is not None:
        config.num_labels = kind.outputs
    built = _build(getattr(transformers, kind.auto_class), config, path)
    method = model.method
    adapted: nn.Module = built
    if method.type != "full":
        adapted = apply_adapter(
            built,
            method,
            task=kind.adapter_task,
            trained_in_full=_new_parts(built, tensors) if kind.outputs is not None else [],
            declared=declaration.lora_targets,
        )
    every = list(adapted.parameters())
    text: Any = config.get_text_config()
    hidden = int(_first(text, "hidden_size", "d_model", "n_embd", "dim"))
    return Sizes(
        architecture=type(built).__name__,
        model_type=str(config.model_type),
        parameters=sum(p.numel() for p in every),
        trainable_parameters=sum(p.numel() for p in every if p.requires_grad),
        largest_parameter=max(p.numel() for p in every),
        hidden_size=hidden,
        layers=int(_first(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")),
        attention_heads=int(_first(text, "num_attention_heads", "n_head", "n_heads", "num_heads")),
        intermediate_size=int(
            _first(text, "intermediate_size", "n_inner", "ffn_dim", "d_ff", "hidden_dim")
            or 4 * hidden
        ),
        vocab_size=int(_first(text, "vocab_size")),
        max_positions=_positions(text),
        tied_embeddings=_tied(built),
    )


def _config(path: Path) -> Any:
    try:
        with quiet():
            return transformers.AutoConfig.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # transformers raises many kinds, all about this file
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelError(
            f"{path}/config.json cannot be used: {reason}",
            remedy="name a model whose type the installed transformers knows",
        ) from error


def _build(auto: Any, config: Any, path: Path) -> nn.Module:
    if type(config) not in auto._model_mapping:
        raise ModelError(
            f"{path}: a {config.model_type} model cannot be used for this task "
            f"(transformers has no {auto.__name__} of it)",
            remedy="name a model of another architecture in spec.model",
        )
    try:
        with quiet(), torch.device("meta"):
            built: nn.Module = auto.from_config(config, trust_remote_code=False)
    except Exception as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelError(
            f"{path}/config.json describes no model that can be built: {reason}",
            remedy="copy the model's config.json again",
        ) from error
    return built


def _new_parts(model: nn.Module, tensors: Collection[str]) -> list[str]:
    """Parts that are trained in full beside adapters: the head, and a pooler never trained."""
    body = str(getattr(model, "base_model_prefix", ""))
    parts = [
        name
        for name, part in model.named_children()
        if name != body and next(part.parameters(), None) is not None
    ]
    bare = {name.removeprefix(f"{body}.") for name in tensors}
    for name, _ in model.named_parameters():
        if "pooler" in name.split(".") and name.removeprefix(f"{body}.") not in bare:
            parts.append("pooler")
            break
    return sorted(parts)


def _first(config: Any, *names: str) -> Any:
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return value
    return 0


def _positions(config: Any) -> int | None:
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
    found = int(_first(config, *names))
    if found and config.model_type in _SHIFTED:
        found -= int(getattr(config, "pad_token_id", None) or 1) + 1
    return found or None


def _tied(model: Any) -> bool:
    """Whether the output layer is the input embedding (not so where there is a head)."""
    output = model.get_output_embeddings()
    return output is not None and output.weight is model.get_input_embeddings().weight

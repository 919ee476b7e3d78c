"""Low-rank adapters through peft: which modules get one, and how they are merged again.

Decides the default targets of a model type, refuses targets that no module answers to, and
keeps new parts (heads) trained in full. Imports torch, transformers, peft and ``api``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tunefleet.api.errors import ModelError
from tunefleet.api.job import LoraSpec, MethodSpec

_FIELD = "spec.model.method.lora.targetModules"

_ATTENTION: tuple[tuple[str, ...], ...] = (
    ("q_proj", "v_proj"),
    ("query", "value"),
    ("q_lin", "v_lin"),
    ("qkv_proj",),
    ("Wqkv",),
    ("query_key_value",),
    ("c_attn",),
)
"""What the projections of attention are called, for types that peft's table does not list."""


def apply_adapter(
    model: nn.Module,
    method: MethodSpec,
    *,
    task: str,
    trained_in_full: Sequence[str],
    declared: Mapping[str, Sequence[str]],
) -> nn.Module:
    """The model as ``method`` trains it; ``declared`` are a task's own targets by model type."""
    if method.type == "full":
        return model
    if method.type == "qlora":
        raise ModelError(
            "quantised base weights are not supported", remedy="set spec.model.method.type: lora"
        )
    from peft import LoraConfig, get_peft_model

    lora = method.lora or LoraSpec()
    targets = _targets(model, lora, declared)
    settings: dict[str, Any] = {
        "task_type": task,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": targets,
        "modules_to_save": list(trained_in_full) or None,
        "fan_in_fan_out": _transposed(model, targets),
    }
    base: Any = model
    with warnings.catch_warnings():
        # peft still asks transformers by a name that is going away; harmless here.
        warnings.simplefilter("ignore", FutureWarning)
        adapted: nn.Module = get_peft_model(base, LoraConfig(**settings))
    return adapted


def merge_adapter(model: nn.Module) -> nn.Module:
    """The plain model with the adapter's weights added in; a model without one is returned.

    The given model is used up: its own weights are changed in place.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return model
    merging: Any = model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        merged: nn.Module = merging.merge_and_unload(safe_merge=True)
    return merged


def _targets(
    model: nn.Module, lora: LoraSpec, declared: Mapping[str, Sequence[str]]
) -> list[str] | str:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    linear = _linear_layers(model)
    if lora.target_modules is not None:
        missing = [t for t in lora.target_modules if not any(_answers(n, t) for n in linear)]
        if missing:
            raise ModelError(
                f"{_FIELD}: no layer is called {', '.join(missing)}",
                remedy=f"this model's layers are {_leaves(linear)}",
            )
        _refuse_tied(model, lora.target_modules)
        return list(lora.target_modules)
    config: Any = model.config
    for table in (declared, KNOWN):
        if config.model_type in table:
            found = table[config.model_type]
            return found if isinstance(found, str) else list(found)
    leaves = {name.rpartition(".")[2] for name in linear}
    for names in _ATTENTION:
        if leaves.issuperset(names):
            return list(names)
    raise ModelError(
        f"which layers of a {config.model_type} model get an adapter is not known",
        remedy=f"name them in {_FIELD}; this model's layers are {_leaves(linear)}",
    )


def _linear_layers(model: nn.Module) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, nn.Embedding, Conv1D)
    return [name for name, part in model.named_modules() if isinstance(part, kinds)]


def _answers(name: str, target: str) -> bool:
    """Peft's rule: the whole name, or its end after a dot."""
    return name == target or name.endswith(f".{target}")


def _leaves(names: Sequence[str]) -> str:
    return ", ".join(sorted({name.rpartition(".")[2] for name in names}))


def _refuse_tied(model: nn.Module, targets: Sequence[str]) -> None:
    """Merging an adapter of one of two tied layers would change the other one, untrained."""
    tied: Any = model
    into, out = tied.get_input_embeddings(), tied.get_output_embeddings()
    if out is None or into is None or into.weight is not out.weight:
        return
    for name, part in model.named_modules():
        if part in (into, out) and any(_answers(name, target) for target in targets):
            raise ModelError(
                f"{_FIELD}: {name} shares its weights with another layer of this model, "
                "so an adapter on it cannot be merged",
                remedy=f"leave {name.rpartition('.')[2]} out",
            )


def _transposed(model: nn.Module, targets: list[str] | str) -> bool:
    """Whether the targets keep their weights transposed (GPT-2's Conv1D)."""
    from transformers.pytorch_utils import Conv1D

    return not isinstance(targets, str) and any(
        isinstance(part, Conv1D) and any(_answers(name, target) for target in targets)
        for name, part in model.named_modules()
    )

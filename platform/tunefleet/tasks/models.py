"""Loading models safely: safetensors only, no remote code, fp32, seeded new weights, quiet.

Decides what a usable model folder is and says clearly why one is not; which head weights
are kept (same labels) and which are drawn anew from the seed. Files only: names of the hub
are resolved to folders before. Imports torch, transformers and ``api``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunefleet.api.errors import ModelError
from tunefleet.api.job import ModelSpec
from tunefleet.tasks.adapters import apply_adapter, merge_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "Head",
    "enable_gradient_checkpointing",
    "load_model",
    "load_tokenizer",
    "merge_adapter",
    "quiet",
]

log = logging.getLogger("tunefleet.tasks")

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Head:
    """The outputs a task asks for: their names, and the objective they are trained with.

    ``labels`` are the names in output order; ``outputs`` their number (1 for a number).
    """

    labels: tuple[str, ...]
    problem_type: str

    @property
    def outputs(self) -> int:
        return max(len(self.labels), 1)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no warnings of transformers while a model is handled."""
    from transformers.utils import logging as transformers_logging

    hf: Any = transformers_logging
    verbosity, bars = hf.get_verbosity(), hf.is_progress_bar_enabled()
    hf.set_verbosity_error()
    hf.disable_progress_bar()
    try:
        yield
    finally:
        hf.set_verbosity(verbosity)
        if bars:
            hf.enable_progress_bar()


def load_tokenizer(model_path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; raises ``ModelError`` when it has none."""
    from transformers import AutoTokenizer

    _read_config(model_path)
    reason = "its vocabulary is not there"
    try:
        with quiet():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                model_path, local_files_only=True, trust_remote_code=False
            )
        # Without its files transformers makes an empty tokenizer of the model's type.
        if _has_vocabulary(model_path, tokenizer):
            return tokenizer
    # Whatever is wrong with the files, transformers tells in many types.
    except Exception as error:
        reason = _first_line(error)
    raise ModelError(
        f"{model_path} has no tokenizer that can be read: {reason}",
        remedy="put the model's tokenizer files (tokenizer.json, tokenizer_config.json) beside "
        "its weights",
    )


def _has_vocabulary(model_path: Path, tokenizer: PreTrainedTokenizerBase) -> bool:
    if not tokenizer.vocab_files_names:
        return True
    files = {"tokenizer.json", "tekken.json", *tokenizer.vocab_files_names.values()}
    return any(
        found.name in files or found.suffix in {".model", ".tiktoken"}
        for found in model_path.iterdir()
    )


def load_model(
    auto_class: type[Any],
    model_path: Path,
    model: ModelSpec,
    seed: int,
    *,
    head: Head | None,
    lora_task: str,
    lora_targets: Mapping[str, Sequence[str]] | None = None,
    unfit: Callable[[PreTrainedConfig], str] | None = None,
) -> nn.Module:
    """A model of ``auto_class`` in fp32, with its head and adapters; raises ``ModelError``.

    Weights the folder lacks are drawn from ``seed`` alone: those of a new head, and of a
    pooling layer that the base model never had. Anything else that is missing is an error.
    ``head`` is None where the weights have to be complete as they are. ``unfit`` says why a
    task cannot use a model ("" where it can).
    """
    config = _config_for(auto_class, model_path, model)
    if unfit is not None and (reason := unfit(config)):
        raise ModelError(reason, remedy="name a model of another architecture in spec.model")
    keep_head = head is not None and _same_head(config, head)
    if head is not None:
        _set_head(config, head)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded, info = _from_pretrained(auto_class, model_path, config)
        heads = _head_modules(loaded) if head is not None else []
        fresh = _fresh_modules(info, model_path, heads)
        if head is not None and (not keep_head or not fresh.isdisjoint(heads)):
            torch.manual_seed(seed)
            _draw(loaded, heads)
            log.info("%s: the head is new, drawn from seed %d", model_path, seed)
        for name in sorted(fresh.difference(heads)):
            log.info("%s: %s is not among the weights, drawn from seed %d", model_path, name, seed)
        return apply_adapter(
            loaded,
            model.method,
            task=lora_task,
            trained_in_full=sorted(fresh.union(heads)),
            declared=lora_targets or {},
        )


def enable_gradient_checkpointing(model: nn.Module) -> None:
    """Recompute activations in the backward pass; raises ``ModelError`` where it cannot."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ModelError(
            f"{type(model).__name__} cannot recompute activations",
            remedy="remove spec.training.gradientCheckpointing",
        )
    switch: Any = model
    switch.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})


def _read_config(model_path: Path) -> dict[str, object]:
    """``config.json`` of a model folder; raises ``ModelError``."""
    if not model_path.is_dir():
        raise ModelError(
            f"{model_path} is no model folder", remedy="name a folder that holds config.json"
        )
    try:
        config = json.loads((model_path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{model_path} has no config.json, so it is no Hugging Face model folder",
            remedy="name the folder that save_pretrained wrote, or a model of the hub",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{model_path}/config.json cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{model_path}/config.json holds no JSON object")
    return config


def _check_weights(model_path: Path) -> None:
    """Refuse a folder without safetensors; pickles run code when they are opened."""
    if any(model_path.glob("*.safetensors")):
        return
    pickles = sorted({found.name for name in _PICKLES for found in model_path.glob(name)})
    if pickles:
        raise ModelError(
            f"{model_path} has its weights as pickle files only ({', '.join(pickles[:_SHOWN])}); "
            "opening a pickle can run code, so only safetensors are read",
            remedy="convert it once, where you trust the file: "
            'python -c "from transformers import AutoModel; '
            f"AutoModel.from_pretrained('{model_path}').save_pretrained('{model_path}')\"",
        )
    raise ModelError(
        f"{model_path} has no weights (no .safetensors file)",
        remedy="download the model again, or name the folder that holds model.safetensors",
    )


def _config_for(auto_class: type[Any], model_path: Path, model: ModelSpec) -> PreTrainedConfig:
    """The config of a folder that ``auto_class`` can load; raises ``ModelError``."""
    from transformers import AutoConfig

    raw = _read_config(model_path)
    if model.trust_remote_code:
        raise ModelError(
            "code that comes with a model is not run",
            remedy="remove spec.model.trustRemoteCode and name a model that transformers knows",
        )
    _check_weights(model_path)
    try:
        with quiet():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                model_path, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        reason = f"{model_path}: {_first_line(error)}"
        if "auto_map" in raw:
            reason = (
                f"{model_path} needs code of its own (auto_map in config.json), which is not run"
            )
        raise ModelError(
            reason, remedy="name a model whose type this version of transformers knows"
        ) from error
    if type(config) not in auto_class._model_mapping:
        raise ModelError(
            f"a model of type {config.model_type!r} cannot be used for this task "
            f"(transformers has no {auto_class.__name__} of it)",
            remedy="name a model of another architecture in spec.model",
        )
    return config


def _same_head(given: PreTrainedConfig, head: Head) -> bool:
    """Whether the folder's head answers with these outputs, in this order, to this question."""
    config: Any = given
    if config.num_labels != head.outputs or not any(
        "Classification" in name for name in config.architectures or ()
    ):
        return False
    if config.problem_type is not None and config.problem_type != head.problem_type:
        return False
    if not head.labels:
        return bool(config.problem_type == head.problem_type)
    names = tuple(str(config.id2label.get(index)) for index in range(head.outputs))
    return names == head.labels


def _set_head(given: PreTrainedConfig, head: Head) -> None:
    config: Any = given
    config.num_labels = head.outputs
    if head.labels:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: index for index, label in enumerate(head.labels)}
    config.problem_type = head.problem_type


def _from_pretrained(
    auto_class: type[Any], model_path: Path, config: PreTrainedConfig
) -> tuple[nn.Module, dict[str, Any]]:
    try:
        loaded, info = auto_class.from_pretrained(
            model_path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            # Differences of shape are judged below: a head may differ, a body may not.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(
            f"the weights in {model_path} cannot be read: {_first_line(error)}",
            remedy="download the model again; a cut-off or changed file is the usual cause",
        ) from error
    return loaded, info


def _head_modules(model: nn.Module) -> list[str]:
    """The parts beside the body (transformers' base model) that have weights."""
    body = getattr(model, "base_model_prefix", "")
    return [
        name
        for name, part in model.named_children()
        if name != body and next(part.parameters(), None) is not None
    ]


def _fresh_modules(info: dict[str, Any], model_path: Path, heads: Sequence[str]) -> set[str]:
    """Names of the parts whose weights the folder lacks; raises when the body lacks some."""
    mismatched = [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    fresh: set[str] = set()
    wrong: list[str] = []
    for key in [*info["missing_keys"], *mismatched]:
        parts = key.split(".")
        if parts[0] in heads:
            fresh.add(parts[0])
        elif heads and "pooler" in parts and key not in mismatched:
            fresh.add("pooler")
        else:
            wrong.append(key)
    if wrong:
        shown = ", ".join(sorted(wrong)[:_SHOWN]) + (", …" if len(wrong) > _SHOWN else "")
        raise ModelError(
            f"{model_path}: {len(wrong)} weights of the model are missing or have another shape "
            f"than config.json says ({shown})",
            remedy="the weights belong to another architecture or task; name a model that was "
            "saved with them",
        )
    return fresh


@torch.no_grad()
def _draw(model: nn.Module, names: Sequence[str]) -> None:
    """Draw these parts anew, the way transformers initialises them."""
    initialise: Any = model._init_weights
    for name in names:
        # Inner parts first, as transformers does; its mark says "already has weights".
        for part in reversed(list(model.get_submodule(name).modules())):
            for marked in (part, *part.parameters(recurse=False), *part.buffers(recurse=False)):
                if hasattr(marked, "_is_hf_initialized"):
                    del marked._is_hf_initialized
            initialise(part)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

"""Greedy generation: prompts in, new tokens out, up to what ends an answer.

Decides which tokens end an answer, and that a model is saved with them. Imports torch,
transformers and numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tunefleet.tasks.batch import answering, device_of, length_mask, pad, padding_of
from tunefleet.tasks.chat import ChatTemplate
from tunefleet.tasks.models import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def plain(model: nn.Module) -> Any:
    """The transformers model inside an adapter."""
    inside = getattr(model, "get_base_model", None)
    return inside() if inside is not None else model


def positions(model: nn.Module) -> int | None:
    """How many tokens a model can read, prompt and answer together; None where it is open."""
    limit = getattr(plain(model).config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) else None


def generate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
) -> list[list[int]]:
    """The new tokens of each prompt, greedily; prompts are padded at the left."""
    from transformers import GenerationConfig

    settings_of: Any = GenerationConfig
    device, padding = device_of(model), padding_of(tokenizer)["input_ids"]
    lengths = np.array([len(prompt) for prompt in prompts], np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    flat = np.concatenate([np.array(prompt, np.int32) for prompt in prompts])
    tokens = pad(flat, offsets, padding, device, left=True)
    mask = torch.from_numpy(length_mask(lengths, left=True)).to(device, torch.int64)
    settings = settings_of(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=new_tokens,
        eos_token_id=sorted(stops(tokenizer, model)),
        pad_token_id=padding,
        use_cache=True,
    )
    generating: Any = model
    with answering(model), quiet():
        made = generating.generate(
            input_ids=tokens, attention_mask=mask, generation_config=settings
        )
    new: list[list[int]] = made[:, tokens.shape[1] :].tolist()
    return new


def stops(tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> set[int]:
    """Ids that end an answer: of the tokenizer, the model, and the template's end of turn."""
    own = getattr(getattr(plain(model), "generation_config", None), "eos_token_id", None)
    ends = set(own if isinstance(own, list) else [] if own is None else [own])
    ends.add(tokenizer.eos_token_id)
    if tokenizer.chat_template and (end := ChatTemplate(tokenizer).end_of_turn()):
        ends.add(tokenizer.convert_tokens_to_ids(end))
    return ends


def settle_generation(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write into the model what ends an answer, so that others who load it stop there too."""
    settings: Any = plain(model).generation_config
    settings.eos_token_id = sorted(stops(tokenizer, model))
    if settings.pad_token_id is None:
        settings.pad_token_id = padding_of(tokenizer)["input_ids"]
    try:
        settings.validate(strict=True)
    except ValueError:
        # Published models carry sampling values beside do_sample: false; such a pair cannot
        # be saved again, and values that are given are meant.
        settings.do_sample = True

"""Causal language modelling: chats, instructions, or plain text.

Decides how rows become texts, which tokens carry loss, and how answers are generated. A unit
is a row and weighs its supervised tokens, counted after the shift by one. Supervision is a
field of its own (``supervised``, 0 or 1), never a reserved id. Imports torch, transformers,
numpy and ``api``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tunefleet.api.errors import ModelError
from tunefleet.api.job import ModelSpec
from tunefleet.api.tasks.causal_lm import TASK, CausalLmOptions
from tunefleet.data.tokens import Encoded, Rows
from tunefleet.tasks import metrics
from tunefleet.tasks.batch import (
    answering,
    known_fields,
    length_mask,
    text_of,
    to_numpy,
)
from tunefleet.tasks.chat import ChatTemplate, Messages, Rendered, set_template
from tunefleet.tasks.contract import Batch, ModelKind, Scores, TaskContext
from tunefleet.tasks.encoding import opening_tokens, tokenize_spans
from tunefleet.tasks.generation import generate, plain, positions, settle_generation, stops
from tunefleet.tasks.losses import position_losses, summed_cross_entropy
from tunefleet.tasks.models import load_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

Ints = npt.NDArray[np.int32]

_TOLD_AT_ONCE = 10


class CausalLm:
    """The behaviour of ``causal-lm``."""

    def __init__(self, context: TaskContext) -> None:
        assert isinstance(context.options, CausalLmOptions)
        self.context = context
        self.options = context.options

    # -- rows → units -----------------------------------------------------------------
    def load_tokenizer(self, model_path: Path) -> PreTrainedTokenizerBase:
        """The tokenizer with the chat template of the job; its end token pads in need."""
        tokenizer = load_tokenizer(model_path)
        if tokenizer.eos_token is None:
            raise ModelError(
                f"the tokenizer in {model_path} has no end token, so an answer would never end",
                remedy="set eos_token in its tokenizer_config.json",
            )
        try:
            set_template(tokenizer, self.options.chat_template)
        except ValueError as error:
            where = "causalLm.chatTemplate" if self.options.chat_template else str(model_path)
            raise ModelError(f"{where}: the chat template has a mistake: {error}") from error
        if self.options.format == "chat" and not tokenizer.chat_template:
            raise ModelError(
                f"the model in {model_path} has no chat template",
                remedy="name an instruction-tuned model, or give causalLm.chatTemplate",
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """One unit per row; raises ``ValueError`` naming rows without anything to learn."""
        problems: list[str] = []
        texts = self._texts(rows, tokenizer)
        opening = np.array(self._opening(tokenizer), np.int32)
        limit = self.context.max_length
        units: list[tuple[Ints, Ints]] = []
        for pair in tokenize_spans(tokenizer, [(text.text, text.spans) for text in texts]):
            tokens, supervised = _opened(opening, *pair)
            if problem := _unusable(tokens, supervised, limit, tokenizer.bos_token_id):
                problems.append(f"{_place(rows, len(units))}: {problem}")
            units.append((tokens, supervised))
        if problems:
            raise ValueError(_told(problems))
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([min(len(tokens), limit) for tokens, _ in units], out=offsets[1:])
        empty = np.zeros(0, np.int32)
        return Encoded(
            ragged={
                "input_ids": np.concatenate([empty, *(tokens[:limit] for tokens, _ in units)]),
                "supervised": np.concatenate([empty, *(marks[:limit] for _, marks in units)]),
            },
            offsets=offsets,
            fixed={},
            ids=rows.ids,
            # The first token is never predicted, so it is not counted.
            weights=np.array([int(marks[1:limit].sum()) for _, marks in units], np.int64),
            truncated=sum(len(tokens) > limit for tokens, _ in units),
        )

    def _texts(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> list[Rendered]:
        eos = tokenizer.eos_token
        assert isinstance(eos, str)
        if self.options.format == "text":
            texts = (str(text) + eos for text in rows.columns["text"])
            return [Rendered(text, ((0, len(text)),)) for text in texts]
        if not tokenizer.chat_template:
            systems = rows.columns.get("system") or [""] * len(rows)
            cells = zip(systems, rows.columns["prompt"], rows.columns["completion"], strict=True)
            return [
                _joined(_plain_prompt(system, prompt), completion + eos)
                for system, prompt, completion in cells
            ]
        template = ChatTemplate(tokenizer)
        found, problems = [], []
        for row, chat in enumerate(self._chats(rows)):
            try:
                found.append(template.supervised(chat, self.options.supervise))
            except ValueError as error:
                problems.append(f"{_place(rows, row)}: {error}")
        if problems:
            raise ValueError(_told(problems))
        return found

    def _chats(self, rows: Rows) -> list[Messages]:
        if self.options.format == "chat":
            return list(rows.columns["messages"])
        systems = rows.columns.get("system") or [""] * len(rows)
        cells = zip(systems, rows.columns["prompt"], rows.columns["completion"], strict=True)
        return [
            [*_asked(system, prompt), {"role": "assistant", "content": completion}]
            for system, prompt, completion in cells
        ]

    def _opening(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Templates write BOS themselves, where they want one."""
        templated = self.options.format != "text" and tokenizer.chat_template
        return [] if templated else opening_tokens(tokenizer)

    # -- model ------------------------------------------------------------------------
    def model_kind(self) -> ModelKind:
        """A language model with its own head."""
        return ModelKind("AutoModelForCausalLM", None, "CAUSAL_LM")

    def load_model(self, model_path: Path, model: ModelSpec, seed: int) -> nn.Module:
        """The model in fp32; what it generates ends where its chat template ends a turn."""
        import transformers

        kind = self.model_kind()
        loaded = load_model(
            getattr(transformers, kind.auto_class),
            model_path,
            model,
            seed,
            head=None,
            lora_task=kind.adapter_task,
            lora_targets=TASK.lora_targets,
            unfit=_unfit,
        )
        settle_generation(loaded, self.load_tokenizer(model_path))
        return loaded

    # -- training ---------------------------------------------------------------------
    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Cross-entropy summed over the supervised tokens."""
        logits, targets, _ = _supervised(model, batch)
        return summed_cross_entropy(logits, targets)

    # -- evaluation -------------------------------------------------------------------
    def score(self, model: nn.Module, batch: Batch) -> Scores:
        """Summed loss, supervised tokens, and how many of them were ranked first."""
        with answering(model):
            logits, targets, units = _supervised(model, batch)
            losses, firsts = position_losses(logits, targets)
        count, of = len(batch["input_ids"]), to_numpy(units, np.int64).astype(np.int64)
        return {
            "loss": np.bincount(of, to_numpy(losses, np.float64), count).astype(np.float32),
            "tokens": np.bincount(of, minlength=count).astype(np.int32),
            "correct": np.bincount(of, to_numpy(firsts, np.float64), count).astype(np.int32),
        }

    def metrics(self, scores: Scores) -> dict[str, float]:
        """Loss per supervised token, perplexity, token accuracy."""
        return metrics.language_model(scores)

    # -- parity -----------------------------------------------------------------------
    def outputs(self, model: nn.Module, batch: Batch) -> Scores:
        """Log-probabilities of each unit's supervised tokens, in order, then 0."""
        with answering(model):
            logits, targets, units = _supervised(model, batch)
            losses, _ = position_losses(logits, targets)
        of = to_numpy(units, np.int64)
        counts = np.bincount(of.astype(np.int64), minlength=len(batch["input_ids"]))
        mask = length_mask(counts.astype(np.int64))
        found = np.zeros(mask.shape, np.float32)
        found[mask] = -to_numpy(losses).astype(np.float32)
        return {"log_probabilities": found}

    # -- answers ----------------------------------------------------------------------
    def predict(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Mapping[str, object]],
    ) -> list[dict[str, object]]:
        """``{text, finish}`` for each item, generated greedily; finish is stop or length."""
        if not items:
            return []
        prompts = self._prompts(tokenizer, items)
        limit = positions(model)
        for index, prompt in enumerate(prompts):
            if limit is not None and len(prompt) >= limit:
                field = {"chat": "messages", "instruction": "prompt", "text": "text"}
                raise ValueError(
                    f"item {index}: {field[self.options.format]} has {len(prompt)} tokens; "
                    f"this model reads {limit - 1} at most"
                )
        longest = max(map(len, prompts))
        room = self.options.max_new_tokens
        new = generate(model, tokenizer, prompts, min(room, limit - longest) if limit else room)
        ends = stops(tokenizer, model)
        answers: list[dict[str, object]] = []
        for tokens in new:
            end = next((place for place, token in enumerate(tokens) if token in ends), None)
            text = tokenizer.decode(tokens[:end], skip_special_tokens=True)
            answers.append({"text": text, "finish": "length" if end is None else "stop"})
        return answers

    def _prompts(
        self, tokenizer: PreTrainedTokenizerBase, items: Sequence[Mapping[str, object]]
    ) -> list[list[int]]:
        template = ChatTemplate(tokenizer) if tokenizer.chat_template else None
        opening = self._opening(tokenizer)
        prompts = []
        for index, item in enumerate(items):
            text = self._prompt(item, index, template)
            tokens: list[int] = tokenizer.encode(text, add_special_tokens=False)
            prompts.append(tokens if tokens[: len(opening)] == opening else opening + tokens)
            if not prompts[-1]:
                raise ValueError(f"item {index}: there is nothing to go on from")
        return prompts

    def _prompt(self, item: Mapping[str, object], index: int, template: ChatTemplate | None) -> str:
        if self.options.format == "text":
            known_fields(item, index, ("text",))
            return text_of(item, index, "text")
        if self.options.format == "chat":
            known_fields(item, index, ("messages",))
            messages, field = _messages_of(item, index), "messages"
        else:
            known_fields(item, index, ("prompt", "system"))
            prompt = text_of(item, index, "prompt")
            system = text_of(item, index, "system") if item.get("system") is not None else ""
            if template is None:
                return _plain_prompt(system, prompt)
            messages, field = _asked(system, prompt), "prompt"
        assert template is not None
        try:
            return template.prompt(messages)
        except ValueError as error:
            raise ValueError(f"item {index}: {field}: {error}") from error


def _supervised(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, targets and unit of every supervised position, in the order of the batch.

    Where the model can, logits are made only for the places at which some unit needs them.
    """
    wanted = batch["supervised"][:, 1:].bool()
    inputs: dict[str, Any] = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "use_cache": False,
    }
    if _keeps_logits(model):
        places = wanted.any(dim=0).nonzero().squeeze(1)
        logits = model(**inputs, logits_to_keep=places).logits[wanted[:, places]]
    else:
        logits = model(**inputs).logits[:, :-1][wanted]
    return logits, batch["input_ids"][:, 1:][wanted], wanted.nonzero()[:, 0]


def _keeps_logits(model: nn.Module) -> bool:
    return "logits_to_keep" in inspect.signature(type(plain(model)).forward).parameters


def _unfit(config: PreTrainedConfig) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    encoder = getattr(config, "is_decoder", None) is False
    if config.is_encoder_decoder or (
        encoder and config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    ):
        return f"a {config.model_type} model does not write from left to right"
    return ""


def _joined(prompt: str, completion: str) -> Rendered:
    text = prompt + completion
    return Rendered(text, ((len(prompt), len(text)),))


def _plain_prompt(system: str | None, prompt: str) -> str:
    """A prompt for a model without a chat template."""
    return f"{system}\n\n{prompt}" if system else prompt


def _asked(system: str | None, prompt: str) -> list[dict[str, object]]:
    asked: list[dict[str, object]] = [{"role": "user", "content": prompt}]
    return [{"role": "system", "content": system}, *asked] if system else asked


def _messages_of(item: Mapping[str, object], index: int) -> list[dict[str, object]]:
    messages = item.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"item {index}: messages is missing or no list of {{role, content}}")
    for place, turn in enumerate(messages):
        if not isinstance(turn, Mapping) or not all(
            isinstance(turn.get(key), str) for key in ("role", "content")
        ):
            raise ValueError(f"item {index}: messages[{place}] needs a role and a content (texts)")
    if messages[-1]["role"] == "assistant":
        raise ValueError(f"item {index}: messages ends with an answer; end with a question")
    return [dict(turn) for turn in messages]


def _opened(opening: Ints, tokens: Ints, supervised: Ints) -> tuple[Ints, Ints]:
    """A unit with what the tokenizer writes first, once."""
    if np.array_equal(tokens[: len(opening)], opening):
        return tokens, supervised
    before = np.zeros(len(opening), np.int32)
    return np.concatenate([opening, tokens]), np.concatenate([before, supervised])


def _unusable(tokens: Ints, supervised: Ints, limit: int, bos: int | None) -> str:
    """Why a unit teaches nothing, or something wrong ("" where it is sound)."""
    if bos is not None and tokens[:2].tolist() == [bos, bos]:
        return "it begins with two BOS tokens"
    learned = np.flatnonzero(supervised[1:]) + 1
    if not len(learned):
        return "nothing in it is learned: it has no answer"
    if learned[0] >= limit:
        return (
            f"its answer begins after {learned[0]} tokens, and maxLength is {limit}, so nothing "
            "of it would be learned"
        )
    return ""


def _place(rows: Rows, row: int) -> str:
    file, line = rows.place(row)
    if file:
        return f"{file}:{line}" if line else f"{file}, row {int(rows.ids[row])}"
    return f"row {int(rows.ids[row])}"


def _told(problems: Sequence[str]) -> str:
    more = len(problems) - _TOLD_AT_ONCE
    shown = list(problems[:_TOLD_AT_ONCE])
    return "\n".join([*shown, f"… and {more} more"] if more > 0 else shown)


BEHAVIOUR = CausalLm

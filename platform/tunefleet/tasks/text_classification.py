"""Text classification: one label, several labels, a pair of texts, or a number.

Decides how texts become units, which head and objective a problem has, and what its scores
are. A unit is a row and weighs 1. Imports torch, transformers, numpy and ``api``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from tunefleet.api.job import ModelSpec
from tunefleet.api.tasks.text_classification import TASK, TextClassificationOptions
from tunefleet.data.tokens import Encoded, Rows
from tunefleet.tasks import metrics
from tunefleet.tasks.batch import (
    answering,
    at_least_single,
    device_of,
    known_fields,
    length_mask,
    pad,
    padding_of,
    text_of,
    to_numpy,
)
from tunefleet.tasks.contract import Batch, ModelKind, Scores, TaskContext
from tunefleet.tasks.encoding import TextInput, tokenize
from tunefleet.tasks.models import Head, load_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_PROBLEM_TYPES = {
    "single-label": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}


class TextClassification:
    """The behaviour of ``text-classification``."""

    def __init__(self, context: TaskContext) -> None:
        assert isinstance(context.options, TextClassificationOptions)
        self.context = context
        self.options = context.options

    # -- rows → units -----------------------------------------------------------------
    def load_tokenizer(self, model_path: Path) -> PreTrainedTokenizerBase:
        """The tokenizer of the model's folder; its end token pads where it has no pad token."""
        tokenizer = load_tokenizer(model_path)
        if tokenizer.pad_token is None and tokenizer.eos_token is not None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """One unit of weight 1 per row; raises ``ValueError`` for a label out of range."""
        first = rows.columns["text"]
        second = rows.columns.get("textPair")
        texts = first if second is None else list(zip(first, second, strict=True))
        ragged, offsets, truncated = self._tokenize(texts, tokenizer)
        return Encoded(
            ragged=ragged,
            offsets=offsets,
            fixed=self._targets(rows),
            ids=rows.ids,
            weights=np.ones(len(rows), np.int64),
            truncated=truncated,
        )

    def _tokenize(
        self, texts: Sequence[TextInput], tokenizer: PreTrainedTokenizerBase
    ) -> tuple[dict[str, npt.NDArray[np.int32]], npt.NDArray[np.int64], int]:
        tokens = tokenize(
            tokenizer,
            texts,
            max_length=self.context.max_length,
            token_types="token_type_ids" in tokenizer.model_input_names,
        )
        ragged = {"input_ids": tokens.input_ids}
        if tokens.token_type_ids is not None:
            ragged["token_type_ids"] = tokens.token_type_ids
        return ragged, tokens.offsets, tokens.truncated

    def _targets(self, rows: Rows) -> dict[str, npt.NDArray[np.generic]]:
        cells = rows.columns["label"]
        if self.options.problem == "regression":
            return {"label": np.asarray(cells, np.float32)}
        known = len(self.context.labels)
        if self.options.problem == "single-label":
            labels = np.asarray(cells, np.int32)
            wrong = np.flatnonzero((labels < 0) | (labels >= known))
            if len(wrong):
                raise ValueError(_unknown_label(rows, int(wrong[0]), known))
            return {"label": labels}
        several = np.zeros((len(rows), known), np.uint8)
        for row, chosen in enumerate(cells):
            if any(not 0 <= label < known for label in chosen):
                raise ValueError(_unknown_label(rows, row, known))
            several[row, list(chosen)] = 1
        return {"labels": several}

    # -- model ------------------------------------------------------------------------
    def model_kind(self) -> ModelKind:
        """A classifier with an output per label, or one for a number."""
        outputs = max(len(self.context.labels), 1)
        return ModelKind("AutoModelForSequenceClassification", outputs, "SEQ_CLS")

    def load_model(self, model_path: Path, model: ModelSpec, seed: int) -> nn.Module:
        """The model in fp32 with a head of one output per label (or one for a number)."""
        labels = () if self.options.problem == "regression" else self.context.labels
        import transformers

        kind = self.model_kind()
        loaded = load_model(
            getattr(transformers, kind.auto_class),
            model_path,
            model,
            seed,
            head=Head(labels, _PROBLEM_TYPES[self.options.problem]),
            lora_task=kind.adapter_task,
            lora_targets=TASK.lora_targets,
            unfit=_unfit,
        )
        config: Any = loaded.config
        if config.pad_token_id is None:
            # Decoders look for the last position that is not padding, by this id.
            config.pad_token_id = padding_of(self.load_tokenizer(model_path))["input_ids"]
        config.use_cache = False
        return loaded

    # -- training ---------------------------------------------------------------------
    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The objective of each unit times its weight, summed."""
        losses = self._unit_losses(_logits(model, batch), batch, self.options.label_smoothing)
        return (losses * batch["weights"]).sum()

    def _unit_losses(
        self, logits: torch.Tensor, batch: Batch, smoothing: float = 0.0
    ) -> torch.Tensor:
        if self.options.problem == "regression":
            return (logits.squeeze(-1) - batch["label"].to(logits.dtype)) ** 2
        if self.options.problem == "multi-label":
            wanted = batch["labels"].to(logits.dtype)
            return functional.binary_cross_entropy_with_logits(
                logits, wanted, reduction="none"
            ).mean(dim=-1)
        return functional.cross_entropy(
            logits, batch["label"], reduction="none", label_smoothing=smoothing
        )

    # -- evaluation -------------------------------------------------------------------
    def score(self, model: nn.Module, batch: Batch) -> Scores:
        """Loss (without label smoothing), truth, answer and its probability per unit."""
        with answering(model):
            logits = _logits(model, batch)
            scores: Scores = {"loss": to_numpy(self._unit_losses(logits, batch))}
            if self.options.problem == "regression":
                scores["label"] = to_numpy(batch["label"])
                scores["predicted"] = to_numpy(logits.squeeze(-1))
            elif self.options.problem == "multi-label":
                scores["labels"] = to_numpy(batch["labels"], np.uint8)
                scores["probabilities"] = to_numpy(logits.sigmoid())
            else:
                probabilities = logits.softmax(dim=-1)
                confidence, predicted = probabilities.max(dim=-1)
                own = probabilities.gather(1, batch["label"].unsqueeze(1)).squeeze(1)
                scores["label"] = to_numpy(batch["label"], np.int32)
                scores["predicted"] = to_numpy(predicted, np.int32)
                scores["confidence"] = to_numpy(confidence)
                scores["label_probability"] = to_numpy(own)
        return scores

    def metrics(self, scores: Scores) -> dict[str, float]:
        """The declared metrics, over the full list of labels."""
        if self.options.problem == "regression":
            return metrics.regression(scores)
        if self.options.problem == "multi-label":
            return metrics.multi_label(scores, self.options.threshold)
        return metrics.single_label(scores, len(self.context.labels))

    # -- parity -----------------------------------------------------------------------
    def outputs(self, model: nn.Module, batch: Batch) -> Scores:
        """The head's outputs, [units, labels]."""
        with answering(model):
            return {"logits": to_numpy(_logits(model, batch))}

    # -- answers ----------------------------------------------------------------------
    def predict(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Mapping[str, object]],
    ) -> list[dict[str, object]]:
        """``{label, score, scores}``, ``{labels, scores}`` or ``{value}`` for each item."""
        if not items:
            return []
        texts = [_text(item, index) for index, item in enumerate(items)]
        ragged, offsets, _ = self._tokenize(texts, tokenizer)
        values, device = padding_of(tokenizer), device_of(model)
        batch = {name: pad(flat, offsets, values[name], device) for name, flat in ragged.items()}
        mask = torch.from_numpy(length_mask(np.diff(offsets))).to(device, torch.int64)
        with answering(model):
            logits = _logits(model, {**batch, "attention_mask": mask}).cpu()
        if self.options.problem == "regression":
            return [{"value": float(value)} for value in logits.squeeze(-1)]
        several = self.options.problem == "multi-label"
        probabilities = logits.sigmoid() if several else logits.softmax(dim=-1)
        return [self._answer(row.tolist()) for row in probabilities]

    def _answer(self, probabilities: list[float]) -> dict[str, object]:
        labels = self.context.labels
        scores = dict(zip(labels, probabilities, strict=True))
        if self.options.problem == "multi-label":
            chosen = [label for label in labels if scores[label] >= self.options.threshold]
            return {"labels": chosen, "scores": scores}
        best = max(range(len(labels)), key=probabilities.__getitem__)
        return {"label": labels[best], "score": probabilities[best], "scores": scores}


def _logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if "token_type_ids" in batch:
        inputs["token_type_ids"] = batch["token_type_ids"]
    logits: torch.Tensor = model(**inputs).logits
    return at_least_single(logits)


def _unfit(config: PreTrainedConfig) -> str:
    if config.model_type == "xlnet":
        return "XLNet answers at the last position, where shorter texts of a batch have padding"
    return ""


def _text(item: Mapping[str, object], index: int) -> TextInput:
    known_fields(item, index, ("text", "textPair"))
    text = text_of(item, index, "text")
    return (text, text_of(item, index, "textPair")) if "textPair" in item else text


def _unknown_label(rows: Rows, position: int, known: int) -> str:
    file, line = rows.place(position)
    place = f"{file}:{line}" if line else file
    return f"{place or f'row {int(rows.ids[position])}'}: the label is not one of the {known} known"


BEHAVIOUR = TextClassification

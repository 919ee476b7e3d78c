"""Tiny models in real folders, for tests: random weights, tokenizers trained on the spot.

``tiny_bert`` and ``tiny_llama`` write what a hub download looks like (config, safetensors,
fast tokenizer), small enough that a training step takes milliseconds. The same arguments
always write the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

SENTENCES: tuple[str, ...] = (
    "a wonderful film, warm and funny from the first scene to the last",
    "dull, slow and far too long; I wanted my evening back",
    "the actors are great but the story is a mess",
    "one of the best pictures of the year, see it twice",
    "terrible dialogue, terrible music, a waste of time",
    "charming and clever, with a heart of gold",
    "what is the capital of France? The capital of France is Paris.",
    "You are a helpful assistant. Please answer briefly and politely.",
    "two plus two is four, and three times three is nine",
    "hello there, how are you today? I am fine, thank you very much!",
)

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The ChatML template: each turn between <|im_start|> and <|im_end|>, no BOS."""

CHAT_TOKENS: tuple[str, ...] = (
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
)


def tiny_bert(
    folder: Path,
    *,
    labels: Sequence[str] | None = None,
    texts: Sequence[str] = SENTENCES,
    vocab_size: int = 400,
    hidden_size: int = 32,
    layers: int = 2,
    max_positions: int = 128,
    dropout: float = 0.1,
    seed: int = 0,
) -> Path:
    """A BERT with a WordPiece tokenizer; with ``labels`` it also has a trained head's shape."""
    tokenizer = bert_tokenizer(texts, vocab_size=vocab_size, max_positions=max_positions)
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=max_positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with _drawn_from(seed):
        if labels is None:
            BertModel(config).save_pretrained(folder)
        else:
            config.num_labels = len(labels)
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: index for index, label in enumerate(labels)}
            BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def tiny_llama(
    folder: Path,
    *,
    chat_template: str | None = CHATML,
    texts: Sequence[str] = SENTENCES,
    eos_token: str = "<|im_end|>",
    bos_token: str | None = "<s>",
    pad_token: str | None = None,
    vocab_size: int = 500,
    hidden_size: int = 32,
    layers: int = 2,
    max_positions: int = 256,
    seed: int = 0,
) -> Path:
    """A Llama with a byte-level BPE tokenizer; by default it speaks ChatML and has no pad token."""
    tokenizer = llama_tokenizer(
        texts,
        chat_template=chat_template,
        eos_token=eos_token,
        bos_token=bos_token,
        pad_token=pad_token,
        vocab_size=vocab_size,
        max_positions=max_positions,
    )
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=max_positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with _drawn_from(seed):
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """Random numbers from this seed alone, and no progress bar on standard error."""
    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        if shown:
            bars.enable_progress_bar()


def bert_tokenizer(
    texts: Sequence[str] = SENTENCES, *, vocab_size: int = 400, max_positions: int = 128
) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer with [CLS], [SEP] and token types."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    backend.decoder = decoders.WordPiece()
    fast: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = fast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_positions,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    return tokenizer


def llama_tokenizer(
    texts: Sequence[str] = SENTENCES,
    *,
    chat_template: str | None = CHATML,
    eos_token: str = "<|im_end|>",
    bos_token: str | None = "<s>",
    pad_token: str | None = None,
    vocab_size: int = 500,
    max_positions: int = 256,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that writes BOS before a text, as Llama's does."""
    special = list(dict.fromkeys(["<s>", "</s>", "<pad>", *CHAT_TOKENS, eos_token]))
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    if bos_token is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos_token} $A",
            pair=f"{bos_token} $A {bos_token} $B",
            special_tokens=[(bos_token, backend.token_to_id(bos_token))],
        )
    fast: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = fast(
        tokenizer_object=backend,
        bos_token=bos_token,
        eos_token=eos_token,
        pad_token=pad_token,
        model_max_length=max_positions,
    )
    tokenizer.chat_template = chat_template
    return tokenizer

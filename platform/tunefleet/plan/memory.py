"""How much memory a worker needs, part by part.

Parameters, gradients, moments and the checkpoint's copy are counted to the byte. What a
forward pass keeps for the backward pass follows Korthikanti et al. 2022 (arXiv 2205.05198),
equation 1, rewritten for any precision, feed-forward width and attention kernel; on the CPU it
agrees with what autograd saves for a BERT to within a percent (see its test). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunefleet.api.words import DeviceType, Precision
from tunefleet.plan.document import MemoryPart, Place
from tunefleet.plan.facts import ModelFacts

MIB = 1 << 20

# Resident memory of a worker before it holds a model, measured on Linux x86-64 with Python
# 3.11, torch 2.13 (CPU), transformers 5.23, peft 0.21, ray 2.60 and datasets 5.2.
FRAMEWORK_BYTES = 600 * MIB
# Context, kernels and library workspaces of a CUDA process; the caching allocator's own
# rounding is covered by the share of a device that a plan leaves free.
CUDA_CONTEXT_BYTES = 1024 * MIB
# What a plan may fill; the rest is the system's, or lost between blocks.
USABLE_SHARE = 0.9

# Feed-forward blocks of two matrices around one activation; every other family is taken as
# gated (SwiGLU, GeGLU), which keeps twice as much.
PLAIN_FEED_FORWARD = frozenset({
    "albert", "bert", "bloom", "camembert", "convbert", "deberta", "deberta-v2", "distilbert",
    "electra", "ernie", "gpt2", "gpt_neo", "gpt_neox", "gptj", "layoutlm", "mpnet", "mpt",
    "opt", "roberta", "xlm-roberta", "xlm-roberta-xl",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """What memory depends on. ``micro_batch`` in units, ``longest`` in tokens."""

    model: ModelFacts
    device: DeviceType
    precision: Precision
    optimizer: str
    momentum: bool
    checkpointing: bool
    vocabulary_logits: bool
    micro_batch: int
    longest: int


def gated(model: ModelFacts) -> bool:
    """Whether the feed-forward block multiplies two projections (SwiGLU, GeGLU)."""
    return model.model_type not in PLAIN_FEED_FORWARD


def element_bytes(precision: Precision) -> int:
    """Bytes of one number as it is computed."""
    return {Precision.FP32: 4, Precision.BF16: 2, Precision.FP64: 8}[precision]


def master_bytes(precision: Precision) -> int:
    """Bytes of one number as it is kept: weights, gradients and moments."""
    return 8 if precision is Precision.FP64 else 4


def moments_per_parameter(optimizer: str, momentum: bool) -> int:
    """Numbers the optimiser keeps beside each trained one."""
    return 2 if optimizer == "adamw" else int(momentum)


def checkpoint_bytes(shape: Shape) -> int:
    """Size of a checkpoint: trained weights and their moments."""
    each = 1 + moments_per_parameter(shape.optimizer, shape.momentum)
    return shape.model.trainable_parameters * master_bytes(shape.precision) * each


def layer_bytes(shape: Shape) -> int:
    """What one layer keeps per token for its backward pass.

    With element size e, dropout mask m, norm element r, hidden h, feed-forward i, heads a and
    length s: attention h(5e+m) [its input, Q, K, V, context, mask] · feed-forward
    h(e+m) + k·i·e [its input, mask; k = 2, or 4 when gated] · two norms 2hr · and, where
    attention is not fused, 3·a·s·e [softmax, mask, dropped softmax].
    """
    model, size = shape.model, element_bytes(shape.precision)
    mask = 1 if shape.device is DeviceType.CUDA else size
    norm = max(size, 4)
    hidden = model.hidden_size
    kept = hidden * (5 * size + mask) + hidden * (size + mask) + 2 * hidden * norm
    kept += (4 if gated(model) else 2) * model.intermediate_size * size
    if not fused_attention(shape):
        kept += 3 * model.attention_heads * shape.longest * size
    return kept


def fused_attention(shape: Shape) -> bool:
    """Whether attention keeps no matrix of length by length.

    CUDA has fused kernels with mask and dropout; the CPU's fused kernel has no dropout, which
    encoders of the BERT kind train with and gated decoders do not.
    """
    return shape.device is DeviceType.CUDA or gated(shape.model)


def activation_bytes(shape: Shape) -> int:
    """What is kept between forward and backward of one micro-batch."""
    tokens = shape.micro_batch * shape.longest
    size = element_bytes(shape.precision)
    ends = shape.model.hidden_size * (2 * max(size, 4) + size)
    if shape.checkpointing:
        kept = shape.model.layers * shape.model.hidden_size * max(size, 4) + layer_bytes(shape)
    else:
        kept = shape.model.layers * layer_bytes(shape)
    return tokens * (kept + ends)


def logits_bytes(shape: Shape) -> int:
    """Logits, their fp32 log-softmax and the gradients of both."""
    size = element_bytes(shape.precision)
    each = size + 3 * max(size, 4)
    units = shape.micro_batch * (shape.longest if shape.vocabulary_logits else 1)
    width = shape.model.vocab_size if shape.vocabulary_logits else shape.model.head_outputs or 1
    return units * width * each


def worker_memory(shape: Shape) -> list[MemoryPart]:
    """Every part of one worker's memory, the largest possible micro-batch assumed."""
    model, master = shape.model, master_bytes(shape.precision)
    moments = moments_per_parameter(shape.optimizer, shape.momentum)
    kind = {8: "fp64", 4: "fp32"}[master]
    parts = [
        MemoryPart(
            name="weights",
            bytes=model.parameters * master,
            basis=f"{model.parameters:,} parameters × {master} bytes ({kind} master weights)",
            exact=True,
        ),
        MemoryPart(
            name="gradients",
            bytes=model.trainable_parameters * master,
            basis=f"{model.trainable_parameters:,} trained × {master} bytes; they are views into "
            "the buckets that are reduced, so buckets take nothing more",
            exact=True,
        ),
        MemoryPart(
            name="moments",
            bytes=model.trainable_parameters * master * moments,
            basis=f"{model.trainable_parameters:,} trained × {master} bytes × {moments} "
            f"({shape.optimizer})",
            exact=True,
        ),
    ]
    return parts + _estimated(shape) + _host(shape)


def _estimated(shape: Shape) -> list[MemoryPart]:
    model, tokens = shape.model, shape.micro_batch * shape.longest
    kept = "layer inputs only, one layer recomputed" if shape.checkpointing else "every layer"
    attention = "fused attention" if fused_attention(shape) else "attention matrices kept"
    parts = [
        MemoryPart(
            name="activations",
            bytes=activation_bytes(shape),
            basis=f"{shape.micro_batch} units × {shape.longest} tokens × {model.layers} layers, "
            f"{kept}, {attention}; Korthikanti et al. 2022, eq. 1, at {shape.precision}",
        ),
        MemoryPart(
            name="logits",
            bytes=logits_bytes(shape),
            basis="logits, fp32 log-softmax and gradients"
            + (" over the whole vocabulary" if shape.vocabulary_logits else ""),
        ),
        MemoryPart(
            name="backward",
            bytes=tokens * layer_bytes(shape),
            basis="gradients of one layer's activations while they are needed",
        ),
    ]
    if shape.precision is Precision.BF16:
        cast = max(model.trainable_parameters, model.largest_parameter)
        parts.append(
            MemoryPart(
                name="bf16 copies",
                bytes=cast * 2,
                basis="autocast keeps a bf16 copy of every trained matrix during a micro-batch",
            )
        )
    return parts


def _host(shape: Shape) -> list[MemoryPart]:
    saved = checkpoint_bytes(shape)
    place: Place = "host" if shape.device is DeviceType.CUDA else "device"
    parts = [
        MemoryPart(
            name="checkpoint copy",
            bytes=2 * saved,
            basis="trained weights and moments are copied, then written as one file each in the "
            "background (2 × the checkpoint); on the worker that saves",
            place=place,
        ),
        MemoryPart(
            name="framework",
            bytes=FRAMEWORK_BYTES,
            basis="Python, torch, transformers and Ray before a model is loaded; measured on "
            "Linux with torch 2.13 and ray 2.60",
            place=place,
        ),
    ]
    if shape.device is DeviceType.CUDA:
        parts.append(
            MemoryPart(
                name="CUDA context",
                bytes=CUDA_CONTEXT_BYTES,
                basis="assumed: context, kernels and library workspaces of one process",
            )
        )
    return parts


def total(parts: list[MemoryPart], place: Place = "device") -> int:
    """Bytes of all parts that lie in ``place``."""
    return sum(part.bytes for part in parts if part.place == place)

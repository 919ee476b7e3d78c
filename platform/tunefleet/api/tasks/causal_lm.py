"""Causal language modelling: chats, instructions, or plain text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from tunefleet.api.base import Check, Rule
from tunefleet.api.tasks.declaration import Column, Metric, TaskDeclaration, TaskOptions

_TURNS = Check(
    "self.supervise == 'all-turns' || self.format == 'chat'",
    "has no effect with format: {format}",
    ("supervise",),
    "remove supervise, or set format: chat",
    (("supervise",), ("format",)),
    {"format": "self.format"},
)
_TEMPLATE = Check(
    "!has(self.chatTemplate) || self.format != 'text'",
    "has no effect with format: text, which is trained as it stands",
    ("chatTemplate",),
    "remove chatTemplate, or set format: chat or instruction",
    (("chatTemplate",), ("format",)),
)


class CausalLmOptions(TaskOptions):
    """Options under ``causalLm``.

    ``format`` says how a row is written: ``chat`` (a ``messages`` column of
    ``{role, content}``), ``instruction`` (a ``prompt`` and a ``completion`` column, put
    into the chat template where there is one) or ``text`` (plain text, every token
    supervised). ``supervise`` says which tokens carry loss in a chat: those of the last
    assistant turn or of all of them. ``chatTemplate`` replaces the model's own template.
    """

    checks = (_TURNS, _TEMPLATE)
    format: Literal["chat", "instruction", "text"] = "instruction"
    supervise: Literal["last-turn", "all-turns"] = "all-turns"
    chat_template: Annotated[str, Field(min_length=1, max_length=65_536)] | None = None
    max_new_tokens: Annotated[int, Field(gt=0, le=8192)] = 128

    def _broken_rules(self) -> Iterator[Rule]:
        if self.supervise != "all-turns" and self.format != "chat":
            yield _TURNS.broken(format=self.format)
        if self.chat_template is not None and self.format == "text":
            yield _TEMPLATE.broken()


def _options(options: TaskOptions) -> CausalLmOptions:
    assert isinstance(options, CausalLmOptions)
    return options


def _columns(options: TaskOptions) -> tuple[Column, ...]:
    shape = _options(options).format
    if shape == "chat":
        return (Column("messages", "messages", help="a list of {role, content}"),)
    if shape == "instruction":
        return (
            Column("prompt", "text", help="what the user asks"),
            Column("completion", "text", help="what the model should answer"),
            Column("system", "text", required=False, help="a system message"),
        )
    return (Column("text", "text", help="plain text"),)


def _metrics(options: TaskOptions) -> tuple[Metric, ...]:
    return (
        Metric("loss", higher=False, help="mean cross-entropy per supervised token, nats"),
        Metric("perplexity", higher=False, help="exp(loss)"),
        Metric("token_accuracy", higher=True, help="share of supervised tokens ranked first"),
    )


TASK = TaskDeclaration(
    name="causal-lm",
    summary="teach a language model to answer, chat, or go on with a text",
    options=CausalLmOptions,
    columns=_columns,
    metrics=_metrics,
    primary_metric=lambda options: "loss",
    labelled=lambda options: False,
    weight_unit="tokens",
    example_model="HuggingFaceTB/SmolLM2-135M-Instruct",
)

"""Chats as text, and which part of the text a model should learn to write.

Decides supervision by **prefix rendering**: what a template writes for the turns up to an
answer, with its generation prompt, is what the model is given; what follows, up to and with
the end of turn, is what it must learn. That works for every template; where a template
marks its answers with ``{% generation %}`` the two are compared. Imports transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, object]]

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text and the parts of it that are supervised, as (start, end) in characters."""

    text: str
    spans: tuple[tuple[int, int], ...]


class ChatTemplate:
    """A chat template with the special tokens it is filled with.

    Errors are ``ValueError`` and say what is wrong with a chat or its template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        source = tokenizer.get_chat_template()
        self._compiled = _compile(source)
        self._marked = bool(_MARKED.search(source))
        self._names: dict[str, Any] = dict(tokenizer.special_tokens_map)
        self._eos: str = tokenizer.eos_token or ""
        self._special = special_tokens(tokenizer)

    def prompt(self, messages: Messages) -> str:
        """What the model is given to answer to."""
        text, _ = self._render(messages, generation_prompt=True)
        self._check_system(messages, text)
        return text

    def end_of_turn(self) -> str:
        """The special token that ends an answer ("" where the template writes none)."""
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        try:
            text = self._render(chat)[0].rstrip()
        except ValueError:
            return ""
        return max((t for t in self._special if text.endswith(t)), key=len, default="")

    def supervised(self, messages: Messages, turns: Literal["last-turn", "all-turns"]) -> Rendered:
        """The chat up to its last answer, and the answers in it that carry loss.

        An answer that opens the chat, before anybody asked, is read but never learned.
        """
        answers = [i for i, turn in enumerate(messages) if turn.get("role") == "assistant" and i]
        if not answers:
            raise ValueError("it has no assistant turn to learn from")
        messages = messages[: answers[-1] + 1]
        text, marks = self._render(messages, marked=self._marked)
        self._check_system(messages, text)
        chosen = answers if turns == "all-turns" else answers[-1:]
        whole = [self._span(messages, turn, text) for turn in chosen]
        spans = [self._without_tail(text, start, end) for start, end in whole]
        if self._marked:
            self._compare(text, whole, spans, marks)
        start, end = spans[-1]
        text = text[:end]
        if not text.endswith(self._special):
            # Without an end the model would learn never to stop.
            text, spans[-1] = text + self._eos, (start, end + len(self._eos))
        return Rendered(text, tuple(spans))

    def _span(self, messages: Messages, turn: int, text: str) -> tuple[int, int]:
        given, _ = self._render(messages[:turn], generation_prompt=True)
        if not text.startswith(given):
            raise ValueError(
                f"the chat template opens answer {turn} in another way when it asks for it than "
                "when it repeats it, so training would not match use; give causalLm.chatTemplate"
            )
        if turn == len(messages) - 1:
            return len(given), len(text)
        until, _ = self._render(messages[: turn + 1])
        if not text.startswith(until):
            raise ValueError(
                f"the chat template writes turn {turn} differently once later turns follow, so "
                "only the last can be learned; set causalLm.supervise: last-turn"
            )
        return len(given), len(until)

    def _without_tail(self, text: str, start: int, end: int) -> tuple[int, int]:
        """Without the white space that a template writes after the end of turn."""
        answer = text[start:end].rstrip()
        return (start, start + len(answer)) if answer.endswith(self._special) else (start, end)

    def _compare(
        self,
        text: str,
        whole: Sequence[tuple[int, int]],
        spans: Sequence[tuple[int, int]],
        marks: Sequence[tuple[int, int]],
    ) -> None:
        """Refuse a chat whose marks say something else than prefix rendering."""
        inside = [mark for mark in marks if mark[0] >= whole[0][0]]
        agree = all(any(a <= start and end <= b for a, b in whole) for start, end in inside)
        rest = ""
        for start, end in spans:
            place = start
            for a, b in inside:
                if start <= a < end:
                    rest += text[place:a]
                    place = min(b, end)
            rest += text[place:end]
        for token in sorted(self._special, key=len, reverse=True):
            rest = rest.replace(token, "")
        if not agree or rest.strip():
            raise ValueError(
                "the chat template's {% generation %} marks are not where its answers are; "
                "mend the template or give causalLm.chatTemplate"
            )

    def _check_system(self, messages: Messages, text: str) -> None:
        for turn in messages:
            content = turn.get("content")
            if (
                turn.get("role") == "system"
                and isinstance(content, str)
                and content.strip() not in text
            ):
                raise ValueError(
                    "the chat template leaves the system message out; put it into the first user "
                    "message or give causalLm.chatTemplate"
                )

    def _render(
        self, messages: Messages, *, generation_prompt: bool = False, marked: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        from jinja2 import TemplateError
        from transformers.utils import chat_template_utils

        render_marked: Any = chat_template_utils._render_with_assistant_indices
        names: dict[str, Any] = {
            **self._names,
            "messages": [dict(turn) for turn in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": generation_prompt,
            "strftime_now": _fixed_day,
        }
        try:
            if marked:
                text, marks = render_marked(compiled_template=self._compiled, **names)
                return text, marks
            return self._compiled.render(**names), []
        except (TemplateError, TypeError) as error:
            raise ValueError(f"the chat template refuses it: {error}") from error


def _fixed_day(form: str) -> str:
    """What templates get for today: units must not depend on the day they are made."""
    return datetime(2024, 7, 26).strftime(form)


def _compile(source: str) -> Any:
    from transformers.utils import chat_template_utils

    compiling: Any = chat_template_utils._compile_jinja_template
    return compiling(source)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The texts that a tokenizer reads as one special token each."""
    added = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    return tuple(dict.fromkeys([*map(str, tokenizer.all_special_tokens), *added]))


def set_template(tokenizer: PreTrainedTokenizerBase, source: str | None) -> None:
    """Give a tokenizer another chat template; raises ``ValueError`` when it is no template."""
    from jinja2 import TemplateError

    if source is not None:
        tokenizer.chat_template = source
    if not tokenizer.chat_template:
        return
    try:
        _compile(tokenizer.get_chat_template())
    except TemplateError as error:
        raise ValueError(str(error)) from error

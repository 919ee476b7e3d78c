"""Which part of a chat is learned, template by template."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from tests.tiny_models import CHATML, llama_tokenizer
from tunefleet.tasks.chat import ChatTemplate, set_template

LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
SILENT_ABOUT_SYSTEM = (
    "{% for message in messages if message['role'] != 'system' %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GENERATION = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GENERATION_WITHOUT_END = GENERATION.replace(
    "message['content'] + '<|im_end|>' }}{% endgeneration %}",
    "message['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
)
MARKS_THE_END_ALONE = GENERATION.replace(
    "{% generation %}{{ message['content'] + '<|im_end|>' }}",
    "{{ message['content'] }}{% generation %}{{ '<|im_end|>' }}",
)
WITHOUT_END = (
    "{% for message in messages %}"
    "{{ message['role'] | upper + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}"
)
FORGETS_THOUGHTS = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if loop.last or message['role'] == 'user' %}{{ message['content'] }}"
    "{% else %}{{ message['content'].split('</think>') | last }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OPENS_A_THOUGHT = CHATML.replace("assistant\n' }}{% endif %}", "assistant\n<think>' }}{% endif %}")
DATED = "{{ strftime_now('%d %b %Y') }}\n" + CHATML

Turns = Literal["last-turn", "all-turns"]
CHAT = [
    {"role": "user", "content": "how are you?"},
    {"role": "assistant", "content": "fine"},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "it is 4"},
]
SYSTEM = {"role": "system", "content": "be brief"}


def _template(source: str, eos: str = "<|im_end|>") -> ChatTemplate:
    tokenizer = llama_tokenizer(eos_token=eos)
    set_template(tokenizer, source)
    return ChatTemplate(tokenizer)


def _learned(template: ChatTemplate, messages: Any, turns: Turns = "all-turns") -> list[str]:
    rendered = template.supervised(messages, turns)
    return [rendered.text[start:end] for start, end in rendered.spans]


TEMPLATES = [
    pytest.param(CHATML, "<|im_end|>", ["fine<|im_end|>", "it is 4<|im_end|>"], id="ChatML"),
    pytest.param(LLAMA3, "</s>", ["fine<|eot_id|>", "it is 4<|eot_id|>"], id="Llama 3"),
    pytest.param(MISTRAL, "</s>", [" fine</s>", " it is 4</s>"], id="Mistral"),
    pytest.param(
        GENERATION, "<|im_end|>", ["fine<|im_end|>", "it is 4<|im_end|>"], id="generation marks"
    ),
    pytest.param(
        GENERATION_WITHOUT_END,
        "<|im_end|>",
        ["fine<|im_end|>", "it is 4<|im_end|>"],
        id="generation marks that leave the end of turn out",
    ),
    pytest.param(
        WITHOUT_END, "</s>", ["fine\n", "it is 4\n</s>"], id="no end of turn, so EOS is added"
    ),
]


@pytest.mark.parametrize(("source", "eos", "expected"), TEMPLATES)
def test_answers_with_their_end_of_turn_are_learned(
    source: str, eos: str, expected: list[str]
) -> None:
    template = _template(source, eos)
    assert _learned(template, CHAT) == expected
    assert _learned(template, CHAT, "last-turn") == expected[-1:]


@pytest.mark.parametrize(("source", "eos", "expected"), TEMPLATES)
def test_what_precedes_the_last_answer_is_the_prompt_that_is_given(
    source: str, eos: str, expected: list[str]
) -> None:
    template = _template(source, eos)
    rendered = template.supervised(CHAT, "last-turn")
    assert rendered.text[: rendered.spans[0][0]] == template.prompt(CHAT[:-1])


@pytest.mark.parametrize("source", [CHATML, LLAMA3, GENERATION, WITHOUT_END])
def test_a_system_message_is_read_and_not_learned(source: str) -> None:
    template = _template(source)
    with_system = template.supervised([SYSTEM, *CHAT], "all-turns")
    assert "be brief" in with_system.text
    assert _learned(template, [SYSTEM, *CHAT]) == _learned(template, CHAT)


def test_turns_after_the_last_answer_are_left_out() -> None:
    template = _template(CHATML)
    longer = [*CHAT, {"role": "user", "content": "thanks"}]
    assert template.supervised(longer, "all-turns") == template.supervised(CHAT, "all-turns")


def test_an_answer_that_opens_the_chat_is_read_and_not_learned() -> None:
    greeting = {"role": "assistant", "content": "welcome"}
    template = _template(GENERATION)
    assert "welcome" in template.supervised([greeting, *CHAT], "all-turns").text
    assert _learned(template, [greeting, *CHAT]) == _learned(template, CHAT)


def test_thoughts_that_a_template_forgets_can_be_learned_in_the_last_turn() -> None:
    chat = [
        *CHAT[:1],
        {"role": "assistant", "content": "<think>hm</think>fine"},
        *CHAT[2:3],
        {"role": "assistant", "content": "<think>sum</think>4"},
    ]
    template = _template(FORGETS_THOUGHTS)
    assert _learned(template, chat, "last-turn") == ["<think>sum</think>4<|im_end|>"]
    with pytest.raises(ValueError, match=r"turn 1 differently.*supervise: last-turn"):
        template.supervised(chat, "all-turns")


def test_the_day_has_no_effect() -> None:
    assert _template(DATED).prompt(CHAT[:1]).startswith("26 Jul 2024\n")


@pytest.mark.parametrize(
    ("source", "messages", "message"),
    [
        (CHATML, CHAT[:1], "no assistant turn"),
        (CHATML, CHAT[1:2], "no assistant turn"),
        (MISTRAL, [SYSTEM, *CHAT], "refuses it: Only user and assistant roles"),
        (SILENT_ABOUT_SYSTEM, [SYSTEM, *CHAT], "leaves the system message out"),
        (OPENS_A_THOUGHT, CHAT, "opens answer 1 in another way"),
        (GENERATION.replace("== 'assistant'", "== 'user'"), CHAT, "generation"),
        (
            MARKS_THE_END_ALONE,
            CHAT,
            "generation",
        ),
        (CHATML, [{"role": "user"}, CHAT[1]], "refuses it"),
    ],
    ids=[
        "nobody answers",
        "only an opening answer",
        "a template that raises",
        "a template that drops the system message",
        "a generation prompt that is not repeated",
        "marks around the question",
        "marks around the end of turn alone",
        "a turn without content",
    ],
)
def test_a_chat_that_cannot_be_learned_from_is_refused(
    source: str, messages: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _template(source).supervised(messages, "all-turns")


@pytest.mark.parametrize(
    ("source", "eos", "end"),
    [
        (CHATML, "</s>", "<|im_end|>"),
        (LLAMA3, "</s>", "<|eot_id|>"),
        (MISTRAL, "</s>", "</s>"),
        (WITHOUT_END, "</s>", ""),
    ],
    ids=["ChatML", "Llama 3", "Mistral", "none"],
)
def test_the_end_of_turn_is_found(source: str, eos: str, end: str) -> None:
    assert _template(source, eos).end_of_turn() == end


def test_a_broken_template_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected an expression"):
        set_template(llama_tokenizer(), "{% for message in %}")

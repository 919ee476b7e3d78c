from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from transformers import ByT5Tokenizer

from tests.tiny_models import SENTENCES, bert_tokenizer, llama_tokenizer
from tunefleet.tasks import encoding
from tunefleet.tasks.encoding import TextInput, opening_tokens, tokenize, tokenize_spans

PAIRS: list[TextInput] = list(zip(SENTENCES, reversed(SENTENCES), strict=True))


def _units(flat: Any, offsets: Any) -> list[list[int]]:
    return [flat[a:b].tolist() for a, b in pairwise(offsets)]


@pytest.mark.parametrize("max_length", [6, 12, None])
@pytest.mark.parametrize("texts", [list(SENTENCES), PAIRS], ids=["texts", "pairs of texts"])
def test_ids_and_types_are_those_of_the_tokenizer_itself(
    texts: list[TextInput], max_length: int | None
) -> None:
    tokenizer = bert_tokenizer()
    got = tokenize(tokenizer, texts, max_length=max_length, token_types=True)
    settings: dict[str, Any] = {"truncation": True, "max_length": max_length} if max_length else {}
    firsts: list[Any] = [text if isinstance(text, str) else text[0] for text in texts]
    seconds: Any = None if isinstance(texts[0], str) else [text[1] for text in texts]
    expected = tokenizer(firsts, seconds, **settings)
    assert _units(got.input_ids, got.offsets) == expected["input_ids"]
    assert got.token_type_ids is not None
    assert _units(got.token_type_ids, got.offsets) == expected["token_type_ids"]
    full = tokenizer(firsts, seconds)["input_ids"]
    assert got.truncated == sum(len(ids) > (max_length or 10**9) for ids in full)
    assert (got.input_ids.dtype.str[1:], got.offsets.dtype.str[1:]) == ("i4", "i8")


def test_a_text_that_just_fits_is_not_counted_as_cut() -> None:
    tokenizer = bert_tokenizer()
    length = len(tokenizer(SENTENCES[0])["input_ids"])
    assert tokenize(tokenizer, [SENTENCES[0]], max_length=length).truncated == 0
    assert tokenize(tokenizer, [SENTENCES[0]], max_length=length - 1).truncated == 1


def test_no_texts_give_no_units() -> None:
    got = tokenize(bert_tokenizer(), [], max_length=8, token_types=True)
    assert (len(got.input_ids), got.offsets.tolist(), got.truncated) == (0, [0], 0)


def test_the_tokenizers_own_truncation_and_padding_have_no_effect_and_are_put_back() -> None:
    tokenizer = bert_tokenizer()
    plain = tokenize(tokenizer, SENTENCES, max_length=10)
    backend: Any = tokenizer.backend_tokenizer
    backend.enable_truncation(3)
    backend.enable_padding(length=50)
    backend.encode_special_tokens = True
    before = (backend.truncation, backend.padding, backend.encode_special_tokens)
    again = tokenize(tokenizer, SENTENCES, max_length=10)
    assert (again.input_ids == plain.input_ids).all()
    assert (again.offsets == plain.offsets).all()
    assert (backend.truncation, backend.padding, backend.encode_special_tokens) == before


def test_a_tokenizer_written_in_python_gives_the_same_shape() -> None:
    tokenizer: Any = ByT5Tokenizer()
    assert not tokenizer.is_fast
    got = tokenize(tokenizer, ["abc", "abcdefgh"], max_length=5, token_types=True)
    assert np.diff(got.offsets).tolist() == [4, 5]
    assert got.truncated == 1
    assert _units(got.input_ids, got.offsets)[0] == tokenizer("abc")["input_ids"]
    (ids, marks), *_ = tokenize_spans(tokenizer, [("abcd", [(2, 4)])])
    assert marks.tolist() == [0, 0, 1, 1]
    assert tokenizer.decode(ids[marks == 1]) == "cd"


def _span_of(text: str, part: str) -> tuple[int, int]:
    start = text.index(part)
    return start, start + len(part)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a wonderful film<|im_end|>", "film<|im_end|>"),
        ("a wonderful film<|im_end|>", "a wonderful film<|im_end|>"),
        ("wonderful", "ful"),
        ("wonderful", "wonder"),
        ("the heart of gold", " of "),
        ("grinning 😀😀 face", "😀 face"),
        ("grinning 😀😀", "😀😀"),
    ],
    ids=[
        "at the edge of a token",
        "all of it",
        "in the middle of a token, to its end",
        "from the start to the middle of a token",
        "between tokens",
        "between characters of many tokens",
        "characters of many tokens at the end",
    ],
)
def test_marked_tokens_decode_to_exactly_the_span(text: str, part: str) -> None:
    tokenizer = llama_tokenizer()
    ((ids, marks),) = tokenize_spans(tokenizer, [(text, [_span_of(text, part)])])
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids[marks == 1]) == part


def test_a_text_is_read_in_one_go_where_no_token_reaches_over_an_edge() -> None:
    tokenizer = llama_tokenizer()
    text = "a wonderful film"
    ((ids, _),) = tokenize_spans(tokenizer, [(text, [_span_of(text, " film")])])
    assert ids.tolist() == tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    ("tokenizer", "opening"),
    [
        (llama_tokenizer(), ["<s>"]),
        (llama_tokenizer(bos_token=None), []),
        (bert_tokenizer(), ["[CLS]"]),
    ],
    ids=["one that writes BOS", "one that writes nothing", "one that writes [CLS]"],
)
def test_the_opening_is_what_the_tokenizer_writes_before_a_text(
    tokenizer: Any, opening: list[str]
) -> None:
    assert tokenizer.convert_ids_to_tokens(opening_tokens(tokenizer)) == opening


def test_texts_are_handed_over_by_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast that is, is measured beside the tokenizer itself (``benchmarks/tokenising.py``)."""
    handed: list[int] = []
    fast = encoding._fast

    def counted(tokenizer: Any, part: Any, *rest: Any) -> Any:
        handed.append(len(part))
        return fast(tokenizer, part, *rest)

    monkeypatch.setattr(encoding, "_fast", counted)
    tokenize(bert_tokenizer(), ["dull"] * (2 * encoding.BATCH + 1), max_length=8)
    assert sorted(handed) == [1, encoding.BATCH, encoding.BATCH]

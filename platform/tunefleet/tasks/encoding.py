"""Texts to token ids, fast and without side effects.

Decides how tokenizers are called: in batches, on the backend of a fast tokenizer, with
truncation and padding set explicitly and put back afterwards, because a tokenizer carries
both as mutable state. Python-only tokenizers work too, slower. Imports transformers (types
only), numpy and ``data``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TextInput = str | tuple[str, str]

BATCH = 1024


@dataclass(frozen=True, slots=True)
class Tokens:
    """Flat token ids (and token types, where asked for) with the offsets of each text."""

    input_ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    token_type_ids: npt.NDArray[np.int32] | None
    truncated: int


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[TextInput],
    *,
    max_length: int | None = None,
    special_tokens: bool = True,
    token_types: bool = False,
) -> Tokens:
    """Tokenise texts (or pairs of texts), each cut to ``max_length`` tokens, none padded."""
    ids: list[npt.NDArray[np.int32]] = []
    types: list[npt.NDArray[np.int32]] = []
    lengths: list[int] = []
    truncated = 0
    encode = _fast if tokenizer.is_fast else _slow
    with _plain(tokenizer, max_length):
        for batch in _ahead(
            lambda part: encode(tokenizer, part, max_length, special_tokens), texts
        ):
            flat = [encoding.ids for encoding in batch]
            lengths += map(len, flat)
            total = sum(map(len, flat))
            ids.append(np.fromiter(chain.from_iterable(flat), np.int32, total))
            if token_types:
                kinds = chain.from_iterable(encoding.type_ids for encoding in batch)
                types.append(np.fromiter(kinds, np.int32, total))
            truncated += sum(
                1
                for encoding, tokens in zip(batch, flat, strict=True)
                if len(tokens) == max_length and encoding.overflowing
            )
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Tokens(
        input_ids=np.concatenate(ids) if ids else np.zeros(0, np.int32),
        offsets=offsets,
        token_type_ids=(np.concatenate(types) if types else np.zeros(0, np.int32))
        if token_types
        else None,
        truncated=truncated,
    )


def _ahead(
    encode: Callable[[Sequence[TextInput]], list[Any]], texts: Sequence[TextInput]
) -> Iterator[list[Any]]:
    """Batches of encodings in order; the next one is made while the last one is read.

    A fast tokenizer works without Python's lock, so reading its results costs no time of its
    own as long as there is another batch.
    """
    parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    if len(parts) < 2:
        yield from map(encode, parts)
        return
    with ThreadPoolExecutor(1) as worker:
        pending = worker.submit(encode, parts[0])
        for part in parts[1:]:
            done = pending.result()
            pending = worker.submit(encode, part)
            yield done
        yield pending.result()


@contextmanager
def _plain(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> Iterator[None]:
    """No padding, this truncation, special tokens read as such; all put back at the end."""
    if not tokenizer.is_fast:
        yield
        return
    backend: Any = tokenizer.backend_tokenizer
    truncation, padding = backend.truncation, backend.padding
    split = backend.encode_special_tokens
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    if max_length is None:
        backend.no_truncation()
    else:
        backend.enable_truncation(
            max_length, strategy="longest_first", direction=tokenizer.truncation_side
        )
    try:
        yield
    finally:
        backend.encode_special_tokens = split
        if truncation is None:
            backend.no_truncation()
        else:
            backend.enable_truncation(**truncation)
        if padding is not None:
            backend.enable_padding(**padding)


def _fast(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[TextInput],
    max_length: int | None,
    special_tokens: bool,
) -> list[Any]:
    backend: Any = tokenizer.backend_tokenizer
    encodings: list[Any] = backend.encode_batch_fast(list(texts), add_special_tokens=special_tokens)
    return encodings


@dataclass(frozen=True, slots=True)
class _Encoding:
    """What a Python-only tokenizer gives, in the shape of a fast tokenizer's encoding."""

    ids: list[int]
    type_ids: list[int]
    overflowing: bool


def _slow(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[TextInput],
    max_length: int | None,
    special_tokens: bool,
) -> list[Any]:
    found = []
    for text in texts:
        first, second = text if isinstance(text, tuple) else (text, None)
        whole = tokenizer(first, second, add_special_tokens=special_tokens, verbose=False)
        encoded = whole
        over = max_length is not None and len(whole["input_ids"]) > max_length
        if over:
            encoded = tokenizer(
                first,
                second,
                add_special_tokens=special_tokens,
                truncation=True,
                max_length=max_length,
                verbose=False,
            )
        ids = encoded["input_ids"]
        found.append(_Encoding(ids, encoded.get("token_type_ids", [0] * len(ids)), over))
    return found


Span = tuple[int, int]


def tokenize_spans(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, Sequence[Span]]]
) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """Token ids of each text, and 1 for each token that lies in one of its spans (characters).

    No special tokens are added. A text is read in one go; where a token would reach over
    the edge of a span, the text is cut there and read in parts, because a model that is
    given the first part alone never sees such a token.
    """
    found = []
    with _plain(tokenizer, None):
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            if not tokenizer.is_fast:
                found += [_in_parts(tokenizer, text, spans) for text, spans in batch]
                continue
            backend: Any = tokenizer.backend_tokenizer
            encodings = backend.encode_batch([text for text, _ in batch], add_special_tokens=False)
            for (text, spans), encoding in zip(batch, encodings, strict=True):
                whole = _in_one(encoding, text, spans)
                found.append(whole or _in_parts(tokenizer, text, spans))
    return found


def _in_one(
    encoding: Any, text: str, spans: Sequence[Span]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None:
    """Ids and marks of a text read in one go; None when a token reaches over an edge."""
    ids = np.array(encoding.ids, np.int32)
    marks = np.zeros(len(ids), np.int32)
    for span in spans:
        edges = [_token_at(encoding, text, place, len(ids)) for place in span]
        for token, place in zip(edges, span, strict=True):
            if token and encoding.token_to_chars(token - 1)[1] > place:
                return None
            if token < len(ids) and encoding.token_to_chars(token)[0] < place:
                return None
        marks[edges[0] : edges[1]] = 1
    return ids, marks


def _token_at(encoding: Any, text: str, place: int, end: int) -> int:
    """The first token at or after a character (some characters belong to no token)."""
    for character in range(place, len(text)):
        token: int | None = encoding.char_to_token(character)
        if token is not None:
            return token
    return end


def _in_parts(
    tokenizer: PreTrainedTokenizerBase, text: str, spans: Sequence[Span]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    edges = [0, *chain.from_iterable(spans), len(text)]
    ids, marks = [], []
    for part, (start, end) in enumerate(pairwise(edges)):
        if start < end:
            tokens: list[int] = tokenizer.encode(text[start:end], add_special_tokens=False)
            ids.append(np.array(tokens, np.int32))
            marks.append(np.full(len(tokens), part % 2, np.int32))
    return np.concatenate(ids), np.concatenate(marks)


def opening_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What a tokenizer writes before every text (most often BOS, or nothing)."""
    with _plain(tokenizer, None):
        bare: list[int] = tokenizer.encode("a", add_special_tokens=False)
        whole: list[int] = tokenizer.encode("a", add_special_tokens=True)
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    return []

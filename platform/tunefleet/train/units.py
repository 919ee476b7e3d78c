"""What tokenisation shows: how long units may be, and which of them carry nothing.

Decides the maximum length when the job leaves it open, and what is noticed about units: token
numbers the model does not have, units that are cut off, units without a supervised token.
Imports numpy and ``data``.
"""

from __future__ import annotations

from tunefleet.api.errors import DataError, ModelError, Problem
from tunefleet.api.words import Severity
from tunefleet.data.check import MANY_TRUNCATED
from tunefleet.data.tokens import Rows, TokenStore
from tunefleet.plan.facts import Finding

LENGTH_CAP = 512
"""The longest unit when the job names no maxLength; attention's cost grows with its square."""


def check_units(
    name: str, store: TokenStore, rows: Rows, vocabulary: int, limit: int
) -> list[Finding]:
    """What is noticed about a split's units; raises where they cannot be trained on."""
    highest = int(store.ragged["input_ids"].max(initial=0))
    if highest >= vocabulary:
        raise ModelError(
            f"the tokenizer writes token {highest:,} and the model knows {vocabulary:,} tokens: "
            "they do not belong together",
            remedy="use the tokenizer that came with the model",
        )
    return [*_silent_units(name, store, rows), *_truncated_units(name, store, limit)]


def _silent_units(name: str, store: TokenStore, rows: Rows) -> list[Finding]:
    """Units without a supervised token: nothing is learnt from them."""
    silent = store.ids[store.weights == 0]
    if not len(silent):
        return []
    position = int((rows.ids == silent[0]).argmax())
    file, line = rows.place(position)
    remedy = "give every row an answer, or raise training.maxLength so that answers are not cut off"
    if len(silent) == len(store):
        raise DataError(
            f"no {name} row has a supervised token: there is nothing to learn from",
            problems=[Problem("for example this row", file=file, line=line, remedy=remedy)],
        )
    return [
        Finding(
            severity=Severity.WARNING,
            code="nothing supervised",
            message=f"{len(silent):,} of {len(store):,} {name} units have no supervised token",
            remedy=remedy,
            file=file,
            line=line,
            count=len(silent),
        )
    ]


def _truncated_units(name: str, store: TokenStore, limit: int) -> list[Finding]:
    if not store.truncated:
        return []
    share = store.truncated / len(store)
    return [
        Finding(
            severity=Severity.WARNING if share > MANY_TRUNCATED else Severity.INFO,
            code="truncated",
            message=f"{store.truncated:,} of {len(store):,} {name} units ({share:.1%}) are longer "
            f"than {limit} tokens and are cut off",
            remedy="raise training.maxLength, if the model allows it, or shorten the texts",
            count=store.truncated,
        )
    ]


def length_limit(given: int | None, positions: int | None, tokenizer_limit: int) -> tuple[int, str]:
    """The longest unit that is allowed, and why. Raises ``ModelError`` when given too long."""
    # Tokenizers without a limit of their own say 10**30.
    known = [limit for limit in (positions, tokenizer_limit) if limit and limit < 10**9]
    model_limit = min(known, default=None)
    if given is not None:
        if positions is not None and given > positions:
            raise ModelError(
                f"spec.training.maxLength: {given:,} is more than the {positions:,} positions "
                "of the model",
                remedy=f"set maxLength to {positions} or less, or use a model with longer context",
            )
        return given, "given by training.maxLength"
    if model_limit is not None and model_limit < LENGTH_CAP:
        return model_limit, f"the model reads at most {model_limit} tokens"
    return LENGTH_CAP, f"{LENGTH_CAP} tokens unless training.maxLength says otherwise"


def settled_length(limit: int, reason: str, longest: list[int]) -> tuple[int, str]:
    """The limit, or the longest unit rounded up to a multiple of 8 where that is less."""
    most = max(longest, default=0)
    rounded = -(-most // 8) * 8
    if rounded < limit:
        return max(rounded, 8), f"the longest text has {most} tokens, rounded up to a multiple of 8"
    return limit, reason

"""An encoder of its own for the tokenisation tests; importable by a fresh process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from tunefleet.data.tokens import Encoded, Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Letters:
    """A unit is the letters of a row; ``log`` notes which process encoded how many rows."""

    log: str = ""
    fail_in_others: bool = False
    parent: int = 0

    def load_tokenizer(self, model_path: Path) -> PreTrainedTokenizerBase:
        """Anything at all: letters need no tokenizer."""
        return cast("PreTrainedTokenizerBase", SimpleNamespace(path=model_path))

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Letters as numbers; raises ``ValueError`` for the row ``bad``."""
        if self.fail_in_others and os.getpid() != self.parent:
            raise RuntimeError("this process is not allowed to")
        texts = rows.columns["text"]
        for position, text in enumerate(texts):
            if text == "bad":
                raise ValueError(f"{rows.place(position)}: bad")
        if self.log:
            with Path(self.log).open("a") as log:
                log.write(f"{os.getpid()} {len(rows)}\n")
        return Encoded(
            ragged={"input_ids": np.array([ord(c) for text in texts for c in text], np.int32)},
            offsets=np.cumsum([0, *map(len, texts)]).astype(np.int64),
            fixed={"label": np.asarray(rows.columns["label"], np.int32)},
            ids=rows.ids,
            weights=np.ones(len(rows), np.int64),
            truncated=sum(len(text) > 8 for text in texts),
        )

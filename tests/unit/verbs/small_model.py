"""A model folder that passes every check that reads no weights."""

from __future__ import annotations

import json
from pathlib import Path


def small_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 9}))
    (folder / "tokenizer.json").write_text("{}")
    head = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))

"""GGUF: why a bundle is not converted here, and what to run instead.

Decides nothing but the words. The format's package reads and writes files, but the knowledge of
each architecture's tensors and tokenizers is in llama.cpp's script, which is no package; a
converter of our own would be a second, unproved one.
"""

from __future__ import annotations

import json
from pathlib import Path

from tunefleet.api.errors import ModelError


def refuse_gguf(bundle: Path, task: str, out: str) -> ModelError:
    """The reason and the remedy for this bundle."""
    architecture = json.loads((bundle / "config.json").read_text()).get("architectures", ["?"])[0]
    if task != "causal-lm":
        return ModelError(
            f"a {task} model ({architecture}) has no GGUF form: llama.cpp reads models that "
            "write text",
            remedy="export it with --to onnx, or --to hf",
        )
    return ModelError(
        f"GGUF is made by llama.cpp's own script, which is no Python package ({architecture})",
        remedy=f"tunefleet export {bundle} --to hf --out hf-folder && "
        f"python llama.cpp/convert_hf_to_gguf.py hf-folder --outfile {out or 'model.gguf'}",
    )

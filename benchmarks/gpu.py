"""Speed on a GPU, where there is one: BERT-base, 128 tokens, bf16, random weights.

Model FLOP utilisation counts 6 FLOPs per weight of the encoder and token, plus attention's
12 · layers · hidden · length per token, against the device's dense bf16 peak.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.scale import Scale
from benchmarks.sides import ready, run_ours, run_trainer
from benchmarks.table import Row
from benchmarks.workloads import MODEL, Workload, equal_length_texts, job_text
from tunefleet.api.words import DeviceType
from tunefleet.train.machine import machine_facts

LENGTH, BATCH = 128, 128
# Dense bf16 FLOP/s by a part of the device's name (makers' data sheets).
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}


def measure(scale: Scale) -> Iterator[Row]:
    """Two rows on a CUDA device, none elsewhere."""
    device = machine_facts().device
    if device.type is not DeviceType.CUDA:
        return
    folder = scale.scratch / "gpu"
    model = _bert_base(folder / "model")
    texts = equal_length_texts(folder / "texts.csv", LENGTH, 20_000)
    workload = Workload("BERT-base, 128 tokens, bf16", texts, LENGTH, (1.0, None), grouped=False)
    speed: dict[str, list[float]] = {"ours": [], "theirs": []}
    between = (20, 120)
    for pair in range(scale.pairs):
        job = ready(
            job_text(
                workload,
                name="gpu",
                max_steps=between[1] + 5,
                seed=17 + pair,
                checkpoints=folder / str(pair) / "runs",
                model=model,
                batch=BATCH,
                workers=1,
                precision="bf16",
            ),
            folder / str(pair),
            device="cuda",
        )
        for side in ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours"):
            if side == "ours":
                watched = run_ours(job, name=side, between=between, stop_after=between[1])
            else:
                watched = run_trainer(
                    job, name=side, sampling="random", between=between, stop_after=between[1]
                )
            stretch = watched.stretch
            assert stretch is not None, "a stretch was asked for"
            speed[side].append(stretch.samples / stretch.seconds)
    yield Row(
        f"GPU training: {workload.name}",
        "samples/s",
        speed["ours"],
        speed["theirs"],
        peer="Trainer",
        goal=1.0,
        note=device.name,
    )
    peak = next((value for name, value in PEAKS.items() if name in device.name), None)
    if peak is not None:
        per_sample = _flops_per_sample(model)
        yield Row(
            f"GPU training: {workload.name}",
            "model FLOP utilisation",
            [value * per_sample / peak for value in speed["ours"]],
            [value * per_sample / peak for value in speed["theirs"]],
            peer="Trainer",
            note=f"of {peak / 1e12:.0f} TFLOP/s",
        )


def _flops_per_sample(model: Path) -> float:
    config = json.loads((model / "config.json").read_text())
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    weights = layers * (4 * hidden * hidden + 2 * hidden * config["intermediate_size"])
    return float(LENGTH * (6 * weights + 12 * layers * hidden * LENGTH))


def _bert_base(folder: Path) -> Path:
    """BERT-base with random weights and the small model's tokenizer (the same vocabulary)."""
    if not (folder / "model.safetensors").exists():
        import torch
        from transformers import AutoTokenizer, BertConfig, BertModel

        AutoTokenizer.from_pretrained(MODEL).save_pretrained(folder)
        torch.manual_seed(17)
        BertModel(BertConfig()).save_pretrained(folder)
    return folder

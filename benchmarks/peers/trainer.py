"""transformers' ``Trainer`` under torchrun: what most people fine-tune with today.

    python -m torch.distributed.run --nproc-per-node 2 -m benchmarks.peers.trainer CONFIG

Reads the same token ids as the other side and takes the same steps: fused AdamW, the same
schedule, clipping, dropout, micro-batch and number of workers. Imports nothing of tunefleet.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

torch.set_num_threads(1)


class StepLog(TrainerCallback):
    """Appends one line per optimiser step and process, with the step's real tokens."""

    def __init__(self, path: Path, samples: int) -> None:
        self._path = path
        self._samples = samples
        # A batch is collated some steps before it is trained on.
        self.collated: deque[int] = deque()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Called by ``Trainer`` after every optimiser step."""
        line = {
            "step": state.global_step,
            "units": self._samples,
            "tokens": self.collated.popleft(),
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def rows(tokens: Path) -> Dataset:
    """Token ids and labels of a split, as a data set of ``datasets``."""
    arrays = np.load(tokens)
    flat, offsets = arrays["ids"], arrays["offsets"]
    ids = [flat[start:stop].tolist() for start, stop in pairwise(offsets)]
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "attention_mask": [[1] * len(row) for row in ids],
            "labels": arrays["labels"].tolist(),
            "length": [len(row) for row in ids],
        }
    )


def main() -> None:
    """Train as the configuration says; with ``test`` also say the accuracy at the end."""
    config: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    tokenizer = AutoTokenizer.from_pretrained(config["model"])
    torch.manual_seed(config["seed"])
    model = AutoModelForSequenceClassification.from_pretrained(
        config["model"], num_labels=config["labels"], dtype=torch.float32
    )
    share = config["batch"] // config["workers"]
    log = StepLog(Path(f"{config['steps_file']}.{os.environ['RANK']}"), share)
    pad = DataCollatorWithPadding(tokenizer)

    def collate(features: list[dict[str, Any]]) -> Any:
        log.collated.append(sum(len(feature["input_ids"]) for feature in features))
        return pad(features)

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=config["scratch"],
            per_device_train_batch_size=share,
            max_steps=config["max_steps"],
            learning_rate=config["learning_rate"],
            weight_decay=config["weight_decay"],
            warmup_steps=config["warmup_steps"],
            lr_scheduler_type="linear",
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            seed=config["seed"],
            train_sampling_strategy=config["sampling"],
            # Left on, it doubles the loss of classifiers on two workers (transformers 5.23).
            average_tokens_across_devices=False,
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            save_strategy="steps" if config["save_steps"] else "no",
            save_steps=config["save_steps"] or 500,
            use_cpu=config["device"] == "cpu",
            bf16=config["precision"] == "bf16",
            ddp_find_unused_parameters=False,
        ),
        train_dataset=rows(Path(config["train"])),
        processing_class=tokenizer,
        data_collator=collate,
        callbacks=[log],
    )
    trainer.train()
    log.collated.clear()
    if config["test"]:
        answer = trainer.predict(rows(Path(config["test"])))
        right = np.argmax(answer.predictions, axis=-1) == answer.label_ids
        if trainer.is_world_process_zero():
            print(json.dumps({"accuracy": float(right.mean())}))


if __name__ == "__main__":
    main()

"""A new task is two files: its declaration and its behaviour, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.tiny_models import tiny_bert

DECLARATION = '''
from tunefleet.api.tasks.declaration import Column, Metric, TaskDeclaration, TaskOptions


class ParityOptions(TaskOptions):
    """Whether a row's number is odd."""

    scale: float = 1.0


TASK = TaskDeclaration(
    name="toy-parity",
    summary="say whether a number is odd",
    options=ParityOptions,
    columns=lambda options: (Column("number", "number"),),
    metrics=lambda options: (Metric("accuracy", higher=True), Metric("loss", higher=False)),
    primary_metric=lambda options: "accuracy",
    labelled=lambda options: False,
    weight_unit="examples",
)
'''

BEHAVIOUR = """
import numpy as np
import torch

from tunefleet.data.tokens import Encoded
from tunefleet.tasks.contract import ModelKind


class Parity:
    def __init__(self, context):
        self.context = context

    def load_tokenizer(self, model_path):
        return None

    def encode(self, rows, tokenizer):
        cells = np.array(rows.columns["number"], np.int32)
        return Encoded(
            ragged={"input_ids": cells % 10},
            offsets=np.arange(len(rows) + 1),
            fixed={"label": (cells % 2).astype(np.int32)},
            ids=rows.ids,
            weights=np.ones(len(rows), np.int64),
        )

    def model_kind(self):
        return ModelKind("AutoModelForTokenClassification", 2, "TOKEN_CLS")

    def load_model(self, model_path, model, seed):
        torch.manual_seed(seed)
        return torch.nn.Embedding(10, 2)

    def loss(self, model, batch):
        logits = model(batch["input_ids"][:, 0]) * self.context.options.scale
        return torch.nn.functional.cross_entropy(logits, batch["label"], reduction="sum")

    def score(self, model, batch):
        with torch.no_grad():
            logits = model(batch["input_ids"][:, 0])
            loss = torch.nn.functional.cross_entropy(logits, batch["label"], reduction="none")
        right = (logits.argmax(1) == batch["label"]).numpy()
        return {"loss": loss.numpy(), "right": right}

    def metrics(self, scores):
        return {"accuracy": float(scores["right"].mean()), "loss": float(scores["loss"].mean())}

    def outputs(self, model, batch):
        return {"logits": model(batch["input_ids"][:, 0]).detach().numpy()}

    def predict(self, model, tokenizer, items):
        batch = torch.tensor([[int(item["number"]) % 10] for item in items])
        logits = self.outputs(model, {"input_ids": batch})["logits"]
        return [{"odd": bool(row.argmax())} for row in logits]


BEHAVIOUR = Parity
"""

JOURNEY = """
import sys
from pathlib import Path

import numpy as np
import torch

import tunefleet.api.tasks
import tunefleet.tasks

here = Path(sys.argv[1])
tunefleet.api.tasks.__path__.append(str(here / "declarations"))
tunefleet.tasks.__path__.append(str(here / "behaviours"))

from tunefleet.api.job import FineTuneJob, ModelSpec
from tunefleet.data.batch import collate
from tunefleet.data.tokens import Rows, TokenStore
from tunefleet.tasks import task_of
from tunefleet.tasks.contract import TaskContext
from tunefleet.train.skeleton import measure

job = FineTuneJob.model_validate({
    "apiVersion": "tunefleet.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "toy"},
    "spec": {
        "task": "toy-parity",
        "toyParity": {"scale": 2.0},
        "model": {"uri": "nowhere"},
        "data": {"train": {"uri": "numbers.csv"}},
    },
})
assert job.spec.options.scale == 2.0
assert job.spec.primary_metric == "accuracy"

task = task_of("toy-parity", TaskContext(job.spec.options, (), 8))
rows = Rows(columns={"number": list(range(40))}, ids=np.arange(40))
encoded = task.encode(rows, task.load_tokenizer(here))
batch = collate(TokenStore.write(here / "store", encoded, {}), np.arange(40))
model = task.load_model(here, ModelSpec(uri="nowhere"), 0)
optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
before = task.metrics(task.score(model, batch))
for _ in range(50):
    optimizer.zero_grad()
    (task.loss(model, batch) / batch["weights"].sum()).backward()
    optimizer.step()
after = task.metrics(task.score(model, batch))
assert after["loss"] < before["loss"]
assert after["accuracy"] == 1.0
assert task.outputs(model, batch)["logits"].shape == (40, 2)
assert task.predict(model, None, [{"number": 3}, {"number": 8}]) == [{"odd": True}, {"odd": False}]
sizes = measure(
    here / "bert", ModelSpec(uri="nowhere"), job.spec.declaration, task.model_kind(), ()
)
assert sizes.architecture == "BertForTokenClassification", sizes
print("arrived")
"""


def test_a_toy_task_of_two_files_goes_all_the_way(tmp_path: Path) -> None:
    tiny_bert(tmp_path / "bert")
    (tmp_path / "declarations").mkdir()
    (tmp_path / "behaviours").mkdir()
    (tmp_path / "declarations" / "toy_parity.py").write_text(DECLARATION)
    (tmp_path / "behaviours" / "toy_parity.py").write_text(BEHAVIOUR)
    done = subprocess.run(
        [sys.executable, "-c", JOURNEY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "arrived", done.stderr

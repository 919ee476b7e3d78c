"""One thing wrong with a job file at a time: its line, its field, what is said, the remedy."""

# ruff: noqa: E501 - a case of a table stands on one line

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tunefleet.api.errors import Problem, SpecError
from tunefleet.verbs.jobfile import parse

BASE = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata:
  name: reviews
spec:
  task: text-classification
  model: {name: google-bert/bert-base-uncased}
  data:
    train: {uri: reviews.csv}
    columns: {text: review, label: stars}
  training:
    optimizer: {learningRate: 2e-5}
    epochs: 3
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(SpecError) as raised:
        parse(text, "job.yaml")
    return list(raised.value.problems)


@dataclass(frozen=True)
class Bad:
    """A change of BASE, marked `# here` where the problem must point, and what is said."""

    name: str
    old: str
    new: str
    path: str
    says: str
    remedy: str


T, D, M = "spec.training", "spec.data", "spec.model"
EPOCHS = "    epochs: 3\n"
TRAIN = "    train: {uri: reviews.csv}\n"
MODEL = "  model: {name: google-bert/bert-base-uncased}\n"
COLUMNS = "    columns: {text: review, label: stars}\n"
RATE = "    optimizer: {learningRate: 2e-5}\n"
TASK = "  task: text-classification\n"

BAD = [
    # keys
    Bad("a misspelt field", "epochs: 3", "epoch: 3 # here", f"{T}.epoch", "no such field", "did you mean `epochs`?"),
    Bad("a snake_case field", "{learningRate: 2e-5}", "{learning_rate: 2e-5} # here", f"{T}.optimizer.learning_rate", "no such field", "did you mean `learningRate`?"),
    Bad("a field of another block", EPOCHS, "    learningRate: 2e-5 # here\n", f"{T}.learningRate", "no such field", "`learningRate` belongs under training.optimizer"),
    Bad("a field of another block in another spelling", EPOCHS, "    weight_decay: 0.1 # here\n", f"{T}.weight_decay", "no such field", "`weightDecay` belongs under training.optimizer"),
    Bad("a word of another tool", EPOCHS, "    per_device_train_batch_size: 8 # here\n", f"{T}.per_device_train_batch_size", "no such field", "did you mean `batchSize`?"),
    Bad("a short word of another tool, elsewhere in the tree", EPOCHS, "    lr: 1.0 # here\n", f"{T}.lr", "no such field", "`learningRate` belongs under training.optimizer"),
    Bad("a field that nothing is like", EPOCHS, "    zzz: 8 # here\n", f"{T}.zzz", "no such field", "known here: epochs, maxSteps"),
    Bad("a field at the top level that belongs to spec", "spec:\n", "training: {} # here\nspec:\n", "training", "no such field", "`training` belongs under spec"),
    Bad("a key twice", EPOCHS, "    epochs: 3\n    epochs: 4 # here\n", f"{T}.epochs", "given twice; it is already there in line 13", "keep one"),
    Bad("a key that is a number", COLUMNS, "    columns: {1: review} # here\n", f"{D}.columns.1", "the key 1 is not text", 'put quotes round it: "1"'),
    Bad("a key that is true", COLUMNS, "    columns: {true: review} # here\n", f"{D}.columns.true", "not text", "quotes"),
    Bad("a key that is blank", COLUMNS, "    columns: {' ': review} # here\n", f"{D}.columns. ", "' ' cannot be a name", "visible"),
    Bad("a key that is empty", COLUMNS, "    columns: {'': review} # here\n", f'{D}.columns.""', "'' cannot be a name", "visible"),
    Bad("a key that is a list", EPOCHS, "    ? [a, b] # here\n    : 1\n", T, "a key that is no text", "write every field out"),
    Bad("a merge key", EPOCHS, "    <<: {epochs: 3} # here\n", T, "merge key", "write every field out"),
    Bad("a tag", "epochs: 3", "epochs: !!python/int 3 # here", f"{T}.epochs", "tag", "remove it"),
    # missing
    Bad("no task", TASK, "", "spec.task", "is missing", "add `task:` with one of causal-lm, text-classification"),
    Bad("no model", MODEL, "", M, "is missing", "add `model:`"),
    Bad("no apiVersion", "apiVersion: tunefleet.dev/v1alpha1\n", "", "apiVersion", "is missing", "tunefleet.dev/v1alpha1"),
    Bad("a block left empty", RATE + EPOCHS, "", T, "is empty", "remove the field, or give a block with epochs"),
    Bad("a required block left empty", "{uri: reviews.csv}", "# here", f"{D}.train", "is empty", "give a block with uri"),
    Bad("another apiVersion", "v1alpha1", "v1 # here", "apiVersion", "'tunefleet.dev/v1' is not known", "write `apiVersion: tunefleet.dev/v1alpha1`"),
    Bad("another kind", "FineTuneJob", "Job # here", "kind", "not known", "write `kind: FineTuneJob`"),
    # names
    Bad("a job's name in capitals", "name: reviews\n", "name: My Reviews_2 # here\n", "metadata.name", "not a name that Kubernetes takes", "`my-reviews-2` would do"),
    Bad("a job's name that is a number", "name: reviews\n", "name: 2024 # here\n", "metadata.name", "2024 is a number, not text", 'put quotes round it: "2024"'),
    Bad("a job's name that is too long", "name: reviews\n", f"name: {'a' * 64} # here\n", "metadata.name", "64 characters", "at most 63"),
    Bad("a label of Kubernetes that it would refuse", "name: reviews\n", "name: reviews\n  labels: {team: two words} # here\n", "metadata.labels.team", "not a label value", "at most 63"),
    Bad("a label's key that Kubernetes would refuse", "name: reviews\n", "name: reviews\n  labels: {-a: b} # here\n", "metadata.labels.-a", "not a name", "example.com/team"),
    # types
    Bad("a number in quotes", "epochs: 3", 'epochs: "3" # here', f"{T}.epochs", "'3' is text, not a whole number", "remove the quotes: 3"),
    Bad("a word for a number", "epochs: 3", "epochs: three # here", f"{T}.epochs", "'three' is not a whole number", "above 0"),
    Bad("digits in groups", "epochs: 3", "epochs: 1_000 # here", f"{T}.epochs", "'1_000' is not", "write the digits together: 1000"),
    Bad("digits with a comma", "epochs: 3", 'epochs: "1,000" # here', f"{T}.epochs", "not a whole number", "1000"),
    Bad("per cent", "{learningRate: 2e-5}", "{learningRate: 2e-5, warmup: 6%} # here", f"{T}.optimizer.warmup", "'6%' is not a number", "write 0.06"),
    Bad("a fraction of an epoch", "epochs: 3", "epochs: 2.5 # here", f"{T}.epochs", "2.5 is not a whole number", "a whole number above 0"),
    Bad("true for a number", "epochs: 3", "epochs: true # here", f"{T}.epochs", "true is not a whole number", "above 0"),
    Bad("a list for a number", "epochs: 3", "epochs: [3] # here", f"{T}.epochs", "a list is not a whole number", "above 0"),
    Bad("yes for true", EPOCHS, "    gradientCheckpointing: yes # here\n", f"{T}.gradientCheckpointing", "'yes' is neither true nor false", "write true"),
    Bad("1 for true", EPOCHS, "    gradientCheckpointing: 1 # here\n", f"{T}.gradientCheckpointing", "1 is neither", "write true"),
    Bad("a text for a block", RATE, "    optimizer: adamw # here\n", f"{T}.optimizer", "'adamw' stands where a block", "give a block with name"),
    Bad("a list for a block", RATE, "    optimizer: [adamw] # here\n", f"{T}.optimizer", "a list stands where a block", "give a block with name"),
    Bad("a text for a list", COLUMNS, "    labels: good # here\n", f"{D}.labels", "'good' is not a list", "write a list: [good]"),
    Bad("a number for a label", COLUMNS, "    labels: [bad, 1.10] # here\n", f"{D}.labels[1]", "1.10 is a number, not text", 'put quotes round it: "1.10"'),
    Bad("true for a label", COLUMNS, "    labels: [bad, true] # here\n", f"{D}.labels[1]", "true is true/false, not text", 'put quotes round it: "true"'),
    Bad("a hash of digits for a revision", MODEL, "  model: {name: a/b, revision: 12e4567} # here\n", f"{M}.revision", "12e4567 is a number", '"12e4567"'),
    Bad("a price as a number", EPOCHS, "    epochs: 3\n  budget: {maxCost: 25.00} # here\n", "spec.budget.maxCost", "25.00 is a number", 'put quotes round it: "25.00"'),
    Bad("an empty label", COLUMNS, "    labels: [bad, ''] # here\n", f"{D}.labels[1]", "is empty", "text"),
    Bad("a blank file name", "{uri: reviews.csv}", "{uri: '  '} # here", f"{D}.train.uri", "is blank", "text"),
    Bad("an empty list of files", "{uri: reviews.csv}", "{uri: []} # here", f"{D}.train.uri", "an empty list", "at least 1"),
    Bad("a number in a list of files", "{uri: reviews.csv}", "{uri: [a.csv, 7]} # here", f"{D}.train.uri[1]", "7 is a number", "quotes"),
    Bad("an empty file name", "{uri: reviews.csv}", '{uri: ""} # here', f"{D}.train.uri", "is empty", "text"),
    Bad("a file name with a line break", "{uri: reviews.csv}", '{uri: "a\\nb"} # here', f"{D}.train.uri", "not written as it should be", "text"),
    # numbers
    Bad("no epochs", "epochs: 3", "epochs: 0 # here", f"{T}.epochs", "0 is too small", "above 0"),
    Bad("negative epochs", "epochs: 3", "epochs: -1 # here", f"{T}.epochs", "-1 is too small", "above 0"),
    Bad("far too many epochs", "epochs: 3", "epochs: 100001 # here", f"{T}.epochs", "too large", "up to 100,000"),
    Bad("a number of a thousand digits", "epochs: 3", f"epochs: {'9' * 1000} # here", f"{T}.epochs", "many digits", "shorten"),
    Bad("a rate that is no number", "2e-5}", ".nan} # here", f"{T}.optimizer.learningRate", ".nan is not a finite number", "above 0"),
    Bad("an infinite rate", "2e-5}", ".inf} # here", f"{T}.optimizer.learningRate", ".inf is not a finite number", "up to 10"),
    Bad("a rate beyond every float", "2e-5}", "1e999} # here", f"{T}.optimizer.learningRate", "1e999 is not a finite number", "up to 10"),
    Bad("a rate of zero", "2e-5}", "0.0} # here", f"{T}.optimizer.learningRate", "0.0 is too small", "above 0"),
    Bad("a seed below zero", EPOCHS, "    seed: -1 # here\n", f"{T}.seed", "too small", "from 0 and below 4,294,967,296"),
    Bad("a micro-batch larger than the batch", EPOCHS, "    batchSize: 8\n    microBatch: 16 # here\n", f"{T}.microBatch", "is larger than batchSize", "`auto` chooses"),
    Bad("a micro-batch that is a word", EPOCHS, "    microBatch: automatic # here\n", f"{T}.microBatch", "'automatic' does not fit", "auto or a whole number above 0"),
    Bad("a micro-batch of zero", EPOCHS, "    microBatch: 0 # here\n", f"{T}.microBatch", "0 is too small", "auto or a whole number"),
    Bad("a number with two readings", EPOCHS, "    epochs: 010 # here\n", f"{T}.epochs", "010 is 10 here and 8 to other YAML readers", "write 10"),
    Bad("a fraction of one", TRAIN, TRAIN + "    validation: {fraction: 1.0} # here\n", f"{D}.validation.fraction", "1.0 is too large", "below 1"),
    # enums
    Bad("an optimiser that is misspelt", "{learningRate: 2e-5}", "{name: adam} # here", f"{T}.optimizer.name", "'adam' is not known", "did you mean `adamw`?"),
    Bad("an unknown optimiser", "{learningRate: 2e-5}", "{name: lion} # here", f"{T}.optimizer.name", "'lion' is not known", "one of adamw, sgd"),
    Bad("a task with an underscore", "text-classification", "text_classification # here", "spec.task", "'text_classification' is not known", "did you mean `text-classification`?"),
    Bad("an unknown task", "text-classification", "translation # here", "spec.task", "'translation' is not known", "one of causal-lm, text-classification"),
    Bad("a precision in capitals", EPOCHS, "    precision: BF16 # here\n", f"{T}.precision", "'BF16' is not known", "did you mean `bf16`?"),
    # how often
    Bad("an evaluation every zero epochs", EPOCHS, EPOCHS + "  evaluation: {every: 0ep} # here\n", "spec.evaluation.every", "'0ep' is not written", "1ep"),
    Bad("an evaluation by the clock", EPOCHS, EPOCHS + "  evaluation: {every: 10m} # here\n", "spec.evaluation.every", "'10m' is not written", "200steps"),
    Bad("an evaluation every zero steps", EPOCHS, EPOCHS + "  evaluation: {every: 0} # here\n", "spec.evaluation.every", "0 is too small", "1ep"),
    Bad("a checkpoint every zero seconds", EPOCHS, EPOCHS + "  checkpoints: {every: 0s} # here\n", "spec.checkpoints.every", "duration of zero", "30m"),
    Bad("a checkpoint every century", EPOCHS, EPOCHS + "  checkpoints: {every: 99999d} # here\n", "spec.checkpoints.every", "more than ten years", "30m"),
    Bad("a duration in words", EPOCHS, EPOCHS + "  checkpoints: {every: 5 min} # here\n", "spec.checkpoints.every", "'5 min' is not written", "a duration such as 90s"),
    # rules between fields
    Bad("epochs and steps", EPOCHS, "    epochs: 3\n    maxSteps: 10 # here\n", f"{T}.maxSteps", "excludes epochs", "keep either"),
    Bad("more warm-up than steps", RATE + EPOCHS, "    maxSteps: 10\n    optimizer: {warmup: 10} # here\n", f"{T}.optimizer.warmup", "leaves nothing of maxSteps", "fewer steps"),
    Bad("one and a half steps of warm-up", "{learningRate: 2e-5}", "{warmup: 1.5} # here", f"{T}.optimizer.warmup", "neither a fraction nor", "whole number of steps"),
    Bad("momentum for adamw", "{learningRate: 2e-5}", "{momentum: 0.9} # here", f"{T}.optimizer.momentum", "belongs to sgd", "remove momentum, or set name: sgd"),
    Bad("betas for sgd", "{learningRate: 2e-5}", "{name: sgd, betas: [0.9, 0.99]} # here", f"{T}.optimizer.betas", "belongs to adamw", "remove betas"),
    Bad("three betas", "{learningRate: 2e-5}", "{betas: [0.9, 0.99, 0.999]} # here", f"{T}.optimizer.betas", "too many items", "at most 2"),
    Bad("one beta", "{learningRate: 2e-5}", "{betas: [0.9]} # here", f"{T}.optimizer.betas", "too few items", "at least 2"),
    Bad("two models", MODEL, "  model: {name: a/b, uri: c} # here\n", f"{M}.uri", "excludes name", "keep exactly one"),
    Bad("no model named", MODEL, "  model: {} # here\n", M, "needs name or uri or from", "add exactly one"),
    Bad("a revision of a folder", MODEL, "  model: {uri: c, revision: main} # here\n", f"{M}.revision", "belongs to a hub model", "remove revision"),
    Bad("going on from itself", MODEL, "  model: {from: {job: reviews}} # here\n", f"{M}.from.job", "is this job itself", "metadata.name"),
    Bad("going on from nothing", MODEL, "  model: {from: {}} # here\n", f"{M}.from", "needs job or bundle", "add exactly one"),
    Bad("lora options without lora", MODEL, "  model: {name: a/b, method: {lora: {rank: 8}}} # here\n", f"{M}.method.lora", "has no effect with type: full", "set type: lora"),
    Bad("no source of rows", "{uri: reviews.csv}", "{} # here", f"{D}.train", "needs uri or hub", "add exactly one"),
    Bad("two sources of rows", "{uri: reviews.csv}", "{uri: a.csv, hub: {name: b}} # here", f"{D}.train.hub", "excludes uri", "keep exactly one"),
    Bad("the same file twice", "{uri: reviews.csv}", "{uri: [a.csv, b.csv, a.csv]} # here", f"{D}.train.uri[2]", "already listed as item 1", "remove one"),
    Bad("an encoding that is not one", "{uri: reviews.csv}", "{uri: a.csv, encoding: utf-9} # here", f"{D}.train.encoding", "'utf-9' is not a text encoding", "cp1252"),
    Bad("an encoding of bytes to bytes", "{uri: reviews.csv}", "{uri: a.csv, encoding: hex} # here", f"{D}.train.encoding", "not a text encoding", "utf-8"),
    Bad("an encoding of Parquet", "{uri: reviews.csv}", "{uri: a, format: parquet, encoding: latin-1} # here", f"{D}.train.encoding", "no effect with format: parquet", "remove"),
    Bad("a delimiter of JSON", "{uri: reviews.csv}", "{uri: a, format: jsonl, delimiter: ;} # here", f"{D}.train.delimiter", "no effect with format: jsonl", "format: csv"),
    Bad("a delimiter of two characters", "{uri: reviews.csv}", '{uri: a.csv, delimiter: "::"} # here', f"{D}.train.delimiter", "2 characters long", "at most 1"),
    Bad("a quote as delimiter", "{uri: reviews.csv}", "{uri: a.csv, delimiter: '\"'} # here", f"{D}.train.delimiter", "cannot separate", "one character"),
    Bad("a format of a fraction", TRAIN, TRAIN + "    validation: {fraction: 0.1, format: csv} # here\n", f"{D}.validation.format", "no effect without uri", "remove format"),
    Bad("a group without a fraction", TRAIN, TRAIN + "    validation: {uri: b.csv, groupBy: c} # here\n", f"{D}.validation.groupBy", "no effect without fraction", "remove groupBy"),
    Bad("nothing left to train on", TRAIN, TRAIN + "    validation: {fraction: 0.5}\n    test: {fraction: 0.5} # here\n", f"{D}.test.fraction", "leaves no rows to train on", "below 1"),
    Bad("a label twice", COLUMNS, "    labels: [a, b, a] # here\n", f"{D}.labels[2]", "`a` is already listed as item 1", "remove one"),
    Bad("one label", COLUMNS, "    labels: [a] # here\n", f"{D}.labels", "1 label is not enough", "at least 2"),
    Bad("labels of a regression", COLUMNS, "    labels: [a, b] # here\n  textClassification: {problem: regression}\n", f"{D}.labels", "has no labels", "remove data.labels"),
    Bad("a column the task does not read", COLUMNS, "    columns: {txt: review, label: stars} # here\n", f"{D}.columns.txt", "reads no column 'txt'", "did you mean `text`?"),
    Bad("columns the wrong way round", COLUMNS, "    columns: {review: text, label: stars} # here\n", f"{D}.columns.review", "reads no column 'review'", "write `text: review`"),
    Bad("one column for two things", COLUMNS, "    columns: {text: stars, label: stars} # here\n", f"{D}.columns.label", "read both as text and as label", "two columns"),
    Bad("one column for a thing and a default", COLUMNS, "    columns: {text: label} # here\n", f"{D}.columns.text", "read both as text and as label", "two columns"),
    Bad("options of another task", EPOCHS, EPOCHS + "  causalLm: {format: chat} # here\n", "spec.causalLm", "no effect with task: text-classification", "set task: causal-lm"),
    Bad("a threshold of a single label", EPOCHS, EPOCHS + "  textClassification: {threshold: 0.7} # here\n", "spec.textClassification.threshold", "no effect with problem: single-label", "problem: multi-label"),
    Bad("smoothing of several labels", EPOCHS, EPOCHS + "  textClassification: {problem: multi-label, labelSmoothing: 0.1} # here\n", "spec.textClassification.labelSmoothing", "no effect with problem: multi-label", "remove"),
    Bad("a metric that is misspelt", EPOCHS, EPOCHS + "  evaluation: {earlyStopping: {metric: f1_makro}} # here\n", "spec.evaluation.earlyStopping.metric", "'f1_makro' is not a metric", "did you mean `f1_macro`?"),
    Bad("a metric of another task", EPOCHS, EPOCHS + "  evaluation: {metric: perplexity} # here\n", "spec.evaluation.metric", "not a metric of this text-classification job", "it reports f1_macro, accuracy"),
    Bad("a metric of other options", EPOCHS, EPOCHS + "  textClassification: {problem: regression}\n  serving: {gate: {metric: accuracy, min: 0.8}} # here\n", "spec.serving.gate.metric", "'accuracy' is not a metric", "it reports rmse"),
    Bad("two metrics that choose", EPOCHS, EPOCHS + "  evaluation: {metric: accuracy, earlyStopping: {metric: f1_macro}} # here\n", "spec.evaluation.earlyStopping.metric", "is f1_macro, but evaluation.metric is accuracy", "name the same"),
    Bad("early stopping by nothing", EPOCHS, EPOCHS + "  evaluation: {earlyStopping: {patience: 2}} # here\n", "spec.evaluation.earlyStopping.metric", "is missing", "add `metric:`"),
    Bad("a gate without a bound", EPOCHS, EPOCHS + "  serving: {gate: {metric: f1_macro}} # here\n", "spec.serving.gate", "lets everything through", "add min"),
    Bad("a gate on the wrong side", EPOCHS, EPOCHS + "  serving: {gate: {metric: loss, min: 0.5}} # here\n", "spec.serving.gate.min", "lower is better for loss", "write max: 0.5"),
    Bad("a gate that nothing passes", EPOCHS, EPOCHS + "  serving: {gate: {metric: f1_macro, min: 0.9, max: 0.8}} # here\n", "spec.serving.gate.min", "nothing could pass", "exchange"),
    Bad("no tracker under tracking", EPOCHS, EPOCHS + "  tracking: {} # here\n", "spec.tracking", "names no tracker", "add tensorboard: true"),
    Bad("a folder as MLflow's place", EPOCHS, EPOCHS + "  tracking: {mlflow: {uri: ./mlruns, experiment: a}} # here\n", "spec.tracking.mlflow.uri", "is no MLflow server or database", "sqlite:///mlflow.db"),
    Bad("a password in MLflow's place", EPOCHS, EPOCHS + "  tracking: {mlflow: {uri: 'https://me:secret@host', experiment: a}} # here\n", "spec.tracking.mlflow.uri", "holds a secret", "MLFLOW_TRACKING_PASSWORD"),
    Bad("no workers", EPOCHS, EPOCHS + "  workers: {count: 0} # here\n", "spec.workers.count", "0 is too small", "above 0"),
    # values that other YAML readers take for something else
    Bad("no as a label", COLUMNS, "    labels:\n    - good\n    - no # here\n", f"{D}.labels[1]", "no is read as true or false by other YAML readers", 'put quotes round it: "no"'),
    Bad("on as a column", COLUMNS, "    columns: {text: on, label: stars} # here\n", f"{D}.columns.text", "on is read as true or false", '"on"'),
    Bad("y as a column", COLUMNS, "    columns: {label: y} # here\n", f"{D}.columns.label", "y is read as true or false", '"y"'),
    Bad("a date as a label", COLUMNS, "    labels: [old, 2026-01-31] # here\n", f"{D}.labels[1]", "read as a date", '"2026-01-31"'),
    Bad("a time as a label", COLUMNS, "    labels: [old, 12:30] # here\n", f"{D}.labels[1]", "read as a number", '"12:30"'),
    Bad("an empty item", COLUMNS, "    labels: [old, ] # here\n", f"{D}.labels", "1 label is not enough", "at least 2"),
    Bad("an item that is null", COLUMNS, "    labels: [old, ~] # here\n", f"{D}.labels[1]", "an empty value is not text", "text"),
    # not in this version
    Bad("a file system that no store reads", "{uri: reviews.csv}", "{uri: hdfs://data/a.csv} # here", f"{D}.train.uri", "`hdfs` locations are not supported", "file:///"),
    Bad("a volume claim, second in a list", "{uri: reviews.csv}", "{uri: [a.csv, pvc://b/c.csv]} # here", f"{D}.train.uri[1]", "`pvc` locations", "in a cluster only"),
    Bad("a file:// with a host", "{uri: reviews.csv}", "{uri: file://a/b.csv} # here", f"{D}.train.uri", "names no absolute path", "file:///folder/name"),
    Bad("code of a stranger", MODEL, "  model: {name: a/b, trustRemoteCode: true} # here\n", f"{M}.trustRemoteCode", "`trustRemoteCode: true` is not supported", "never run"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_problem_names_its_line_its_field_and_the_remedy(bad: Bad) -> None:
    assert bad.old in BASE, "the table's change does not apply"
    text = BASE.replace(bad.old, bad.new, 1)
    marked = [at for at, line in enumerate(text.splitlines(), 1) if "# here" in line]
    (problem,) = problems(text)
    assert problem.where == bad.path
    assert bad.says in problem.message
    assert bad.remedy in problem.remedy
    assert problem.file == "job.yaml"
    if marked:
        assert [problem.line] == marked


def test_the_table_says_every_case_once() -> None:
    names = [bad.name for bad in BAD]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("options", "columns", "path", "says"),
    [
        ("{format: instruction, supervise: last-turn}", "{}", "spec.causalLm.supervise", "no effect with format: instruction"),
        ("{format: text, chatTemplate: x}", "{}", "spec.causalLm.chatTemplate", "no effect with format: text"),
        ("{format: chat}", "{prompt: question}", "spec.data.columns.prompt", "reads no column 'prompt' with these options"),
        ("{maxNewTokens: 0}", "{}", "spec.causalLm.maxNewTokens", "too small"),
        ("{chatTemplate: ''}", "{}", "spec.causalLm.chatTemplate", "is empty"),
    ],
    ids=lambda value: value[:44],
)  # fmt: skip
def test_a_causal_lm_job_has_rules_of_its_own(
    options: str, columns: str, path: str, says: str
) -> None:
    text = BASE.replace("text-classification", f"causal-lm\n  causalLm: {options}").replace(
        "{text: review, label: stars}", columns
    )
    (problem,) = problems(text)
    assert (problem.where, says in problem.message) == (path, True)

"""Whatever is done to a job file, it loads or is refused in plain words; nothing else."""

from __future__ import annotations

import copy
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunefleet.api.errors import SpecError
from tunefleet.api.job import FineTuneJob
from tunefleet.verbs.jobfile import parse

VALID: dict[str, object] = {
    "apiVersion": "tunefleet.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "reviews", "labels": {"team": "a"}},
    "spec": {
        "task": "text-classification",
        "textClassification": {"problem": "single-label", "labelSmoothing": 0.1},
        "model": {
            "name": "a/b",
            "revision": "main",
            "method": {"type": "lora", "lora": {"rank": 4}},
        },
        "data": {
            "train": {"uri": ["a.csv", "b.csv"], "format": "csv", "delimiter": ";"},
            "validation": {"fraction": 0.1, "groupBy": "customer"},
            "test": {"hub": {"name": "imdb"}},
            "columns": {"text": "review", "label": "stars"},
            "labels": ["good", "bad"],
        },
        "training": {
            "epochs": 3,
            "batchSize": 64,
            "microBatch": "auto",
            "optimizer": {"name": "adamw", "learningRate": 2e-5, "betas": [0.9, 0.99]},
        },
        "evaluation": {"every": "1ep", "earlyStopping": {"metric": "f1_macro"}},
        "workers": {"count": 4, "resources": {"gpu": 1}},
        "checkpoints": {"every": "30m", "keep": {"last": 1}},
        "serving": {"gate": {"metric": "f1_macro", "min": 0.85}},
    },
}
WORDS = [
    "name",
    "uri",
    "text",
    "auto",
    "causal-lm",
    "1ep",
    "30m",
    "0s",
    "yes",
    "s3://a",
    "",
    "\ud83d",
]

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**80), max_value=2**80),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=12),
)
values = st.recursive(
    leaves,
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), below, max_size=3),
    ),
    max_leaves=6,
)


def paths(tree: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [at] if at else []
    if isinstance(tree, dict):
        for key, below in tree.items():
            found += paths(below, (*at, key))
    elif isinstance(tree, list):
        for index, below in enumerate(tree):
            found += paths(below, (*at, index))
    return found


def holder(tree: object, path: tuple[str | int, ...]) -> dict[str | int, object]:
    for step in path[:-1]:
        tree = tree[step]  # type: ignore[index]
    assert isinstance(tree, dict | list)
    return tree  # type: ignore[return-value]


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, object]:
    tree = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 4))):
        known = paths(tree)
        if not known:
            break
        path = draw(st.sampled_from(known))
        block, last = holder(tree, path), path[-1]
        change = draw(st.sampled_from(["remove", "replace", "rename", "move"]))
        if change == "replace" or isinstance(block, list):
            block[last] = draw(values)
        elif change == "remove":
            del block[last]
        elif change == "rename":
            block[draw(st.sampled_from(WORDS))] = block.pop(last)
        else:
            other = holder(tree, draw(st.sampled_from(known)))
            if isinstance(other, dict):
                other[last] = copy.deepcopy(block[last])
    return tree


def outcome(text: str, *overrides: str) -> FineTuneJob | SpecError:
    try:
        return parse(text, "job.yaml", overrides)
    except SpecError as error:
        return error


def loads_or_refuses(text: str, *overrides: str) -> None:
    found = outcome(text, *overrides)
    if isinstance(found, SpecError):
        assert found.problems
        for problem in found.problems:
            assert problem.message
            assert problem.file == "job.yaml" or problem.file.startswith("--set ")
        assert "Input should" not in str(found)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(), st.booleans())
def test_any_mutation_of_a_valid_tree_loads_or_is_refused(
    tree: dict[str, object], ascii_only: bool
) -> None:
    loads_or_refuses(json.dumps(tree, ensure_ascii=ascii_only, indent=1))


PLAIN = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {name: reviews}
spec:
  task: text-classification
  model: {name: a/b}
  data:
    train: {uri: a.csv}
    labels: [good, bad]
"""


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, len(PLAIN)),
    st.integers(0, 12),
    st.one_of(
        st.text(max_size=6),
        st.text(alphabet=" \t\n:-#&*!|>'\"{}[],?%@`~<0123456789.e", max_size=12),
    ),
)
def test_any_edit_of_a_files_text_loads_or_is_refused(at: int, cut: int, new: str) -> None:
    loads_or_refuses(PLAIN[:at] + new + PLAIN[at + cut :])


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.text(max_size=30),
        st.builds(
            "{}={}".format,
            st.sampled_from([".".join(map(str, path)) for path in paths(VALID)]),
            st.one_of(st.text(max_size=12), values.map(json.dumps)),
        ),
    )
)
def test_any_override_loads_or_is_refused(override: str) -> None:
    loads_or_refuses(json.dumps(VALID), override)

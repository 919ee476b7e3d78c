"""Model folders that cannot be used, and what the digest of one that can depends on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_models import tiny_bert
from tunefleet.api.errors import ModelError
from tunefleet.api.job import ModelSpec
from tunefleet.data.model_files import (
    check_model,
    digest_model,
    find_model,
    read_headers,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "bert"))


def edit_config(model: Path, **changes: object) -> None:
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b" ")


def only_pickle(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"pickle")


def no_tokenizer(model: Path) -> None:
    for file in model.glob("*token*"):
        file.unlink()
    (model / "vocab.txt").unlink(missing_ok=True)


def inside_another(model: Path) -> None:
    inner = model / "inner"
    inner.mkdir()
    (model / "config.json").rename(inner / "config.json")


Break = Callable[[Path], object]

BROKEN: dict[str, tuple[Break, str, str]] = {
    "a folder that is not there": (shutil.rmtree, "does not exist", "spec.model.uri"),
    "no config.json": (lambda m: (m / "config.json").unlink(), "no config.json", "save_pretrained"),
    "a folder too far up": (inside_another, "no config.json", "its folder inner"),
    "a config.json that is cut off": (
        lambda m: (m / "config.json").write_text('{"model_type"'),
        "is not JSON",
        "copy the model's files again",
    ),
    "a config.json of something else": (
        lambda m: (m / "config.json").write_text("{}"),
        "names no model_type",
        "save_pretrained",
    ),
    "code of its own": (
        lambda m: edit_config(m, auto_map={"AutoModel": "modeling.Mine"}),
        "needs code of its own (auto_map",
        "architecture transformers has",
    ),
    "no weights": (
        lambda m: (m / "model.safetensors").unlink(),
        "has no weights (*.safetensors)",
        "download the model again",
    ),
    "a pickle only": (only_pickle, "as a pickle only (pytorch_model.bin)", "convert it once"),
    "no tokenizer": (no_tokenizer, "has no tokenizer", "copy the tokenizer's files"),
}


@pytest.mark.parametrize(
    ("damage", "message", "remedy"), [pytest.param(*case, id=name) for name, case in BROKEN.items()]
)
def test_a_broken_model_folder(model: Path, damage: Break, message: str, remedy: str) -> None:
    check_model(model)
    damage(model)
    with pytest.raises(ModelError) as raised:
        check_model(model)
    assert message in raised.value.message
    assert remedy in raised.value.remedy
    assert raised.value.exit_code == 2


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        check_model(tmp_path / "model")


CUTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off in the weights": (lambda b: b[:-100], "bytes where"),
    "cut off in the header": (lambda b: b[:40], "its header is longer than the file"),
    "empty": (lambda b: b"", "no whole safetensors file"),
    "something else": (lambda b: b"\x02" + b"\x00" * 7 + b"hello", "no whole safetensors file"),
}


@pytest.mark.parametrize(
    ("cut", "message"), [pytest.param(*case, id=name) for name, case in CUTS.items()]
)
def test_weights_that_are(model: Path, cut: Callable[[bytes], bytes], message: str) -> None:
    file = model / "model.safetensors"
    file.write_bytes(cut(file.read_bytes()))
    with pytest.raises(ModelError, match=message):
        read_headers(model)


def test_headers_tell_every_tensor(original: Path) -> None:
    from safetensors import safe_open

    with safe_open(original / "model.safetensors", framework="np") as opened:
        expected = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    found = read_headers(original)
    assert {name: tensor.shape for name, tensor in found.items()} == expected
    assert {tensor.dtype for tensor in found.values()} == {"F32"}


SOURCES: dict[str, dict[str, object]] = {
    "a path beside the job file": {"uri": "models/bert"},
    "a file uri": {"uri": "file://BASE/models/bert"},
    "a bundle": {"from": {"bundle": "models/bert"}},
}


@pytest.mark.parametrize("given", [pytest.param(s, id=name) for name, s in SOURCES.items()])
def test_a_model_is_found(tmp_path: Path, given: dict[str, object]) -> None:
    text = json.dumps(given).replace("BASE", str(tmp_path))
    found = find_model(ModelSpec.model_validate(json.loads(text)), tmp_path)
    assert found.path == tmp_path / "models" / "bert"


def test_a_job_has_to_be_looked_up_first(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has not been looked up"):
        find_model(ModelSpec.model_validate({"from": {"job": "earlier"}}), tmp_path)


def test_a_folder_under_name_is_pointed_out(model: Path) -> None:
    with pytest.raises(ModelError) as raised:
        find_model(ModelSpec(name=model.name), model.parent)
    assert "is a folder beside the job file" in raised.value.message
    assert "set model: {uri: bert}" in raised.value.remedy


def test_a_hub_model_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for revision in (None, "a" * 40):
        with pytest.raises(ModelError) as raised:
            find_model(ModelSpec(name="nobody/nothing-of-this", revision=revision), tmp_path)
        assert "cannot fetch 'nobody/nothing-of-this' from the hub" in raised.value.message
        assert "model.uri" in raised.value.remedy


def hub_snapshot(model: Path, cache: Path, commit: str) -> None:
    """The layout in which huggingface_hub keeps a model."""
    repository = cache / "models--someone--tiny"
    shutil.copytree(model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


@pytest.mark.parametrize(
    "revision", [pytest.param(None, id="newest"), pytest.param("c" * 40, id="pinned")]
)
def test_a_hub_model_that_is_here_needs_no_network(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub_snapshot(model, tmp_path / "cache", "c" * 40)
    found = find_model(ModelSpec(name="someone/tiny", revision=revision), tmp_path)
    assert found.revision == "c" * 40
    assert found.source == "someone/tiny"
    check_model(found.path)


EDITS: dict[str, tuple[Break, bool, bool]] = {
    "weights": (lambda m: append(m / "model.safetensors"), True, False),
    "configuration": (lambda m: edit_config(m, layer_norm_eps=0.5), True, False),
    "the tokenizer": (lambda m: append(m / "tokenizer.json"), True, True),
    "a chat template": (lambda m: (m / "chat_template.jinja").write_text("x"), True, True),
    "the model card": (lambda m: (m / "README.md").write_text("new"), False, False),
}


@pytest.mark.parametrize(
    ("edit", "in_model", "in_tokenizer"),
    [pytest.param(*case, id=name) for name, case in EDITS.items()],
)
def test_the_digest_covers_what_affects_answers(
    model: Path, tmp_path: Path, edit: Break, in_model: bool, in_tokenizer: bool
) -> None:
    cache = tmp_path / "cache"
    before = digest_model(model, cache)
    assert before == digest_model(model)
    edit(model)
    after = digest_model(model, cache)
    assert (after.model != before.model) is in_model
    assert (after.tokenizer != before.tokenizer) is in_tokenizer

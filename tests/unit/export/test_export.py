"""A bundle in the forms that others read: whole, proved, and never over something else."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tunefleet.api.errors import MachineError, ModelError, SpecError, StorageError
from tunefleet.cli.main import run_command
from tunefleet.evaluate.golden import read_batch
from tunefleet.evaluate.predictor import Predictor
from tunefleet.export import oci, onnx
from tunefleet.storage.bundle import bundle_digest, open_bundle
from tunefleet.verbs.export import export


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# -- hf --------------------------------------------------------------------------------------


def test_the_plain_folder_loads_with_transformers_and_holds_nothing_of_ours(
    classifier: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    done = export(classifier, "hf", tmp_path / "out")
    assert names(tmp_path / "out") == {
        n for n in names(classifier) if not n.startswith("tunefleet/")
    }
    assert "README.md" in names(tmp_path / "out")
    assert (done.files, done.digest) == (len(names(tmp_path / "out")), bundle_digest(classifier))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.num_labels == 3
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) > 0


def test_with_the_side_car_it_is_a_bundle_again(classifier: Path, tmp_path: Path) -> None:
    export(classifier, "hf", tmp_path / "out", sidecar=True)
    assert bundle_digest(open_bundle(tmp_path / "out")) == bundle_digest(classifier)


# -- places ----------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_replaced_only_by_force(
    classifier: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(classifier, "hf", out)  # an empty one is fine
    (out / "mine.txt").write_text("keep me")
    with pytest.raises(SpecError, match="is not empty; it was left as it is"):
        export(classifier, "hf", out)
    assert (out / "mine.txt").read_text() == "keep me"
    export(classifier, "hf", out, force=True)
    assert not (out / "mine.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("where", [".", "..", "inside/of/it"])
def test_the_bundle_itself_is_never_written_over(classifier: Path, where: str) -> None:
    before = names(classifier)
    with pytest.raises(SpecError, match="the bundle's own folder"):
        export(classifier, "hf", classifier / where, force=True)
    assert names(classifier) == before


@pytest.mark.parametrize(
    ("to", "options", "says"),
    [
        ("hf", {}, "--to hf needs a folder"),
        ("hf", {"out": "a", "repo": "a/b"}, "--repo has no effect with --to hf"),
        ("hf", {"out": "a", "public": True}, "--public has no effect with --to hf"),
        ("oci", {"out": "a", "sidecar": True}, "--with-sidecar has no effect with --to oci"),
        ("hub", {}, "needs a repository"),
        ("hub", {"repo": "a/b", "out": "c"}, "--out has no effect with --to hub"),
        ("pickle", {"out": "a"}, "'pickle' is no form of a model"),
        ("oci", {"out": "oci://registry.example.com/a:b"}, "is a registry"),
    ],
)
def test_an_option_without_effect_is_refused(
    classifier: Path, to: str, options: dict[str, str], says: str
) -> None:
    with pytest.raises(SpecError, match=says):
        export(classifier, to, **options)  # type: ignore[arg-type]  # a table of all of them


@pytest.mark.parametrize("to", ["hf", "onnx", "gguf", "oci", "hub"])
def test_a_bundle_that_was_changed_is_refused(classifier: Path, tmp_path: Path, to: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(classifier, copy)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\1\2\3\4")
    place = {"repo": "a/b"} if to == "hub" else {"out": str(tmp_path / "out")}
    with pytest.raises(ModelError, match=r"was changed after it was made: model\.safetensors"):
        export(copy, to, **place)  # type: ignore[arg-type]  # as above
    assert not (tmp_path / "out").exists()


# -- gguf ------------------------------------------------------------------------------------


def test_gguf_is_refused_with_the_reason_and_what_to_do(classifier: Path, writer: Path) -> None:
    with pytest.raises(ModelError) as caught:
        export(classifier, "gguf")
    assert "BertForSequenceClassification) has no GGUF form" in caught.value.message
    with pytest.raises(ModelError) as caught:
        export(writer, "gguf", "tiny.gguf")
    assert "llama.cpp's own script" in caught.value.message
    assert caught.value.remedy.endswith("convert_hf_to_gguf.py hf-folder --outfile tiny.gguf")
    assert f"tunefleet export {writer} --to hf --out hf-folder" in caught.value.remedy


# -- oci -------------------------------------------------------------------------------------


def test_an_oci_layout_holds_every_file_under_its_digest(classifier: Path, tmp_path: Path) -> None:
    done = export(classifier, "oci", tmp_path / "a")
    layout = json.loads((tmp_path / "a" / "oci-layout").read_text())
    assert layout == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((tmp_path / "a" / "index.json").read_text())["manifests"]
    blobs = tmp_path / "a" / "blobs" / "sha256"
    for blob in blobs.iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_text())
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["annotations"]["dev.tunefleet.bundle.digest"] == bundle_digest(classifier)
    assert entry["digest"] in done.checked
    found = {
        layer["annotations"]["org.cncf.model.filepath"]: (layer["digest"], layer["mediaType"])
        for layer in manifest["layers"]
    }
    assert set(found) == names(classifier)
    for name, (digest, _) in found.items():
        body = (blobs / digest.removeprefix("sha256:")).read_bytes()
        assert body == (classifier / name).read_bytes()
    kind = found["model.safetensors"][1]
    assert kind == "application/vnd.cncf.model.weight.v1.raw"
    assert found["README.md"][1] == "application/vnd.cncf.model.doc.v1.raw"
    export(classifier, "oci", tmp_path / "b")
    assert (tmp_path / "b" / "index.json").read_bytes() == (
        tmp_path / "a" / "index.json"
    ).read_bytes()


def test_a_layout_that_was_damaged_is_noticed(classifier: Path, tmp_path: Path) -> None:
    export(classifier, "oci", tmp_path / "a")
    assert oci.check_layout(tmp_path / "a") == len(names(classifier)) + 2
    largest = max((tmp_path / "a" / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    with largest.open("r+b") as file:
        file.write(b"\0\1")
    with pytest.raises(StorageError, match="is not what its descriptor says"):
        oci.check_layout(tmp_path / "a")


# -- onnx ------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["classifier", "writer"])
def test_onnx_answers_as_the_bundle_for_any_batch_and_length(
    request: pytest.FixtureRequest, tmp_path: Path, which: str
) -> None:
    import onnxruntime
    import torch

    bundle: Path = request.getfixturevalue(which)
    done = export(bundle, "onnx", tmp_path / "out")
    assert "reproduces the golden batch" in done.checked
    assert "model.safetensors" not in names(tmp_path / "out")
    assert {"config.json", "model.onnx", "tokenizer.json"} <= names(tmp_path / "out")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "out" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    wanted = [one.name for one in session.get_inputs()]
    assert all(one.shape == ["batch", "length"] for one in session.get_inputs())
    model = Predictor.open(bundle, device="cpu").model
    golden = read_batch(bundle)
    for rows, length in ((1, 3), (3, 17), (8, 40)):
        given = {name: golden[name][:1, :1].expand(rows, length).contiguous() for name in wanted}
        given["input_ids"] = torch.arange(rows * length).reshape(rows, length) % 40 + 5
        given["attention_mask"] = torch.ones(rows, length, dtype=golden["attention_mask"].dtype)
        with torch.no_grad():
            expected = model(**given).logits.numpy()
        (found,) = session.run(["logits"], {name: value.numpy() for name, value in given.items()})
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_graph_that_answers_otherwise_is_not_called_done(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that is one part in a hundred off in place of the one that was exported."""
    from torch import nn

    model = Predictor.open(classifier, device="cpu").model

    class Off(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs: object) -> SimpleNamespace:
            return SimpleNamespace(logits=self.model(**inputs).logits * 1.01)

    monkeypatch.setattr(onnx, "_export", lambda model, inputs, path: path.touch())
    monkeypatch.setattr(onnx, "_graph_module", lambda path, names: Off())
    with pytest.raises(ModelError, match="does not reproduce its golden batch"):
        export(classifier, "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_packages_is_refused_with_how_to_install_them(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def find(name: str) -> ModuleSpec | None:
        return None if name == "onnxruntime" else found(name)

    monkeypatch.setattr(onnx, "find_spec", find)
    with pytest.raises(MachineError, match=r"onnxruntime not installed") as caught:
        export(classifier, "onnx", tmp_path / "out")
    assert caught.value.remedy == "pip install 'tunefleet[export]'"


# -- the command -----------------------------------------------------------------------------


def test_the_command_says_what_it_made_as_text_and_as_json(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["export", str(classifier), "--to", "hf", "--out", str(tmp_path / "a")]) == 0
    assert str(tmp_path / "a") in capsys.readouterr().out
    arguments = ["export", str(classifier), "--to", "oci", "--out", str(tmp_path / "b"), "--json"]
    assert run_command(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["to"], found["out"]) == ("oci", str(tmp_path / "b"))
    assert run_command(arguments) == 2
    assert "not empty" in json.loads(capsys.readouterr().out)["error"]["message"]

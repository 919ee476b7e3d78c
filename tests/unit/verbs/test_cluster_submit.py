"""From a job file to what a cluster is given: checked, uploaded, applied."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.verbs.fake_cluster import FakeClient, cluster, condition
from tunefleet.api.errors import ClusterError, DataError, SpecError
from tunefleet.data.cache import digest_file
from tunefleet.verbs.cluster import uploads
from tunefleet.verbs.cluster.submit import ready, submit
from tunefleet.verbs.locate import read_document

JOB = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {name: reviews}
spec:
  task: text-classification
  model: {name: google-bert/bert-base-uncased}
  data:
    train: {uri: films.csv}
    columns: {text: text, label: label}
  checkpoints: {uri: "s3://models/runs/"}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEFLEET_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "films.csv").write_text("text,label\nfine,good\ndull,bad\n")
    (folder / "job.yaml").write_text(JOB)
    return folder


def spec_of(manifest: Any) -> Any:
    return manifest["spec"]


def test_a_local_file_is_replaced_by_where_its_content_will_lie(here: Path) -> None:
    found = ready(here / "job.yaml")
    sha = digest_file(here / "films.csv")
    uri = f"s3://models/runs/_uploads/sha256-{sha}/films.csv"
    assert spec_of(found.manifest)["data"]["train"] == {"uri": uri}
    assert [file.path for each in found.uploads for file in each.files] == [here / "films.csv"]


def test_what_the_file_leaves_open_is_left_to_the_cluster(here: Path) -> None:
    spec = spec_of(ready(here / "job.yaml", ["training.epochs=2"]).manifest)
    assert set(spec) == {"task", "model", "data", "checkpoints", "training"}
    assert spec["training"] == {"epochs": 2}
    assert set(spec["data"]) == {"train", "columns"}


def test_the_place_of_uploads_can_be_named(here: Path) -> None:
    found = ready(here / "job.yaml", upload="gs://data/of-mine/")
    assert spec_of(found.manifest)["data"]["train"]["uri"].startswith("gs://data/of-mine/sha256-")


def test_the_same_content_has_the_same_place_whatever_its_folder(here: Path) -> None:
    before = ready(here / "job.yaml").manifest
    (here / "films.csv").touch()
    assert ready(here / "job.yaml").manifest == before
    (here / "films.csv").write_text("text,label\nother,good\n")
    assert ready(here / "job.yaml").manifest != before


def test_several_files_become_one_pattern_in_their_order(here: Path) -> None:
    for name in ("b [1].csv", "a.csv"):
        (here / name).write_text("text,label\nx,y\n")
    found = ready(here / "job.yaml", ['data.train.uri=["b [[]1].csv", "?.csv"]'])
    (upload,) = found.uploads
    folder = upload.files[0].key.partition("/")[0]
    assert upload.uri == f"s3://models/runs/_uploads/{folder}/*"
    assert [file.key for file in upload.files] == [
        f"{folder}/00000-b__1_.csv",
        f"{folder}/00001-a.csv",
    ]


def test_a_models_folder_goes_without_pickles_and_hidden_files(here: Path) -> None:
    from tests.unit.verbs.small_model import small_model

    small_model(here / "base")
    (here / "base" / "pytorch_model.bin").write_bytes(b"pickle")
    (here / "base" / ".git").mkdir()
    (here / "base" / ".git" / "HEAD").write_text("x")
    found = ready(here / "job.yaml", ["model={uri: base}"])
    (model, _) = found.uploads
    assert model.field == "spec.model.uri"
    assert model.uri.endswith("/base")
    names = {file.key.rpartition("/")[2] for file in model.files}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}
    assert spec_of(found.manifest)["model"] == {"uri": model.uri}


REFUSED = {
    "no place for runs": ("checkpoints=null", "spec.checkpoints.uri", "is missing"),
    "runs on this machine": ("checkpoints.uri=runs", "spec.checkpoints.uri", "no object store"),
    "a volume claim": ("data.train.uri=pvc://x/y", "spec.data.train.uri", "no object store"),
    "some files here and some there": (
        'data.train.uri=["s3://a/b.csv", films.csv]',
        "spec.data.train.uri",
        "one text",
    ),
    "a gate": ("serving={gate: {metric: accuracy, min: 0.5}}", "spec.serving", "not supported"),
}


@pytest.mark.parametrize(("override", "where", "says"), REFUSED.values(), ids=REFUSED)
def test_what_a_cluster_cannot_honour_is_refused_with_its_line(
    here: Path, override: str, where: str, says: str
) -> None:
    with pytest.raises(SpecError) as caught:
        ready(here / "job.yaml", [override])
    (problem,) = caught.value.problems
    assert problem.where == where
    assert says in problem.message
    assert problem.file.startswith("--set") or problem.line is not None


def test_a_wrong_file_is_told_with_what_stands_near(here: Path) -> None:
    with pytest.raises(DataError, match=r"no file matches film\.csv"):
        ready(here / "job.yaml", ["data.train.uri=film.csv"])


def test_a_name_of_the_hub_that_is_a_folder_here_is_not_what_a_pod_would_find(here: Path) -> None:
    (here / "imdb").mkdir()
    with pytest.raises(DataError, match="a name of the hub to a cluster"):
        ready(here / "job.yaml", ["data.train={hub: {name: imdb}}"])


@pytest.mark.parametrize(
    ("upload", "overrides", "says"),
    [
        pytest.param("uploads", [], "lies in no object store", id="a place on this machine"),
        pytest.param("s3://x/y", ["data.train.uri=s3://a/b.csv"], "no effect", id="nothing local"),
    ],
)
def test_a_place_of_uploads_that_makes_no_sense_is_refused(
    here: Path, upload: str, overrides: list[str], says: str
) -> None:
    with pytest.raises(SpecError, match=says):
        ready(here / "job.yaml", overrides, upload=upload)


def test_two_namespaces_are_a_contradiction(here: Path) -> None:
    assert ready(here / "job.yaml").namespace is None
    assert ready(here / "job.yaml", namespace="research").namespace == "research"
    with pytest.raises(SpecError, match=r"the file says metadata\.namespace: other"):
        ready(here / "job.yaml", ["metadata.namespace=other"], namespace="research")


def test_a_fresh_name_is_another_each_time_and_not_too_long(here: Path) -> None:
    long = "a" * 63
    names = {
        ready(here / "job.yaml", [f"metadata.name={long}"], fresh_name=True).name for _ in range(9)
    }
    assert len(names) == 9
    assert all(len(name) == 63 and name.startswith("a" * 57 + "-") for name in names)


def test_a_dry_run_is_yaml_that_reads_back(here: Path) -> None:
    found = ready(here / "job.yaml", ["training.optimizer.learningRate=1e-5"])
    assert read_document(found.to_yaml(), "x").value == found.manifest


# -- uploading -------------------------------------------------------------------------


def test_content_is_uploaded_once(here: Path, tmp_path: Path) -> None:
    place = (tmp_path / "store").as_uri()
    (upload,) = ready(here / "job.yaml").uploads
    assert uploads.send([upload], place) == len((here / "films.csv").read_bytes())
    kept = tmp_path / "store" / upload.files[0].key
    assert kept.read_bytes() == (here / "films.csv").read_bytes()
    assert uploads.send([upload], place) == 0
    kept.write_bytes(b"half")
    assert uploads.send([upload], place) > 0


def test_a_file_that_changes_on_its_way_is_not_left_under_the_old_digest(
    here: Path, tmp_path: Path
) -> None:
    (upload,) = ready(here / "job.yaml").uploads
    (here / "films.csv").write_text("text,label\nfine,good\ndull,odd\n")
    with pytest.raises(DataError, match="changed while it was uploaded"):
        uploads.send([upload], (tmp_path / "store").as_uri())
    assert not (tmp_path / "store" / upload.files[0].key).exists()


# -- applying --------------------------------------------------------------------------


def remote(here: Path, *more: str) -> Any:
    return ready(here / "job.yaml", ["data.train.uri=s3://a/b.csv", *more])


def test_a_job_is_applied_under_the_commands_own_name(here: Path) -> None:
    client = FakeClient()
    done = asyncio.run(submit(cluster(client), remote(here)))
    assert (done.made, done.changed, done.uploaded_bytes) == (True, True, 0)
    ((what, name, body),) = client.written
    assert (what, name) == ("apply as tunefleet-cli in research", "reviews")
    assert json.loads(json.dumps(body)) == remote(here).manifest


def test_the_same_job_again_is_told_to_be_there(here: Path) -> None:
    client = FakeClient()
    asyncio.run(submit(cluster(client), remote(here)))
    again = asyncio.run(submit(cluster(client), remote(here)))
    assert (again.made, again.changed) == (False, False)
    budget = remote(here, "budget={maxDuration: 2h}")
    assert asyncio.run(submit(cluster(client), budget)).changed


def test_a_job_that_has_ended_is_not_applied_again(here: Path) -> None:
    client = FakeClient()
    asyncio.run(submit(cluster(client), remote(here)))
    told = [condition("Succeeded", "True", "Finished")]
    client.objects["finetunejobs", "reviews"]["status"] = {"phase": "Succeeded", "conditions": told}
    with pytest.raises(
        ClusterError, match=r"is there already and has ended \(Succeeded\)"
    ) as caught:
        asyncio.run(submit(cluster(client), remote(here)))
    assert "--fresh-name" in caught.value.remedy
    assert len(client.written) == 1

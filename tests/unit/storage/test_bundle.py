"""A bundle's digest covers what affects answers; a changed bundle is never opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.storage.harness import Killed, mortal_memory, new_run
from tunefleet.api.errors import ModelError, StorageError
from tunefleet.storage.bundle import (
    Bundle,
    bundle_digest,
    open_bundle,
    publish,
    seal,
)
from tunefleet.storage.run import RunStore
from tunefleet.storage.store import Store

FACTS = {"task": "text-classification", "baseModel": "tiny"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    (made / "tunefleet").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"w" * 1000)
    (made / "tunefleet" / "golden.json").write_text("[]")
    return made


def write(name: str, text: str = "x") -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return change


def flip(folder: Path) -> None:
    body = bytearray((folder / "model.safetensors").read_bytes())
    body[500] ^= 1
    (folder / "model.safetensors").write_bytes(body)


def rename(folder: Path) -> None:
    (folder / "config.json").rename(folder / "settings.json")


CHANGES = [
    pytest.param(flip, "model.safetensors", id="a flipped bit"),
    pytest.param(write("config.json", "{ }"), "config.json", id="a rewritten file"),
    pytest.param(write("tunefleet/golden.json"), "tunefleet/golden.json", id="another golden"),
    pytest.param(write("added_tokens.json"), "added_tokens.json was added", id="a new file"),
    pytest.param(write("docs/README.md"), "docs/README.md was added", id="a nested read-me"),
    pytest.param(
        lambda folder: (folder / "config.json").unlink(), "config.json is missing", id="a lost file"
    ),
    pytest.param(rename, "config.json is missing", id="a renamed file"),
]
HARMLESS = [
    pytest.param(write("README.md", "# card"), id="the model card"),
    pytest.param(write(".DS_Store"), id="a file manager's file"),
    pytest.param(write(".cache/huggingface/x.lock"), id="a hidden folder"),
]


@pytest.mark.parametrize("change, says", CHANGES)
def test_a_changed_bundle_is_refused_and_its_digest_is_another(
    folder: Path, change: Callable[[Path], object], says: str
) -> None:
    digest = seal(folder, FACTS)
    change(folder)
    with pytest.raises(ModelError, match=f"was changed after it was made: {says}") as caught:
        open_bundle(folder)
    assert caught.value.remedy
    assert seal(folder, FACTS) != digest


@pytest.mark.parametrize("change", HARMLESS)
def test_what_affects_no_answer_changes_no_digest(
    folder: Path, change: Callable[[Path], object]
) -> None:
    digest = seal(folder, FACTS)
    change(folder)
    assert open_bundle(folder) == folder
    assert seal(folder, FACTS) == digest


def test_the_seal_carries_facts_and_does_not_depend_on_them(folder: Path) -> None:
    one = seal(folder, FACTS)
    assert seal(folder, {"task": "other"}) == one
    record = json.loads((folder / "tunefleet" / "bundle.json").read_text())
    assert record["version"] == 1
    assert record["digest"] == one == bundle_digest(folder)
    assert record["task"] == "other"
    assert record["files"]["model.safetensors"]["size"] == 1000
    assert sorted(record["files"]) == ["config.json", "model.safetensors", "tunefleet/golden.json"]
    with pytest.raises(ValueError, match="digest"):
        seal(folder, {"digest": "mine"})


def test_the_digest_is_of_names_and_contents_and_not_of_place_or_time(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere"
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    assert seal(copy, FACTS) == seal(folder, FACTS)


def test_a_bundle_is_opened_by_path_text_or_uri(folder: Path) -> None:
    seal(folder, {})
    assert open_bundle(folder) == open_bundle(str(folder)) == open_bundle(folder.as_uri()) == folder


@pytest.mark.parametrize(
    "location, says",
    [
        ("s3://bucket/x", "not on this machine"),
        ("file://host/x", "not on this machine"),
        ("/nowhere/at/all", "no such folder"),
    ],
)
def test_a_place_without_a_bundle_is_named(location: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        open_bundle(location)
    assert caught.value.remedy


def test_a_model_folder_without_a_seal_is_no_bundle(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no bundle"):
        open_bundle(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no files"):
        seal(tmp_path / "empty", {})


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"version": 1}', '{"digest": "sha256:0", "files": []}',
     '{"digest": "sha256:0", "files": {"config.json": 1}}'],
)  # fmt: skip
def test_a_damaged_seal_is_named(folder: Path, text: str) -> None:
    seal(folder, {})
    (folder / "tunefleet" / "bundle.json").write_text(text)
    with pytest.raises(ModelError, match=r"made: tunefleet/bundle\.json"):
        open_bundle(folder)


def test_a_digest_altered_in_the_seal_is_found(folder: Path) -> None:
    digest = seal(folder, {})
    path = folder / "tunefleet" / "bundle.json"
    path.write_text(path.read_text().replace(digest, "sha256:" + "0" * 64))
    with pytest.raises(ModelError, match=r"made: tunefleet/bundle\.json"):
        open_bundle(folder)


def test_a_bundle_of_a_newer_version_is_refused_with_that_reason(folder: Path) -> None:
    seal(folder, {})
    (folder / "tunefleet" / "bundle.json").write_text('{"version": 2}')
    with pytest.raises(StorageError, match="newer tunefleet"):
        open_bundle(folder)


def test_a_published_bundle_is_the_same_bundle(disk: Store, folder: Path) -> None:
    digest = seal(folder, FACTS)
    write("README.md", "# card")(folder)
    run = new_run(disk)
    found = publish(run, folder)
    place = disk.local_path(run.key("bundle", digest[7:19]))
    assert place is not None
    assert found == Bundle(
        uri=place.as_uri(),
        path=str(place),
        digest=digest,
        bytes=sum(path.stat().st_size for path in place.rglob("*") if path.is_file()),
    )
    assert open_bundle(found.path) == place
    assert (place / "README.md").read_text() == "# card"
    assert publish(run, folder) == found


def test_a_bundle_is_published_to_a_store_without_folders(folder: Path, tmp_path: Path) -> None:
    seal(folder, FACTS)
    run = new_run(mortal_memory())
    found = publish(run, folder)
    assert found.path == ""
    run.store.download(found.uri.removeprefix(run.store.uri + "/"), tmp_path / "copy")
    assert open_bundle(tmp_path / "copy") == tmp_path / "copy"


def test_a_changed_folder_is_not_published(run: RunStore, folder: Path) -> None:
    seal(folder, FACTS)
    flip(folder)
    with pytest.raises(ModelError, match="was changed"):
        publish(run, folder)
    assert run.store.list(run.key("bundle")) == []


@pytest.mark.parametrize("writes", range(4))
def test_a_kill_while_publishing_leaves_no_bundle_and_is_mended_by_publishing_again(
    folder: Path, tmp_path: Path, writes: int
) -> None:
    digest = seal(folder, FACTS)
    store = mortal_memory()
    run = new_run(store)
    store.fuse = writes
    with pytest.raises(Killed):
        publish(run, folder)
    store.fuse = None
    prefix = run.key("bundle", digest[7:19])
    assert not store.exists(f"{prefix}/tunefleet/bundle.json")
    publish(run, folder)
    store.download(prefix, tmp_path / "copy")
    assert bundle_digest(open_bundle(tmp_path / "copy")) == digest

"""Remote stores: a real S3 server, credentials from where they belong, and every wrong door."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from obstore.store import AzureStore, GCSStore

from tests.testbed.answering import store_without_conditions, web_page
from tests.testbed.s3 import Keys, S3Server, s3_server
from tunefleet.api.errors import StorageError
from tunefleet.storage import connect
from tunefleet.storage.connect import Patience, credentials_source, s3_credentials
from tunefleet.storage.probe import probe
from tunefleet.storage.store import MissingError, Store, open_store

CANARY = "canary-0d0e0a0d-secret"
Environment = Callable[..., None]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is not there is given up after a second."""
    seconds = {Patience.SHORT: 1, Patience.LONG: 150}
    monkeypatch.setattr(Patience, "seconds", property(seconds.__getitem__))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Nothing of this machine's credentials, and what a test sets."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture
def remote(s3: S3Server, environment: Environment, request: pytest.FixtureRequest) -> Store:
    """A store on the server, under a prefix of its own with odd characters."""
    environment(**s3.environment())
    return open_store(s3.uri(f"a b/ü%41/{abs(hash(request.node.nodeid))}"), Path.cwd())


# -- a real server -------------------------------------------------------------------------


def test_s3_keeps_lists_and_deletes_what_was_put(remote: Store) -> None:
    for key in ("run/b", "run/a/z", "run-2/a", "other one+%20&=ü"):
        remote.put(key, b"12")
    assert remote.list("run") == [("run/a/z", 2), ("run/b", 2)]
    assert [key for key, _ in remote.list("")] == [
        "other one+%20&=ü",
        "run-2/a",
        "run/a/z",
        "run/b",
    ]
    assert remote.folders("") == ["run", "run-2"]
    assert remote.get("other one+%20&=ü") == b"12"
    assert remote.exists("run/b")
    assert not remote.exists("run")
    remote.delete(["run/b", "run/nothing"])
    remote.delete_folder("run")
    assert remote.list("run") == []
    assert remote.local_path("run") is None


def test_s3_creates_once_and_says_who_was_first(remote: Store) -> None:
    assert remote.create("CLAIM", b"mine")
    assert not remote.create("CLAIM", b"yours")
    assert remote.create("CLAIM", b"mine")  # a try of ours whose answer was lost
    assert remote.get("CLAIM") == b"mine"


def test_of_many_writers_of_one_s3_claim_one_wins(remote: Store) -> None:
    won: list[int] = []
    gate = threading.Barrier(8)

    def attempt(me: int) -> None:
        store = pickle.loads(pickle.dumps(remote))
        gate.wait()
        if store.create("claim", str(me).encode()):
            won.append(me)

    threads = [threading.Thread(target=attempt, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [remote.get("claim")] == [str(me).encode() for me in won]


@pytest.mark.parametrize("kind", ["memoryview", "file"])
@pytest.mark.parametrize("size", [0, 8 << 20, (20 << 20) + 7], ids=["empty", "a part", "parts"])
def test_a_large_object_goes_in_parts_and_comes_back_in_pieces(
    remote: Store, tmp_path: Path, kind: str, size: int
) -> None:
    body = os.urandom(1 << 20) * (size >> 20) + bytes(size & 0xFFFFF)
    (tmp_path / "source").write_bytes(body)
    sent = memoryview(body) if kind == "memoryview" else tmp_path / "source"
    wanted = (size, hashlib.sha256(body).hexdigest())
    assert remote.write("x", sent) == wanted
    assert remote.digest("x") == wanted
    assert remote.get("x") == body
    remote.download("", tmp_path / "copy")
    assert (tmp_path / "copy" / "x").read_bytes() == body


def test_an_object_replaced_while_it_is_read_is_an_error_and_not_a_mixture(remote: Store) -> None:
    remote.put("x", memoryview(b"1" * (96 << 20)))
    chunks = remote.stream("x")
    next(chunks)
    remote.put("x", memoryview(b"2" * (96 << 20)))
    with pytest.raises(StorageError):
        list(chunks)


def test_a_missing_object_of_s3_is_a_missing_error(remote: Store) -> None:
    remote.put("x", b"1")
    with pytest.raises(MissingError, match="nothing/here"):
        remote.get("nothing/here")


def test_s3_passes_the_probe_which_leaves_nothing(remote: Store) -> None:
    facts = probe(remote)
    assert facts.conditional_put
    assert facts.uri == remote.uri
    assert remote.list("") == []


# -- a store that is away ------------------------------------------------------------------


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that tests stop and pause."""
    with s3_server(tmp_path_factory.mktemp("mortal")) as server:
        yield server


def test_a_store_that_has_answered_is_waited_for(
    mortal: S3Server, environment: Environment
) -> None:
    environment(**mortal.environment())
    store = open_store(mortal.uri("away"), Path.cwd())
    store.put("before", b"1")
    mortal.stop()
    done: list[object] = []

    def use() -> None:
        store.put("while", b"2")
        done.append(store.get("before"))
        done.append(store.create("claim", b"3"))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(2)
    assert thread.is_alive(), "it gave up"
    mortal.start()
    thread.join(60)
    assert done == [b"1", True]
    assert store.get("while") == b"2"


def test_a_store_that_hangs_is_given_up_at_the_stated_time(
    mortal: S3Server, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(**mortal.environment())
    monkeypatch.setattr(connect, "TRY_SECONDS", 1)
    store = open_store(mortal.uri("hangs"), Path.cwd())
    mortal.pause()
    try:
        began = time.monotonic()
        with pytest.raises(StorageError, match="cannot read x") as caught:
            store.get("x")
        assert time.monotonic() - began < 15
        assert "cannot be reached" in caught.value.remedy
    finally:
        mortal.resume()


def test_a_store_that_was_waited_for_in_vain_is_not_waited_for_as_long_again(
    mortal: S3Server, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it answers: what follows a failed write shall not multiply the time."""
    seconds = {Patience.SHORT: 1, Patience.LONG: 4}
    monkeypatch.setattr(Patience, "seconds", property(seconds.__getitem__))
    environment(**mortal.environment())
    store = open_store(mortal.uri("in-vain"), Path.cwd())

    def in_vain() -> float:
        began = time.monotonic()
        with pytest.raises(StorageError, match="cannot write"):
            store.put("while", b"2")
        return time.monotonic() - began

    waited = []
    for _ in range(2):
        store.put("before", b"1")
        mortal.stop()
        try:
            waited += [in_vain(), in_vain()]
        finally:
            mortal.start()
    assert min(waited[0], waited[2]) >= seconds[Patience.LONG]
    assert max(waited[1], waited[3]) < seconds[Patience.LONG]


def test_the_stated_times_ride_out_a_minute() -> None:
    assert connect.TRY_SECONDS == 60
    assert connect.connect.__module__ == connect.__name__
    text = connect.__doc__ or ""
    assert "for 15 s" in text
    assert "for 150 s" in text
    assert "210 s" in text


# -- wrong doors ---------------------------------------------------------------------------


def _no_bucket(s3: S3Server) -> tuple[str, dict[str, str]]:
    return s3.uri("runs", bucket="no-such-bucket"), s3.environment()


def _read_only(s3: S3Server) -> tuple[str, dict[str, str]]:
    return s3.uri("runs"), s3.environment(s3.reader)


def _wrong_secret(s3: S3Server) -> tuple[str, dict[str, str]]:
    return s3.uri("runs"), s3.environment(Keys(s3.keys.access, CANARY))


def _wrong_key(s3: S3Server) -> tuple[str, dict[str, str]]:
    return s3.uri("runs"), s3.environment(Keys("nobody", CANARY))


def _nobody_there(s3: S3Server) -> tuple[str, dict[str, str]]:
    return s3.uri("runs"), s3.environment() | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}


def _no_keys(s3: S3Server) -> tuple[str, dict[str, str]]:
    return s3.uri("runs"), {"AWS_EC2_METADATA_DISABLED": "true"}


@pytest.mark.parametrize(
    "door, says, remedy",
    [
        pytest.param(_no_bucket, "NoSuchBucket", "make it first", id="no bucket"),
        pytest.param(_read_only, "AccessDenied", "mend the rights", id="a read-only key"),
        pytest.param(_wrong_secret, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY", id="secret"),
        pytest.param(_wrong_key, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID", id="key"),
        pytest.param(_nobody_there, "error sending", "cannot be reached", id="nobody answers"),
        pytest.param(_no_keys, "no credentials", "AWS_PROFILE", id="no keys"),
    ],
)
def test_a_wrong_door_is_named_with_its_remedy_and_without_the_secret(
    s3: S3Server,
    environment: Environment,
    door: Callable[[S3Server], tuple[str, dict[str, str]]],
    says: str,
    remedy: str,
) -> None:
    uri, values = door(s3)
    environment(**values)
    store = open_store(uri, Path.cwd())
    with pytest.raises(StorageError, match=says) as caught:
        probe(store)
    assert not isinstance(caught.value, MissingError)
    assert caught.value.exit_code == 2
    assert remedy in caught.value.remedy
    for secret in (CANARY, s3.keys.secret, s3.reader.secret):
        assert secret not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda store: store.list(""), id="list"),
        pytest.param(lambda store: store.folders(""), id="folders"),
        pytest.param(lambda store: store.get("x"), id="get"),
        pytest.param(lambda store: store.put("x", b"1"), id="put"),
    ],
)
def test_a_missing_bucket_is_never_an_empty_one(
    s3: S3Server, environment: Environment, act: Callable[[Store], object]
) -> None:
    uri, values = _no_bucket(s3)
    environment(**values)
    with pytest.raises(StorageError, match="NoSuchBucket") as caught:
        act(open_store(uri, Path.cwd()))
    assert not isinstance(caught.value, MissingError)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(probe, id="probe"),
        pytest.param(lambda store: store.list(""), id="list"),
        pytest.param(lambda store: store.folders(""), id="folders"),
        pytest.param(lambda store: store.get("x"), id="get"),
        pytest.param(lambda store: store.put("x", b"1" * (9 << 20)), id="put in parts"),
        pytest.param(lambda store: store.delete(["x"]), id="delete"),
    ],
)
def test_a_web_page_is_no_object_store(
    environment: Environment, act: Callable[[Store], object]
) -> None:
    with web_page() as address:
        environment(AWS_ENDPOINT_URL=address, AWS_ACCESS_KEY_ID="me", AWS_SECRET_ACCESS_KEY=CANARY)
        with pytest.raises(StorageError) as caught:
            act(open_store("s3://bucket/runs", Path.cwd()))
    assert "no object store" in str(caught.value)
    assert "AWS_ENDPOINT_URL" in caught.value.remedy
    assert CANARY not in str(caught.value)


def test_a_store_without_conditional_writes_is_refused(environment: Environment) -> None:
    with store_without_conditions() as (address, kept):
        environment(AWS_ENDPOINT_URL=address, AWS_ACCESS_KEY_ID="me", AWS_SECRET_ACCESS_KEY=CANARY)
        with pytest.raises(StorageError, match="does not refuse a second conditional write"):
            probe(open_store("s3://bucket/runs", Path.cwd()))
        assert kept == {}


@pytest.mark.parametrize(
    "uri, says",
    [
        (f"s3://me:{CANARY}@bucket/runs", "holds a user or a key"),
        (f"s3://bucket/runs?secret={CANARY}", "neither"),
        ("s3:///runs", "names no bucket"),
        ("s3://bucket/../other", r"holds `\.` or `\.\.`"),
        ("s3://bucket/a/%2e%2e/other", r"holds `\.` or `\.\.`"),
        ("pvc://claim/path", "in a cluster only"),
    ],
)
def test_a_location_that_names_no_store_is_refused(uri: str, says: str) -> None:
    with pytest.raises(StorageError, match=says) as caught:
        open_store(uri, Path.cwd())
    assert caught.value.remedy
    assert CANARY not in str(caught.value)


# -- where credentials come from -----------------------------------------------------------

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": CANARY}


def test_a_profile_of_the_shared_files_is_used(s3: S3Server, environment: Environment) -> None:
    folder = Path.home() / ".aws"
    folder.mkdir()
    (folder / "config").write_text(
        f"[profile lab]\nregion = us-east-1\nendpoint_url = {s3.endpoint}/\n"
    )
    (folder / "credentials").write_text(
        f"[lab]\naws_access_key_id={s3.keys.access}\naws_secret_access_key={s3.keys.secret}\n"
    )
    environment(AWS_PROFILE="lab")
    uri = s3.uri("by-profile")
    store = open_store(uri, Path.cwd())
    store.put("x", b"1")
    assert store.get("x") == b"1"
    assert credentials_source(uri) == "the profile 'lab' of AWS's shared files"
    assert s3.keys.secret not in f"{s3_credentials(os.environ)}{store!r}"


@pytest.mark.parametrize(
    "values, files, source",
    [
        pytest.param(KEYS, {}, "the environment (AWS_ACCESS_KEY_ID)", id="keys"),
        pytest.param(
            KEYS | {"AWS_PROFILE": "gone"}, {}, "the environment", id="keys before a profile"
        ),
        pytest.param({"AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}, {}, "TOKEN_FILE", id="web identity"),
        pytest.param(
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://x"}, {}, "the container's", id="pod"
        ),
        pytest.param({}, {}, "the machine's own role", id="instance"),
        pytest.param({"AWS_SKIP_SIGNATURE": "true"}, {}, "not signed", id="public"),
        pytest.param(
            {},
            {"credentials": f"[default]\naws_access_key_id=i\naws_secret_access_key={CANARY}\n"},
            "the profile 'default'",
            id="the default profile",
        ),
    ],
)
def test_credentials_are_found_in_the_order_of_aws(
    environment: Environment, values: dict[str, str], files: dict[str, str], source: str
) -> None:
    (Path.home() / ".aws").mkdir()
    for name, text in files.items():
        (Path.home() / ".aws" / name).write_text(text)
    environment(**values)
    found = credentials_source("s3://bucket")
    assert source in found
    assert CANARY not in found


@pytest.mark.parametrize(
    "values, files, says, remedy",
    [
        pytest.param({"AWS_PROFILE": "gone"}, {}, "'gone'", "mend the name", id="no such profile"),
        pytest.param(
            {"AWS_PROFILE": "sso"},
            {"config": "[profile sso]\nsso_session = corp\n"},
            "a role, a login or a command",
            "aws configure export-credentials",
            id="a login",
        ),
        pytest.param(
            {}, {"credentials": CANARY}, "cannot be read", "mend it", id="a file of something else"
        ),
        pytest.param(
            KEYS | {"AWS_ENDPOINT_URL": f"http://me:{CANARY}@host"},
            {},
            "holds a user or a password",
            "AWS_ACCESS_KEY_ID",
            id="a password in the endpoint",
        ),
        pytest.param(
            KEYS | {"AWS_ENDPOINT_URL": "host:9000"},
            {},
            "is no address",
            "https://",
            id="no scheme",
        ),
    ],
)
def test_credentials_that_cannot_be_used_are_told_before_anything_is_asked(
    environment: Environment,
    values: dict[str, str],
    files: dict[str, str],
    says: str,
    remedy: str,
) -> None:
    (Path.home() / ".aws").mkdir()
    for name, text in files.items():
        (Path.home() / ".aws" / name).write_text(text)
    environment(**values)
    with pytest.raises(StorageError, match=says) as caught:
        open_store("s3://bucket/x", Path.cwd()).list("")
    assert remedy in caught.value.remedy
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_no_secret_travels_with_a_store(environment: Environment) -> None:
    environment(**KEYS)
    store = open_store("s3://bucket/runs", Path.cwd())
    store._open()
    assert CANARY.encode() not in pickle.dumps(store)
    assert CANARY not in f"{store!r}{store}{vars(store)}"


def test_google_and_azure_are_read_by_the_same_client(environment: Environment) -> None:
    environment(AZURE_STORAGE_ACCOUNT_NAME="account", AZURE_STORAGE_ACCOUNT_KEY="Y2FuYXJ5")
    google = open_store("gs://bucket/runs/", Path.cwd())._open()
    assert isinstance(google, GCSStore)
    assert google.config["bucket"] == "bucket"
    assert google.prefix == "runs"
    azure = open_store("az://container/runs", Path.cwd())._open()
    assert isinstance(azure, AzureStore)
    assert azure.config["container_name"] == "container"
    assert azure.prefix == "runs"
    assert credentials_source("az://container") == "the environment (AZURE_STORAGE_ACCOUNT_KEY)"
    assert "own identity" in credentials_source("gs://bucket")


def test_azure_without_an_account_says_what_to_set(environment: Environment) -> None:
    with pytest.raises(StorageError) as caught:
        open_store("az://container/runs", Path.cwd()).list("")
    assert "AZURE_STORAGE_ACCOUNT_NAME" in caught.value.remedy

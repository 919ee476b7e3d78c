"""Starting and stopping a service: what is refused, what is drained, what is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serve.conftest import SOURCE, write_result
from tests.tiny_bundles import tiny_bundle
from tunefleet.api.errors import MachineError, ModelError, SpecError, TunefleetError
from tunefleet.evaluate.result import GateResult
from tunefleet.serve.launch import _signals
from tunefleet.serve.settings import Limits, ServiceSettings
from tunefleet.storage.bundle import seal
from tunefleet.verbs.serve import serve, serving


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@pytest.fixture
def none_left() -> Iterator[None]:
    """The test leaves no process behind that was not there before it."""
    before = children()
    yield
    _, alive = psutil.wait_procs(children() - before, timeout=5)
    assert not alive


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files; short, because Ray makes sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="tft", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copied"))


@pytest.mark.usefixtures("none_left")
def test_a_port_in_use_is_told_before_ray_is_started(bundle: Path) -> None:
    before = children()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(MachineError, match=f"port {port} on 127.0.0.1 is in use") as told:
            serve(bundle, port=port)
    assert told.value.exit_code == 2
    assert time.monotonic() - began < 5
    assert children() == before


@pytest.mark.parametrize(
    ("host", "port", "kind", "said"),
    [
        pytest.param("127.0.0.1", 65_536, SpecError, "port 65536", id="a port that does not exist"),
        pytest.param("no-such-host.invalid", 8000, MachineError, "--host", id="an unknown host"),
        pytest.param(
            "192.0.2.77", 8000, MachineError, "192.0.2.77", id="an address of another machine"
        ),
    ],
)
def test_an_address_that_cannot_be_used_is_told(
    bundle: Path, host: str, port: int, kind: type[TunefleetError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        serve(bundle, host=host, port=port)


def test_a_bundle_edited_by_hand_is_refused_before_ray_is_started(copied: Path) -> None:
    before = children()
    (copied / "config.json").write_text((copied / "config.json").read_text() + " ")
    with pytest.raises(ModelError, match=r"was changed after it was made: config.json"):
        serve(copied, port=0)
    assert children() == before


def test_a_gate_that_was_not_passed_is_refused(bundle: Path, tmp_path: Path) -> None:
    run = tmp_path / "run-0002"
    folder = run / "bundle" / bundle.name
    shutil.copytree(bundle, folder)
    gate = GateResult(metric="f1_macro", value=0.42, bound="min 0.85", passed=False)
    write_result(run, folder, gate)
    with pytest.raises(ModelError, match=r"f1_macro is 0.42, asked for was min 0.85"):
        serve(folder, port=0)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(MachineError):
        # Past the gate: the next thing that is looked at is the port.
        serve(folder, port=taken.getsockname()[1], ignore_gate=True)


@pytest.mark.usefixtures("none_left")
def test_a_replica_that_fails_its_golden_batch_ends_the_start_with_the_reason(
    bundle: Path, copied: Path, tmp_path: Path
) -> None:
    other = tiny_bundle(tmp_path, seed=11)
    shutil.copy(other / "tokenizer.json", copied / "tokenizer.json")
    seal(copied, {})
    began = time.monotonic()
    with pytest.raises(ModelError, match="other tokens"), serving(copied):
        pytest.fail("a bundle that is not what was evaluated was served")
    assert time.monotonic() - began < ServiceSettings(bundle="").start_seconds / 2


SCRIPT = """
import sys
from tunefleet.serve.settings import Limits, ServiceSettings
from tunefleet.verbs.serve import serve

def ready(endpoint):
    print(endpoint.url, flush=True)

sys.exit(serve(sys.argv[1], port=0, limits=Limits.from_json(sys.argv[2]), ready=ready))
"""


def test_overload_is_told_and_a_signal_ends_all_once_what_is_under_way_is_answered(
    bundle: Path, temporary: Path
) -> None:
    """Items wait 1.5 s for company here, so that all of it is seen while they wait."""
    limits = Limits(waiting_items=3, batch_wait_seconds=1.5, timeout_seconds=20)

    def ask(url: str) -> httpx.Response:
        return httpx.post(f"{url}/v1/predict", json={"text": "a"}, timeout=30)

    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(bundle), limits.to_json()],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": SOURCE, "TMPDIR": str(temporary)},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        family = psutil.Process(process.pid).children(recursive=True)
        with ThreadPoolExecutor(10) as pool:
            replies = list(pool.map(ask, [url] * 10))
            late = pool.submit(ask, url)
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            assert late.result().status_code == 200
        assert process.wait(60) == 0
    told = [reply for reply in replies if reply.status_code == 503]
    assert len(told) == 7
    assert all(reply.headers["retry-after"] == "1" for reply in told)
    assert all(reply.json()["error"]["code"] == "overloaded" for reply in told)
    assert sum(reply.status_code == 200 for reply in replies) == 3
    assert len(family) > 3
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert not list(temporary.iterdir())


def _signal_and_wait(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_second_signal_does_not_wait(number: int) -> None:
    stop = threading.Event()
    before = signal.getsignal(number)
    with _signals(stop):
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        with pytest.raises(KeyboardInterrupt):
            _signal_and_wait(number)
    assert signal.getsignal(number) is before

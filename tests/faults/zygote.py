"""A fork server: one process that has imported everything and forks the processes of cases.

Starting Python with torch and transformers costs seconds; a fork of a process that has them
costs milliseconds. The server never computes, opens a store or starts a thread: what a case
does happens in its forks. It ends when its standard input is closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
_PR_SET_PDEATHSIG = 1
_WARM = (
    "datasets",
    "obstore.store",
    "pyarrow.csv",
    "sklearn.metrics",
    "torch.distributed",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "tests.faults.roles",
    "tunefleet.evaluate.bundle",
    "tunefleet.evaluate.report",
    "tunefleet.evaluate.card",
    "tunefleet.tasks.text_classification",
    "tunefleet.train.driver",
    "tunefleet.train.prepare",
    "tunefleet.train.process",
    "tunefleet.verbs.run",
)


class Overdue(AssertionError):
    """A process did not end in time."""


@dataclass(slots=True)
class Fork:
    """A forked process, seen from the one that asked for it."""

    pid: int
    link: socket.socket
    code: int | None = None

    def wait(self, seconds: float) -> int:
        """Its exit code, negative for a signal; Overdue when it runs on for ``seconds``."""
        if self.code is None:
            self.link.settimeout(max(seconds, 0.001))
            try:
                said = self.link.recv(64)
            except TimeoutError:
                raise Overdue(f"process {self.pid} still runs after {seconds:.0f} s") from None
            self.link.close()
            self.code = int(said) if said else KILLED
        return self.code

    def ended(self) -> bool:
        """Whether it has ended."""
        try:
            self.wait(0)
        except Overdue:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, unless it is gone."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def fork(server: str, function: str, arguments: Mapping[str, object], output: str) -> Fork:
    """Have ``module:function`` called with ``arguments`` in a fork of the server."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.settimeout(30)
    link.connect(server)
    link.send(json.dumps([function, dict(arguments), output]).encode())
    return Fork(int(link.recv(64)), link)


@contextlib.contextmanager
def running(model: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """A server for the duration of a block; its address. It has read ``model`` once."""
    with tempfile.TemporaryDirectory(prefix="tf-forks-") as folder:
        address = f"{folder}/socket"
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote", address, str(model)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'platform'}"} | dict(environment),
            stdin=subprocess.PIPE,
        )
        try:
            deadline = time.monotonic() + 120
            while not Path(f"{address}.ready").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError("the fork server did not start")
                time.sleep(0.02)
            yield address
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=30)


def _serve(address: str, model: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _WARM:
            importlib.import_module(name)
        _warm_up(Path(model))
    assert threading.active_count() == 1, "a thread does not survive a fork"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(64)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(woken)
    told: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as ready:
        for source in (listener, wake, sys.stdin):
            ready.register(source, selectors.EVENT_READ)
        Path(f"{address}.ready").touch()
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    os._exit(0)  # nothing here has to be put away
                if key.fileobj is wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake, 4096)
                else:
                    _take(listener, told)
            _reap(told)


def _warm_up(model: Path) -> None:
    """Do once what is slow the first time and leaves no thread behind."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    from tunefleet.api import fields
    from tunefleet.evaluate import page

    quiet: Any = logging
    quiet.disable_progress_bar()  # its monitor is a thread
    quiet.set_verbosity_error()
    torch.set_num_threads(1)
    AutoModelForSequenceClassification.from_pretrained(model)
    AutoTokenizer.from_pretrained(model)
    fields.root()
    templates = page._environment()
    for name in templates.list_templates():
        templates.get_template(name)


def _take(listener: socket.socket, told: dict[int, socket.socket]) -> None:
    link, _ = listener.accept()
    request = link.recv(1 << 20)
    if not request:
        link.close()
        return
    function, arguments, output = json.loads(request)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _die_with_the_server()
        for other in (listener, link, *told.values()):
            other.close()
        _become(function, arguments, output)
    told[pid] = link
    with contextlib.suppress(OSError):
        link.send(str(pid).encode())


def _die_with_the_server() -> None:
    """A harness that is killed hard leaves nothing running (Linux: see prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _become(function: str, arguments: dict[str, object], output: str) -> None:
    """Be the process that was asked for; never returns."""
    code = 1
    try:
        with open(output, "ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        module, _, name = function.partition(":")
        code = getattr(importlib.import_module(module), name)(**arguments) or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap(told: dict[int, socket.socket]) -> None:
    while told:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        link = told.pop(pid)
        with contextlib.suppress(OSError):
            link.send(str(os.waitstatus_to_exitcode(status)).encode())
        link.close()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])

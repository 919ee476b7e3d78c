"""The command line: help at once, errors in one place, exit codes, pipes and colours."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tunefleet.api.errors import Problem, RunError, SpecError, TunefleetError
from tunefleet.cli import main as cli

GOOD = """\
apiVersion: tunefleet.dev/v1alpha1
kind: FineTuneJob
metadata: {name: reviews}
spec:
  task: text-classification
  model: {name: a/b}
  data: {train: {uri: a.csv}}
"""
BAD = GOOD.replace("task:", "tasks:")


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **{key: str(value) for key, value in settings.items()}}
    return subprocess.run(
        [sys.executable, "-m", "tunefleet.cli.main", *arguments],
        capture_output=True,
        text=True,
        env=env,
        timeout=60,
        check=False,
    )


def commands() -> list[list[str]]:
    return [[name] for name in cli.COMMANDS] + [
        ["runs", sub] for sub in ("list", "show", "compare")
    ]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Let `tunefleet doctor` raise what a test gives."""

    def install(error: BaseException) -> None:
        @click.command()
        @click.option("--json", "as_json", is_flag=True)
        def doctor(as_json: bool) -> None:
            raise error

        monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *given: doctor)

    return install


# -- help ------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy_and_lists_every_command() -> None:
    code = (
        "import sys\nfrom tunefleet.cli.main import run_command\ncode = run_command(['--help'])\n"
        "print(sorted(sys.modules), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    for name in (
        "torch",
        "ray",
        "transformers",
        "pydantic",
        "numpy",
        "rich",
        "datasets",
        "obstore",
    ):
        assert f"'{name}'" not in done.stderr
    for name, (_, about) in cli.COMMANDS.items():
        assert name in done.stdout
        assert about in done.stdout


def test_help_answers_in_less_than_three_tenths_of_a_second() -> None:
    # Processor time, the best of several: what the code costs, whatever else the machine does.
    times = []
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-m", "tunefleet.cli.main", "--help"], stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        times.append(used.ru_utime + used.ru_stime)
    assert min(times) < 0.3


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_explains_itself_with_examples(command: list[str]) -> None:
    done = CliRunner().invoke(cli.tunefleet, [*command, "--help"], prog_name="tunefleet")
    assert done.exit_code == 0
    assert "Examples:" in done.output
    assert f"tunefleet {' '.join(command)}" in done.output
    assert max(map(len, done.output.splitlines())) <= 100


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_help_of_a_command_loads_neither_torch_nor_ray(command: list[str]) -> None:
    code = (
        "import sys\nfrom tunefleet.cli.main import run_command\n"
        f"run_command({[*command, '--help']!r})\n"
        "heavy = ('torch', 'ray', 'transformers', 'pydantic')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_told() -> None:
    from tunefleet import __version__

    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"tunefleet {__version__}\n")


def test_no_command_shows_the_help() -> None:
    done = run()
    assert done.returncode == 2
    assert "Commands:" in done.stderr + done.stdout


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chek"], "did you mean `check`?"),
        (["zzz"], "there are init, check, plan"),
        (["plan"], "Missing argument"),
        (["plan", "job.yaml", "--device", "tpu"], "'tpu' is not one of"),
        (["plan", "job.yaml", "--workers", "0"], "0 is not in the range"),
        (["plan", "job.yaml", "--wrkers", "1"], "--workers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_told_with_exit_code_2(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_a_wrong_file_is_told_on_standard_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(BAD)
    done = run("plan", str(tmp_path / "job.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"Error: 1 problem in {tmp_path}/job.yaml",
        f"  {tmp_path}/job.yaml:5: spec.tasks: there is no such field here",
        "    → did you mean `task`?",
    ]


def test_with_json_an_error_is_one_object_on_standard_output(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(BAD)
    done = run("plan", str(tmp_path / "job.yaml"), "--json")
    assert (done.returncode, done.stderr) == (2, "")
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["exitCode"]) == ("SpecError", 2)
    assert error["problems"] == [
        {
            "message": "there is no such field here",
            "field": "spec.tasks",
            "remedy": "did you mean `task`?",
            "file": f"{tmp_path}/job.yaml",
            "line": 5,
        }
    ]


def test_with_json_a_wrong_command_line_is_an_object_too() -> None:
    done = run("plan", "--json")
    assert done.returncode == 2
    assert "Missing argument" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (SpecError("no", remedy="do"), 2, "Error: no\n  → do\n"),
        (RunError("broke"), 1, "Error: broke\n"),
        (TunefleetError("", problems=[Problem("bad", "a.b")]), 2, "Error:   a.b: bad\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (click.Abort(), 130, "interrupted\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "Error: /x: Permission denied\n"),
        (OSError(28, "No space left on device", "/x"), 2, "Error: /x: No space left on device\n"),
        (SystemExit(143), 143, ""),
        (SystemExit(None), 0, ""),
    ],
    ids=[
        "a wrong file",
        "a failed run",
        "problems alone",
        "Ctrl-C",
        "an abort",
        "a file that may not be read",
        "a full disk",
        "a command's own exit code",
        "a command that is done",
    ],
)
def test_the_end_of_a_command_becomes_an_exit_code_and_a_message(
    failing: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    says: str,
) -> None:
    failing(error)
    assert cli.run_command(["doctor"]) == code
    assert capsys.readouterr().err == says


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(5, "Input/output error")], ids=repr)
def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user(
    failing: Callable[[BaseException], None], error: Exception
) -> None:
    failing(error)
    with pytest.raises(type(error)):
        cli.run_command(["doctor"])


def test_half_a_character_in_a_message_can_be_printed(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(SpecError("bad \ud83d"))
    assert cli.run_command(["doctor"]) == 2
    assert "bad" in capsys.readouterr().err
    assert cli.run_command(["doctor", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "bad \ud83d"


# -- pipes, signals, colours ---------------------------------------------------------------------


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = "import sys; from tunefleet.cli.main import main; main(['--help'])"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (cli.BROKEN_PIPE, b"")


def test_ctrl_c_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "job.yaml"
    os.mkfifo(fifo)
    # (What a shell runs in the background is deaf to SIGINT, and so is all that it starts.)
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from tunefleet.cli.main import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "plan", str(fifo)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Opening for writing waits until the command has opened it for reading: it is under way.
    with fifo.open("w"):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.splitlines()[-1]) == (130, "", "interrupted")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("settings", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
    ids=["a terminal", "NO_COLOR", "a dumb terminal", "an empty NO_COLOR"],
)
def test_colours_are_for_terminals_that_want_them(
    settings: dict[str, str], coloured: bool, tmp_path: Path
) -> None:
    env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    env |= {"TERM": "xterm-256color", **settings}
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tunefleet.cli.main", "plan", str(tmp_path / "no.yaml")],
        stderr=theirs,
        stdout=theirs,
        env=env,
    )
    process.wait(timeout=60)
    os.close(theirs)
    seen = os.read(ours, 65_536)
    os.close(ours)
    assert b"there is no file" in seen
    assert bool(re.search(rb"\x1b\[[\d;]*m", seen)) is coloured


def test_no_colours_go_into_a_file(tmp_path: Path) -> None:
    assert "\x1b" not in run("plan", str(tmp_path / "no.yaml"), TERM="xterm").stderr

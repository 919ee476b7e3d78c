"""The commands: that each calls its verb with what was asked, on real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunefleet.cli.main import run_command

CSV = "text,label\n" + "".join(
    f"the film was {word} number {at},{label}\n"
    for at in range(20)
    for word, label in (("fine", "good"), ("dull", "bad"))
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "films.csv").write_text(CSV)
    return tmp_path


def test_init_writes_job_yaml_beside_you_and_says_what_comes_next(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["init", "films.csv"]) == 0
    shown = capsys.readouterr().out
    assert "40 rows of text, label" in shown
    assert "next: tunefleet check job.yaml" in shown
    assert "labels: [bad, good]" in (here / "job.yaml").read_text()


def test_init_again_is_refused_and_force_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["init", "films.csv", "--out", "a.yaml"]) == 0
    assert run_command(["init", "films.csv", "--out", "a.yaml"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run_command(["init", "films.csv", "--out", "a.yaml", "--force"]) == 0


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_overrides_reach_the_job(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["init", "films.csv"])
    assert run_command([command, "job.yaml", "--set", "training.epochs=none", "--json"]) == 2
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert found["problems"][0]["file"] == "--set training.epochs=none"


def test_a_store_without_runs_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["runs"]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert run_command(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == []
    assert run_command(["runs", "show", "films"]) == 2
    assert run_command(["runs", "compare", "films/1"]) == 2
    assert "needs two runs" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "serve"])
def test_what_is_no_bundle_is_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--text", "a"] if command == "predict" else ["--port", "0"]
    assert run_command([command, "nowhere", *arguments]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_doctor_answers_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if found["ok"] else 2)
    assert {"name", "state", "detail", "remedy"} == set(found["checks"][0])
    assert run_command(["doctor"]) == code
    assert "Python" in capsys.readouterr().out


def test_a_run_out_of_budget_exits_with_3_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.unit.evaluate.sample import sample
    from tunefleet.api.words import FailureClass, Phase
    from tunefleet.verbs import run as verb

    spent = sample().result.model_copy(
        update={
            "phase": Phase.STOPPED,
            "failure": FailureClass.BUDGET,
            "message": "budget: $1.00 of $1.01 are spent",
        }
    )
    monkeypatch.setattr(verb, "run", lambda *_, **__: spent)
    assert run_command(["run", "job.yaml"]) == 3
    said = capsys.readouterr().err
    newest = max(checkpoint.step for checkpoint in spent.checkpoints)
    assert f"budget: $1.00 of $1.01 are spent; saved at step {newest}; raise spec.budget" in said
    assert "go on with: tunefleet run job.yaml" in said

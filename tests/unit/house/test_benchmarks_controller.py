"""What the controller's rows are made of: the audit log, the arithmetic, and the recorded life."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.audit import Asked, AuditLog, answers, made, parse, percentile, shares
from benchmarks.lives import Replay, life, ray_job
from benchmarks.plain_client import Plain, at_once

CONTROLLER = "system:serviceaccount:tunefleet-system:controller"


def line(**changes: object) -> bytes:
    event: dict[str, object] = {
        "stage": "ResponseComplete",
        "verb": "patch",
        "user": {"username": CONTROLLER},
        "userAgent": "tunefleet",
        "objectRef": {
            "resource": "finetunejobs",
            "subresource": "status",
            "namespace": "a",
            "name": "job-1",
        },
        "responseStatus": {"code": 200},
        "stageTimestamp": "2026-11-28T05:00:00.250000Z",
    }
    return json.dumps(event | changes).encode()


def asked(
    at: float, name: str, what: str = "create finetunejobs", *, user: str = "admin", code: int = 201
) -> Asked:
    verb, _, resource = what.partition(" ")
    return Asked(at, user, "", verb, resource, "a", name, code)


def test_a_line_of_the_log_says_who_wrote_what_and_when() -> None:
    found = parse(line())
    assert found is not None
    assert (found.user, found.verb, found.resource, found.name) == (
        *(CONTROLLER, "patch", "finetunejobs/status", "job-1"),
    )
    assert found.at % 1 == 0.25
    assert found.wrote
    conflict = parse(line(responseStatus={"code": 409}))
    assert conflict is not None
    assert not conflict.wrote


@pytest.mark.parametrize(
    "changes",
    [{"stage": "ResponseStarted"}, {"objectRef": None}],
    ids=["a watch that has begun", "a request for no object"],
)
def test_what_is_no_answered_request_for_an_object_is_passed_over(
    changes: dict[str, object],
) -> None:
    assert parse(line(**changes)) is None


def test_the_log_is_read_on_from_where_it_stood_over_halves_of_lines_and_rotations(
    tmp_path: Path,
) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(line(verb="get") + b"\n")
    with closing(AuditLog(path)) as log:
        assert log.new() == []
        whole = line(verb="create") + b"\n"
        with path.open("ab") as file:
            file.write(whole + whole[:20])
        assert [each.verb for each in log.new()] == ["create"]
        with path.open("ab") as file:
            file.write(whole[20:])
        path.rename(tmp_path / "audit-1.jsonl")
        path.write_bytes(line(verb="delete") + b"\n")
        assert [each.verb for each in log.new()] == ["create", "delete"]
        assert log.new() == []


@pytest.mark.parametrize(
    ("percent", "value"),
    [(50, 50), (99, 99), (100, 100), (1, 1), (0, 1)],
    ids=["half", "99 of 100", "the greatest", "the least", "none: still the least"],
)
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile([float(each) for each in range(100, 0, -1)], percent) == value


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="of nothing"):
        percentile([], 99)


def test_what_was_made_of_each_is_found_by_its_name() -> None:
    requests = [
        asked(10.0, "job-1"),
        asked(10.5, "job-2"),
        asked(11.0, "job-1-abcde-1", "create rayjobs", code=409),
        asked(12.0, "job-2-fghij-1", "create rayjobs"),
        asked(14.0, "job-1-abcde-1", "create rayjobs"),
        asked(15.0, "job-1-abcde-2", "create rayjobs"),
    ]
    found = made(requests, "a", of="finetunejobs", what="rayjobs")
    assert found.per_second == 2 / (14.0 - 10.0)
    assert sorted(found.waits) == [1.5, 4.0]


@pytest.mark.parametrize(
    ("what", "code", "makes"),
    [
        ("create rayjobs", 201, True),
        ("patch rayjobs", 201, True),
        ("patch rayjobs", 200, False),
        ("create rayjobs", 409, False),
        ("patch rayjobs/status", 201, False),
    ],
    ids=[
        "one that was created was made",
        "so was one that was applied and not there",
        "one that was there was not",
        "nor one that was refused",
        "a part of one is none",
    ],
)
def test_objects_are_made_by_creating_and_by_applying(what: str, code: int, makes: bool) -> None:
    assert asked(1.0, "job-1", what, code=code).made("rayjobs") is makes


def test_a_burst_of_which_something_was_not_made_is_no_measurement() -> None:
    requests = [asked(1.0, "job-1"), asked(2.0, "job-2"), asked(3.0, "job-1-x", "create rayjobs")]
    with pytest.raises(ValueError, match="2 finetunejobs and 1 rayjobs"):
        made(requests, "a", of="finetunejobs", what="rayjobs")


def test_an_answer_is_the_first_write_after_what_it_answers() -> None:
    told = asked(2.0, "job-1-x-1", "patch finetuneattempts/status")
    status = "patch finetunejobs/status"
    requests = [
        asked(1.0, "job-1", status, user=CONTROLLER, code=200),
        told,
        asked(2.1, "job-1", status, user=CONTROLLER, code=409),
        asked(2.25, "job-1", status, user=CONTROLLER, code=200),
    ]
    found = answers(requests, told, user=CONTROLLER, resource="finetunejobs/status")
    assert found == 0.25
    assert answers(requests, told, user="other", resource="finetunejobs/status") is None


def test_a_jobs_writes_count_for_who_made_them_and_progress_apart() -> None:
    status = "patch finetunejobs/status"
    story = [
        ("admin", "create finetunejobs", "job-1"),
        (CONTROLLER, "create finetuneattempts", "job-1-x-0"),
        (CONTROLLER, status, "job-1"),
        ("admin", "patch finetuneattempts/status", "job-1-x-0"),
        (CONTROLLER, "create rayjobs", "job-1-x-1"),
        ("admin", "patch finetuneattempts/status", "job-1-x-1"),
        (CONTROLLER, status, "job-1"),
        ("admin", "patch finetuneattempts/status", "job-1-x-1"),
        (CONTROLLER, status, "job-1"),
        ("admin", "patch finetuneattempts/status", "job-1-x-1"),
        (CONTROLLER, status, "job-1"),
        (CONTROLLER, status, "job-10"),
    ]
    requests = [
        asked(float(at), name, what, user=user) for at, (user, what, name) in enumerate(story)
    ]
    found = shares(requests, "job-1", user=CONTROLLER)
    assert (found.ours, found.progress) == (6, 2)
    assert found.others == {"create finetunejobs": 1, "patch finetuneattempts/status": 4}


class _Server:
    """Takes every write, and gives each new object a uid."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, dict[str, Any]]] = []

    async def post(self, path: str, body: str) -> str:
        await self.patch(path, body)
        return f"abcdef-{len(self.writes)}"

    async def patch(self, path: str, body: str) -> None:
        self.writes.append((path, json.loads(body)))


def replayed(*, running: bool) -> list[tuple[str, dict[str, Any]]]:
    server = _Server()
    job, writes = Replay("mine", "here", {}), life().running if running else life().launching
    asyncio.run(job.do(cast("Plain", server), (life().job, *writes)))
    return server.writes


def test_the_recorded_life_makes_what_the_controller_makes_in_its_order() -> None:
    kinds = [body["kind"] for _, body in replayed(running=False) if "kind" in body]
    assert kinds == ["FineTuneJob", "FineTuneAttempt", "Job", "FineTuneAttempt", "RayJob"]


@pytest.mark.parametrize("running", [False, True], ids=["launching", "running"])
def test_a_life_that_is_done_again_is_in_its_own_jobs_words(running: bool) -> None:
    writes = replayed(running=running)
    said = json.dumps(writes)
    assert not any(word in said for word in ("xxjobxx", "xxnamespacexx", "uid10"))
    objects = [body["metadata"] for _, body in writes if "kind" in body]
    assert objects[-1]["name"] == "mine-abcde-1"
    assert objects[-1]["namespace"] == "here"
    assert objects[1]["ownerReferences"][0]["uid"] == "abcdef-1"


def test_what_is_left_of_a_life_that_runs_has_no_prepare_job_and_says_so_in_its_status() -> None:
    writes = replayed(running=True)
    assert [body["kind"] for _, body in writes if "kind" in body] == [
        *("FineTuneJob", "FineTuneAttempt", "FineTuneAttempt", "RayJob"),
    ]
    path, body = writes[-1]
    assert path.endswith("/namespaces/here/finetunejobs/mine/status")
    assert body["status"]["phase"] == "Running"
    assert body["status"]["progress"]["step"] == 10


def test_a_rayjob_for_kuberay_alone_is_owned_by_nobody() -> None:
    assert "ownerReferences" not in json.loads(ray_job())["metadata"]


def test_many_do_the_work_of_many() -> None:
    done: list[int] = []
    most = at_work = 0

    async def work(item: int) -> None:
        nonlocal most, at_work
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        done.append(item)

    asyncio.run(at_once(work, range(20), workers=4))
    assert sorted(done) == list(range(20))
    assert most == 4

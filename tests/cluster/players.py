"""Players for the parts that a cluster without a node lacks: kubelet, and Ray's dashboard.

Decides how pods live that nothing runs: they are ready as soon as they are there (unless held),
and end when a test says so. The real KubeRay operator, which runs beside the bed and not in it,
is led to a dashboard on loopback that says of every Ray job what the test wants. A pod without
a node goes at once when it is deleted; a test that needs it to linger gives it a finalizer, or
has nodes (``tests.cluster.nodes``).
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, cast

from tests.cluster.api import MERGE, Api, administrator
from tests.testbed.clusters import Cluster

JobStatus = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED"]
SUBMITTER = "ray-job-submitter"
_PAUSE_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
# Ray's own words.
_MESSAGES = {
    "RUNNING": "Job is currently running.",
    "SUCCEEDED": "Job finished successfully.",
    "STOPPED": "Job was intentionally stopped.",
}
_NODES = "10.244.7"


class Players:
    """What plays in one namespace, and how a test directs it.

    ``room``: so many workers of RayClusters run at a time (None: all); the others stay as the
    scheduler finds them, which has no node for them.
    """

    room: int | None = None

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._held = threading.Event()
        self._over = threading.Event()
        self._addresses = iter(range(2, 255))
        self._dashboard = _Dashboard()
        self._thread = threading.Thread(target=self._play)

    def hold(self) -> None:
        """Start no pod any more: those to come stay Pending, as where there is no room."""
        self._held.set()

    def let_go(self) -> None:
        """Start what was held."""
        self._held.clear()

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """The pods that a label selector finds."""
        return self._items("/api/v1", "pods", selector)

    def end_ray_job(self, name: str, status: JobStatus, message: str = "") -> None:
        """Let a RayJob's driver end, and after it whoever waited for it."""
        self.end_driver(name, status, message)
        self.end_submitter(name, exit_code=int(status != "SUCCEEDED"))

    def end_driver(self, name: str, status: JobStatus, message: str = "") -> None:
        """Let Ray say of a RayJob's driver that it has ended."""
        self._dashboard.say(self._ray_job(name)["status"]["jobId"], status, message)

    def end_submitter(self, name: str, *, exit_code: int) -> None:
        """Let the pod end, or the container of the head's, that submitted a RayJob's driver."""
        found = self._ray_job(name)
        if found["spec"]["submissionMode"] == "K8sJobMode":
            for pod in self._submitters(name):
                self.end_pod(pod, exit_code=exit_code)
            return
        head = f"ray.io/cluster={found['status']['rayClusterName']},ray.io/node-type=head"
        for pod in self.pods(head):
            self.end_container(pod, SUBMITTER, exit_code=exit_code)

    def mute(self, name: str) -> None:
        """From now on, answer nothing about a RayJob: its head is out of reach."""
        self._dashboard.mute(self._ray_job(name)["status"]["jobId"])

    def end_container(
        self, pod: Mapping[str, Any], name: str, *, exit_code: int, reason: str = ""
    ) -> None:
        """Let one container of a pod end; the others go on."""
        states = [
            _exited(state, exit_code, reason) if state["name"] == name else state
            for state in pod["status"]["containerStatuses"]
        ]
        self._say_of_pod(pod, {"containerStatuses": states})

    def end_pod(self, pod: Mapping[str, Any], *, exit_code: int = 0, reason: str = "") -> None:
        """Let all of a pod's containers end, and so the pod."""
        self._say_of_pod(pod, ended(pod, exit_code, reason))

    @contextlib.contextmanager
    def playing(self) -> Iterator[Players]:
        """On stage until the context ends."""
        with self._dashboard.serving():
            self._thread.start()
            try:
                yield self
            finally:
                self._over.set()
                self._thread.join()

    # -- inside ------------------------------------------------------------------------

    def _play(self) -> None:
        while not self._over.wait(_PAUSE_SECONDS):
            there = [pod for pod in self.pods() if "deletionTimestamp" not in pod["metadata"]]
            started = sum(_is_worker(pod) and not _waits(pod) for pod in there)
            for pod in there:
                if not _waits(pod):
                    self._keep_placed(pod)
                elif not self._held.is_set() and not self._is_full(pod, started):
                    started += _is_worker(pod)
                    self._start_pod(pod)
            for job in self._items("/apis/ray.io/v1", "rayjobs"):
                told = job.get("status", {}).get("dashboardURL")
                if told and told != self._dashboard.address:
                    self._patch(
                        "/apis/ray.io/v1",
                        "rayjobs",
                        job["metadata"]["name"],
                        {"dashboardURL": self._dashboard.address},
                    )

    def _is_full(self, pod: Mapping[str, Any], started: int) -> bool:
        return self.room is not None and _is_worker(pod) and started >= self.room

    def _keep_placed(self, pod: Mapping[str, Any]) -> None:
        """Say again that a pod has a place, should the scheduler have had the last word."""
        told = pod["status"].get("conditions", [])
        if any(c["type"] == "PodScheduled" and c["status"] == "False" for c in told):
            others = [c for c in told if c["type"] != "PodScheduled"]
            placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": _now()}
            self._say_of_pod(pod, {"conditions": [*others, placed]})

    def _start_pod(self, pod: Mapping[str, Any]) -> None:
        self._say_of_pod(pod, started(pod, f"{_NODES}.{next(self._addresses)}"))

    def _submitters(self, name: str) -> list[dict[str, Any]]:
        """The pods of a RayJob's own Job, once they run: Kubernetes makes them at its own pace."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            found = self.pods(f"batch.kubernetes.io/job-name={name}")
            if found and all("containerStatuses" in pod["status"] for pod in found):
                return found
            assert time.monotonic() < deadline, f"nobody submits {name}"
            time.sleep(_PAUSE_SECONDS)

    def _ray_job(self, name: str) -> dict[str, Any]:
        return self._get("/apis/ray.io/v1", "rayjobs", name)

    def _say_of_pod(self, pod: Mapping[str, Any], status: Mapping[str, object]) -> None:
        self._patch("/api/v1", "pods", pod["metadata"]["name"], status)

    def _patch(self, group: str, kind: str, name: str, status: Mapping[str, object]) -> None:
        path = f"{self._place(group, kind)}/{name}/status"
        answer = self._api.call("PATCH", path, {"status": status}, MERGE)
        # Gone meanwhile: the operator takes pods away whenever it likes.
        if answer.code not in (200, 404):
            raise AssertionError(f"{path}: {answer.message}")

    def _get(self, group: str, kind: str, name: str) -> dict[str, Any]:
        answer = self._api.call("GET", f"{self._place(group, kind)}/{name}")
        assert answer.code == 200, answer.message
        return dict(answer.body)

    def _items(self, group: str, kind: str, selector: str = "") -> list[dict[str, Any]]:
        query = f"?labelSelector={selector}" if selector else ""
        answer = self._api.call("GET", self._place(group, kind) + query)
        assert answer.code == 200, answer.message
        return cast("list[dict[str, Any]]", answer.body["items"])

    def _place(self, group: str, kind: str) -> str:
        return f"{group}/namespaces/{self._namespace}/{kind}"


class _Dashboard:
    """What Ray's dashboard answers about jobs; one that nothing was said of runs."""

    def __init__(self) -> None:
        said = self._said = dict[str, dict[str, object]]()
        muted = self._muted = set[str]()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                if name in muted:
                    return  # without an answer: the connection is closed
                self._answer(said.setdefault(name, _job(name, "RUNNING")))

            def do_POST(self) -> None:
                # The operator asks for one thing only: that a job be stopped.
                name = self.path.split("/")[-2]
                if name in muted:
                    return
                said[name] = _job(name, "STOPPED")
                self._answer({"stopped": True})

            def _answer(self, document: Mapping[str, object]) -> None:
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        """As a RayJob's status names it."""
        return f"127.0.0.1:{self._server.server_port}"

    def say(self, job: str, status: JobStatus, message: str) -> None:
        """From now on, say this of a job."""
        self._said[job] = _job(job, status, message)

    def mute(self, job: str) -> None:
        """From now on, answer nothing about a job."""
        self._muted.add(job)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Answer until the context ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@contextlib.contextmanager
def players(cluster: Cluster, namespace: str) -> Iterator[Players]:
    """Players in a namespace of a cluster whose pods nothing runs."""
    with administrator(cluster) as api, Players(api, namespace).playing() as playing:
        yield playing


def started(pod: Mapping[str, Any], address: str) -> dict[str, object]:
    """What a kubelet says of a pod whose containers run."""
    now = _now()
    conditions = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "startTime": now,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now} for kind in conditions
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
            for container in pod["spec"]["containers"]
        ],
    }


def ended(pod: Mapping[str, Any], exit_code: int, reason: str = "") -> dict[str, object]:
    """What a kubelet says of a pod whose containers have all ended."""
    states = [_exited(state, exit_code, reason) for state in pod["status"]["containerStatuses"]]
    phase = "Failed" if exit_code else "Succeeded"
    ready = [{"type": "Ready", "status": "False", "reason": f"Pod{phase}"}]
    return {"phase": phase, "containerStatuses": states, "conditions": ready}


def _waits(pod: Mapping[str, Any]) -> bool:
    return bool(pod["status"].get("phase", "Pending") == "Pending")


def _is_worker(pod: Mapping[str, Any]) -> bool:
    return bool(pod["metadata"].get("labels", {}).get("ray.io/node-type") == "worker")


def _job(name: str, status: JobStatus, message: str = "") -> dict[str, object]:
    now = int(datetime.now(UTC).timestamp() * 1000)
    ended = {} if status in ("PENDING", "RUNNING") else {"end_time": now}
    return {
        "job_id": "01000000",
        "submission_id": name,
        "type": "SUBMISSION",
        "status": status,
        "message": message or _MESSAGES.get(status, ""),
        "entrypoint": "",
        "start_time": now,
        **ended,
    }


def _exited(state: Mapping[str, Any], exit_code: int, reason: str) -> dict[str, object]:
    if "terminated" in state["state"]:
        return dict(state)
    began = state["state"]["running"]["startedAt"]
    end = {
        "exitCode": exit_code,
        "reason": reason or ("Error" if exit_code else "Completed"),
        "startedAt": began,
        "finishedAt": _now(),
    }
    return {**state, "ready": False, "started": False, "state": {"terminated": end}}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""``make cluster-demo``: one job from ``kubectl apply`` to answers, on real servers.

Decides the order, and that everything it started is gone at its end: a bed with a node, the
KubeRay operator, the image, a bucket with model and reviews, the definitions and rights, the
controller, one job with two worker pods, and the bundle it leaves asked on this machine. Needs
what the bed needs (docs/testbed.md); with ``--keep`` the bed stays up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from tests.cluster.installed import helm
from tests.testbed import control_plane, image, kuberay, life
from tests.testbed.bed import Bed, chosen_name
from tests.testbed.bed_s3 import BedS3, bed_s3

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "cluster" / "sentiment.yaml"
BUCKET = "tunefleet-demo"
NAMESPACE = "demo"
SYSTEM = "tunefleet-system"
TEXTS = ("A moving story, wonderfully played.", "Two hours that I will never get back.")
LIMIT_SECONDS = 1200


@click.command()
@click.option("--name", default=chosen_name, help="Which bed (TUNEFLEET_BED; k8s).")
@click.option("--keep", is_flag=True, help="Leave the bed up, to look at it.")
@click.option("--install", is_flag=True, help="Install missing Debian packages.")
def main(name: str, keep: bool, install: bool) -> None:
    """Fine-tune on a cluster of real servers, and ask the result something."""
    bed, began = Bed(name), time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", file=sys.stderr, flush=True)

    was_up = bed.kubeconfig.exists()
    with ExitStack() as stack:
        if not (keep or was_up):
            stack.callback(life.down, bed, with_images=False, say=say)
        life.up(bed, "node", install=install, say=say)
        kuberay.up(bed, say=say)
        images = Images(
            image.ensure(bed, "runtime", say=say), image.ensure(bed, "controller", say=say)
        )
        s3 = stack.enter_context(bed_s3(bed, bucket=BUCKET))
        demo = Demo(bed, s3, images)
        stack.callback(demo.delete)
        demo.delete()
        demo.fill_bucket()
        demo.prepare_cluster()
        say("the controller is ready")
        say("kubectl apply -f jobs/cluster/sentiment.yaml")
        demo.kubectl("apply", "-n", NAMESPACE, "-f", str(JOB))
        bundle = demo.follow()
        say(f"bundle: {bundle}")
        demo.predict(bundle)


@dataclass(frozen=True, slots=True)
class Images:
    """The images that were made of this checkout."""

    runtime: str
    controller: str


class Demo:
    """The demonstration's steps on one bed."""

    def __init__(self, bed: Bed, s3: BedS3, images: Images) -> None:
        self._bed = bed
        self._s3 = s3
        self._images = images

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl against the bed; its output."""
        done = subprocess.run(
            control_plane.kubectl(self._bed, *arguments),
            input=given,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def fill_bucket(self) -> None:
        """Put the quickstart's model and reviews where the pods can read them."""
        import obstore

        client, source = self._s3.server.client(), ROOT / ".quickstart"
        for path in sorted((source / "model").iterdir()):
            obstore.put(client, f"model/{path.name}", path)
        obstore.put(client, "reviews/reviews.csv", source / "reviews.csv")

    def prepare_cluster(self) -> None:
        """Definitions, rights, a namespace, and the bucket's keys as a secret in it."""
        chart = ROOT / "helm" / "tunefleet"
        crds = str(chart / "crds")
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", crds)
        self.kubectl("wait", "--for=condition=Established", "-f", crds, "--timeout=60s")
        self._apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        self._apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "bucket", "namespace": NAMESPACE},
                "stringData": self._s3.environment_for_pods(),
            }
        )
        # The chart's controller, its rights, and the right of a job's pods to say how they fare.
        values = {
            "controller.image": self._images.controller,
            "controller.pullPolicy": "Never",
            "controller.replicas": "1",
            "runtime.image": self._images.runtime,
            "runtime.pullPolicy": "Never",
            "jobNamespaces": f"{{{NAMESPACE}}}",
        }
        options = [part for name in values for part in ("--set", f"{name}={values[name]}")]
        install = [helm(), "upgrade", "--install", "tunefleet", str(chart), "--skip-crds", "--wait"]
        place = ["--namespace", SYSTEM, "--create-namespace", "--kubeconfig"]
        subprocess.run(
            [*install, *place, str(self._bed.kubeconfig), *options],
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def follow(self) -> str:
        """Watch the job as a person would, until it has ended; the URI of its bundle."""
        watch = subprocess.Popen(
            control_plane.kubectl(
                self._bed,
                "get",
                "ftj",
                "review-sentiment",
                "-n",
                NAMESPACE,
                "--watch",
                "-o",
                "wide",
            ),
        )
        try:
            deadline = time.monotonic() + LIMIT_SECONDS
            while time.monotonic() < deadline:
                found = json.loads(
                    self.kubectl("get", "ftj", "review-sentiment", "-n", NAMESPACE, "-o", "json")
                )
                status = found.get("status", {})
                if status.get("phase") == "Succeeded":
                    return str(status["bundle"]["uri"])
                if status.get("phase") in {"Failed", "Stopped"}:
                    raise click.ClickException(f"the job ended {status['phase']}: {status}")
                time.sleep(2)
            raise click.ClickException(f"the job has not ended in {LIMIT_SECONDS} s")
        finally:
            watch.terminate()
            watch.wait()

    def predict(self, bundle: str) -> None:
        """Ask the bundle on this machine."""
        tunefleet = str(Path(sys.executable).with_name("tunefleet"))
        asked = [argument for text in TEXTS for argument in ("--text", text)]
        subprocess.run(
            [tunefleet, "predict", bundle, *asked],
            env={**os.environ, **self._s3.server.environment()},
            check=True,
        )

    def delete(self) -> None:
        """Take away the job's namespace with everything in it, and the controller."""
        uninstall = [helm(), "uninstall", "tunefleet", "--namespace", SYSTEM, "--ignore-not-found"]
        subprocess.run(
            [*uninstall, "--kubeconfig", str(self._bed.kubeconfig)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")

    def _apply(self, body: dict[str, object]) -> None:
        self.kubectl("apply", "-f", "-", given=json.dumps(body))


if __name__ == "__main__":
    main(prog_name="python -m tests.testbed.demo")

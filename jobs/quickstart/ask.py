"""Serve the quickstart's model, ask it two things over HTTP, judge the whole, and stop.

What an application does with a tuned model, in twenty lines; needs nothing but the standard
library on the asking side. Ends with an exit code other than 0 unless the model reached the
promised accuracy on the reviews that were held out and every request was answered with one of
its labels.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunefleet.api.errors import TunefleetError
from tunefleet.verbs.serve import serving
from tunefleet.verbs.target import find_bundle

LEAST_ACCURACY = 0.75
LABELS = ("negative", "positive")
JOB = Path(__file__).with_name("job.yaml")
REVIEWS = (
    "A warm, funny film with a wonderful cast; I would see it again tomorrow.",
    "Two hours of my life that I will never get back.",
)


def ask(url: str, text: str) -> str:
    """The service's answer to one review, as JSON text."""
    request = urllib.request.Request(
        f"{url}/v1/predict",
        data=json.dumps({"text": text}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: bytes = reply.read()
    return answer.decode()


def shortfall(metrics: Mapping[str, float], answers: Sequence[str]) -> str:
    """What the quickstart promised and did not reach; empty when it kept its word."""
    accuracy = metrics.get("accuracy")
    if accuracy is None:
        return "the run has no accuracy on held-out reviews"
    if not accuracy >= LEAST_ACCURACY:
        return f"accuracy on the held-out reviews is {accuracy:.3f}, promised is {LEAST_ACCURACY}"
    if len(answers) < len(REVIEWS):
        return f"{len(answers)} of {len(REVIEWS)} requests were answered"
    for answer in answers:
        (prediction,) = json.loads(answer)["predictions"]
        if prediction["label"] not in LABELS or not 0 <= prediction["score"] <= 1:
            return f"an answer that is none: {answer}"
    return ""


def main() -> None:
    """Start the service, ask, print, stop; then judge."""
    print("\nServing the model on this machine (Ray Serve) and asking it over HTTP:")
    answers = []
    try:
        metrics = find_bundle(JOB).metrics
        with serving(JOB) as endpoint:
            for review in REVIEWS:
                print(f"  POST {endpoint.url}/v1/predict  {json.dumps({'text': review})}")
                answers.append(ask(endpoint.url, review))
                print(f"    → {answers[-1]}")
    except TunefleetError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if missed := shortfall(metrics, answers):
        sys.exit(f"Error: the quickstart missed its goal: {missed}")
    print(f"\nAccuracy on held-out reviews: {metrics['accuracy']:.3f} (promised: {LEAST_ACCURACY})")
    print("\nServe it yourself:  .venv/bin/tunefleet serve jobs/quickstart/job.yaml")
    print("Your own data next: .venv/bin/tunefleet init reviews.csv")


if __name__ == "__main__":
    main()

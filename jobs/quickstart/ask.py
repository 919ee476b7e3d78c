"""Serve the quickstart's model, ask it two things over HTTP, and stop.

What an application does with a tuned model, in twenty lines; needs nothing but the standard
library on the asking side.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

from tunefleet.api.errors import TunefleetError
from tunefleet.verbs.serve import serving

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


def main() -> None:
    """Start the service, ask, print, stop."""
    print("\nServing the model on this machine (Ray Serve) and asking it over HTTP:")
    try:
        with serving(JOB) as endpoint:
            for review in REVIEWS:
                print(f"  POST {endpoint.url}/v1/predict  {json.dumps({'text': review})}")
                print(f"    → {ask(endpoint.url, review)}")
    except TunefleetError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print("\nServe it yourself:  .venv/bin/tunefleet serve jobs/quickstart/job.yaml")
    print("Your own data next: .venv/bin/tunefleet init reviews.csv")


if __name__ == "__main__":
    main()

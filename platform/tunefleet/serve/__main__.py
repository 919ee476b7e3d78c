"""A service in a process of its own: settings in, one line out when it is ready.

Decides how ``serving`` and the process it starts talk: the settings are the first line of
standard input, ``{"ready": …}`` or ``{"failed": …}`` the one line of standard output. The
service ends on SIGTERM, on SIGINT, and when its standard input closes, so that it never
outlives the one who started it.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from tunefleet.api.errors import TunefleetError
from tunefleet.serve.launch import run_service
from tunefleet.serve.settings import Endpoint, ServiceSettings


def main() -> int:
    """Run one service; the exit code of the process."""
    settings = ServiceSettings.from_json(sys.stdin.readline())
    stop = threading.Event()
    threading.Thread(target=_follow_input, args=(stop,), daemon=True).start()
    # Ray's own processes inherit the descriptor; what they print must not reach the reader.
    reply = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(record: dict[str, object]) -> None:
        print(json.dumps(record), file=reply, flush=True)

    def ready(endpoint: Endpoint) -> None:
        say({"ready": endpoint.model_dump(mode="json")})

    try:
        run_service(settings, stop, ready)
    except TunefleetError as error:
        kind = type(error).__name__
        said = error.message or "\n".join(str(problem) for problem in error.problems)
        say({"failed": {"kind": kind, "message": said, "remedy": error.remedy}})
        return error.exit_code
    return 0


def _follow_input(stop: threading.Event) -> None:
    while sys.stdin.readline():
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())

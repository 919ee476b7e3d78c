"""What the runtime counts about itself.

Decides names and labels; no label holds an object's name. Imports prometheus_client.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)

REQUESTS = Counter(
    "tunefleet_api_requests_total",
    "Requests to the API server by verb, kind and status (0: no answer came).",
    ["verb", "resource", "status"],
)
REQUEST_SECONDS = Histogram(
    "tunefleet_api_request_seconds",
    "Time of a request to the API server, watches apart.",
    ["verb"],
    buckets=_QUICK,
)
WRITE_WAIT_SECONDS = Counter(
    "tunefleet_api_write_wait_seconds_total", "Time that writes waited for their turn."
)
CACHED = Gauge("tunefleet_cache_objects", "Objects in the cache.", ["resource"])
LISTS = Counter(
    "tunefleet_cache_lists_total", "Full lists, by what made them necessary.", ["resource", "why"]
)
WATCH_EVENTS = Counter(
    "tunefleet_cache_events_total", "Events of watches by type.", ["resource", "type"]
)
UNREADABLE = Counter(
    "tunefleet_cache_unreadable_total",
    "Objects that could not be read; what was known of them is kept.",
    ["resource"],
)
QUEUE_DEPTH = Gauge("tunefleet_queue_depth", "Keys that wait for a worker.")
QUEUE_WAIT_SECONDS = Histogram(
    "tunefleet_queue_wait_seconds",
    "Time from a key's adding to a worker's taking it.",
    buckets=_SLOW,
)
RECONCILE_SECONDS = Histogram(
    "tunefleet_reconcile_seconds", "Time of one reconcile by outcome.", ["outcome"], buckets=_SLOW
)
LEADING = Gauge("tunefleet_leader", "Whether this process is the one that writes.")
EVENTS_DROPPED = Counter(
    "tunefleet_events_dropped_total", "Kubernetes events not written, by reason.", ["why"]
)

"""The environment of Ray and of processes that compute, the same on a laptop and in a pod.

Decides settings only: ``train.environment`` and ``render`` put them where they belong. Pure.
"""

from __future__ import annotations

MALLOC = {
    # 41,000 page faults a step become 190: gradients and activations are reused in place.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}
"""For glibc; harmless elsewhere."""

RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
"""What every Ray process of ours is told, wherever Ray was started."""


def computing(threads: int) -> dict[str, str]:
    """The environment of a process that computes on a CPU with so many threads."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }

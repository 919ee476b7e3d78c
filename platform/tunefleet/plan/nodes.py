"""What a job asks of a cluster's nodes, and the machine that a plan is made for there.

Decides the defaults of a worker's pod. All workers together are the machine: what each may use
is what its pod asks for. Pure.
"""

from __future__ import annotations

from tunefleet.api.job import FineTuneJob
from tunefleet.api.profile import AcceleratorSpec
from tunefleet.api.words import DeviceType
from tunefleet.plan.facts import DeviceFacts, MachineFacts

DEFAULT_CPU = 1.0
DEFAULT_MEMORY = "4Gi"
# Until a profile says what its GPUs have: what the smallest ones in use have, and no bf16.
ASSUMED_GPU_BYTES = 16 << 30
_UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}


def worker_cpu(job: FineTuneJob) -> float:
    """Cores that one worker's pod asks for."""
    return job.spec.workers.resources.cpu or DEFAULT_CPU


def worker_memory(job: FineTuneJob) -> str:
    """Memory that one worker's pod asks for, as Kubernetes writes it."""
    return job.spec.workers.resources.memory or DEFAULT_MEMORY


def machine_of(
    job: FineTuneJob, accelerator: AcceleratorSpec | None = None, workers: int | None = None
) -> MachineFacts:
    """The machine that so many worker pods of a job are together (by default as many as it may
    have); a profile knows its GPUs.
    """
    workers = workers or job.spec.workers.most
    text = worker_memory(job)
    memory = workers * _bytes(text)
    if job.spec.workers.resources.gpu:
        device = DeviceFacts(
            type=DeviceType.CUDA,
            name=accelerator.name if accelerator else "GPU",
            count=workers,
            memory=_bytes(accelerator.memory) if accelerator else ASSUMED_GPU_BYTES,
            bf16=accelerator.bf16 if accelerator else False,
        )
    else:
        device = DeviceFacts(type=DeviceType.CPU, name="CPU", count=1, memory=memory, bf16=False)
    return MachineFacts(
        device=device, cpus=max(1, int(workers * max(1.0, worker_cpu(job)))), memory=memory
    )


def _bytes(amount: str) -> int:
    return int(amount[:-2]) * _UNITS[amount[-2:]]

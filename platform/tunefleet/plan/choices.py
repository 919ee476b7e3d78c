"""What the user left open: device, precision, workers, threads and the micro-batch.

Decides every default that depends on the machine, says why, and refuses what contradicts
itself or the machine. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import DeviceType, Precision
from tunefleet.plan.facts import DeviceFacts, MachineFacts
from tunefleet.plan.notes import Notes, some

MICRO_BATCH_CAP = {DeviceType.CPU: 16, DeviceType.MPS: 16, DeviceType.CUDA: 64}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job runs and how it computes there.

    ``most``: so many workers the run may have later; its steps are cut for them.
    """

    device: DeviceFacts
    precision: Precision
    workers: int
    threads: int
    most: int


def place(
    job: FineTuneJob,
    machine: MachineFacts,
    frozen: Precision | None,
    placed: int | None,
    notes: Notes,
) -> Placement:
    """Device, precision, workers and threads.

    ``frozen``: the precision of a run that goes on; ``placed``: of a range of workers, how many
    had a place.
    """
    device = _device(job, machine, notes)
    precision = frozen or _precision(job, device, notes)
    _check_precision(precision, device, notes)
    workers = _workers(job, device, placed, notes)
    threads = _threads(job, machine, device, workers, notes)
    most = max(workers, job.spec.workers.most)
    return Placement(device, precision, workers, threads, most)


def counted_by(job: FineTuneJob) -> str:
    """The field that says how many workers there may be."""
    return "spec.workers.count" if job.spec.workers.max is None else "spec.workers.max"


def _device(job: FineTuneJob, machine: MachineFacts, notes: Notes) -> DeviceFacts:
    asked, found = job.spec.workers.resources.gpu, machine.device
    if asked == 0 and found.type is not DeviceType.CPU:
        return DeviceFacts(
            type=DeviceType.CPU, name="CPU", count=1, memory=machine.memory, bf16=False
        )
    if asked and found.type is DeviceType.CPU:
        notes.refuse(
            "spec.workers.resources.gpu",
            f"a GPU is asked for, and this machine has none ({found.name})",
            "remove gpu to train on the CPU, or run on a machine with a GPU",
        )
    if asked is None:
        gpu = found.type is not DeviceType.CPU
        reason = f"{found.name} is here" if gpu else "this machine has no GPU"
        notes.decide("spec.workers.resources.gpu", int(gpu), reason)
    return found


def _precision(job: FineTuneJob, device: DeviceFacts, notes: Notes) -> Precision:
    asked = job.spec.training.precision
    if asked != "auto":
        return Precision(asked)
    if device.type is DeviceType.CUDA and device.bf16:
        notes.decide("spec.training.precision", "bf16", f"{device.name} computes bf16 natively")
        return Precision.BF16
    kind = {DeviceType.CPU: "the CPU", DeviceType.MPS: "Apple GPUs"}.get(device.type, device.name)
    reason = f"bf16 compute is only chosen on GPUs with native bf16; {kind} trains in fp32"
    notes.decide("spec.training.precision", "fp32", reason)
    return Precision.FP32


def _check_precision(precision: Precision, device: DeviceFacts, notes: Notes) -> None:
    where = "spec.training.precision"
    if precision is Precision.BF16 and not device.bf16:
        notes.refuse(where, f"{device.name} has no native bf16", "use precision: auto or fp32")
    if precision is Precision.FP64 and device.type is not DeviceType.CPU:
        notes.refuse(
            where,
            f"fp64 is computed on the CPU only, and this plan uses {device.name}",
            "use precision: auto, or set workers.resources.gpu: 0",
        )


def _workers(job: FineTuneJob, device: DeviceFacts, placed: int | None, notes: Notes) -> int:
    where, asked = "spec.workers.count", job.spec.workers.count
    least, most = job.spec.workers.min, job.spec.workers.max
    if least is not None and most is not None:
        chosen = most if placed is None else placed
        why = "as many as may be" if chosen == most else "so many had a place"
        notes.decide("spec.workers", chosen, f"of {least} to {most}: {why}")
        return chosen
    if asked is None:
        if device.type is DeviceType.CUDA:
            notes.decide(where, device.count, f"one worker per GPU, {device.count} here")
            return device.count
        notes.decide(where, 1, "one worker, unless more are asked for, where there is no CUDA GPU")
        return 1
    if device.type is not DeviceType.CPU and asked > device.count:
        notes.refuse(
            where,
            f"{asked} workers need {asked} GPUs; this machine has {device.count} ({device.name})",
            f"set workers.count: {device.count} or less, or workers.resources.gpu: 0 for the CPU",
        )
    return asked


def _threads(
    job: FineTuneJob, machine: MachineFacts, device: DeviceFacts, workers: int, notes: Notes
) -> int:
    asked = job.spec.workers.resources.cpu
    threads = max(1, int(asked)) if asked is not None else max(1, machine.cpus // workers)
    if asked is None:
        reason = f"{machine.cpus} cores shared by {some(workers, 'worker')}"
        notes.decide("spec.workers.resources.cpu", threads, reason)
    wanted = workers * threads
    if wanted > machine.cpus and device.type is DeviceType.CPU:
        notes.warn(
            f"{workers} workers × {some(threads, 'thread')} are more than the {machine.cpus} cores "
            "here: they wait for each other; use fewer workers or resources.cpu: 1"
        )
    return threads


def divisors(number: int) -> list[int]:
    """Every divisor in ascending order."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def micro_batch(
    job: FineTuneJob,
    placement: Placement,
    frozen: int | None,
    fits: Callable[[int], bool],
    notes: Notes,
) -> int:
    """Units per micro-batch. ``frozen``: that of a run that goes on; ``fits``: memory allows it."""
    batch, asked = job.spec.training.batch_size, job.spec.training.micro_batch
    if frozen is not None:
        if batch % frozen == 0:
            chosen = frozen
            notes.decide("spec.training.microBatch", chosen, "kept: the cut of a run never changes")
        else:
            chosen = batch
            notes.refuse(
                "spec.training.batchSize",
                f"{batch} cannot be cut into the run's micro-batches of {frozen}",
                "start a new run (--fresh)",
            )
    elif asked == "auto":
        chosen = _chosen(batch, placement, fits, notes)
    else:
        chosen = _asked(batch, asked, notes)
    _enough_for_all(batch, chosen, placement.most, counted_by(job), notes)
    return chosen


def _chosen(batch: int, placement: Placement, fits: Callable[[int], bool], notes: Notes) -> int:
    cap, workers = MICRO_BATCH_CAP[placement.device.type], placement.most
    within = [d for d in divisors(batch) if d <= cap]
    fitting = [d for d in within if fits(d)] or within[:1]
    shared = [d for d in fitting if batch // d >= workers] or fitting[:1]
    chosen = shared[-1]
    reason = f"the largest divisor of batchSize {batch} up to {cap}"
    if fitting[-1] < within[-1]:
        reason += " that fits into memory"
    if chosen < fitting[-1]:
        reason += f" that gives each of {workers} workers a micro-batch in every step"
    notes.decide("spec.training.microBatch", chosen, reason)
    if batch > cap >= 8 * chosen and fitting[-1] == chosen == within[-1]:
        notes.warn(
            f"batchSize {batch} has no divisor between {chosen + 1} and {cap}: micro-batches of "
            f"{chosen} are slow; a multiple of 8 or 16 is faster"
        )
    return chosen


def _asked(batch: int, asked: int, notes: Notes) -> int:
    if batch % asked == 0:
        return asked
    near = divisors(batch)
    below, above = max(d for d in near if d <= asked), min(d for d in near if d >= asked)
    notes.refuse(
        "spec.training.microBatch",
        f"{asked} does not divide batchSize {batch}",
        f"use {below} or {above} (the nearest divisors), another batchSize, or auto",
    )
    return below


def _enough_for_all(batch: int, micro: int, workers: int, where: str, notes: Notes) -> None:
    pieces, field = batch // micro, where.removeprefix("spec.")
    if workers <= pieces:
        return
    if batch >= workers:
        smaller = max(d for d in divisors(batch) if batch // d >= workers)
        remedy = f"set microBatch: {smaller}, {field}: {pieces} or a larger batchSize"
    else:
        remedy = f"set {field}: {pieces} or less, or a batchSize of at least {workers}"
    notes.refuse(
        where,
        f"{workers} workers share {some(pieces, 'micro-batch')} per step "
        f"(batchSize {batch} ÷ microBatch {micro}): some would be paid for nothing",
        remedy,
    )

"""How long a run takes, from counted work and stated rates.

Decides the count of floating-point operations (6 per matrix parameter and token, plus
attention), of bytes the optimiser and the reduction move, and which rate each is divided
by. Rates are stated with bounds, because a machine is only known once it has run. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunefleet.api.job import FineTuneJob
from tunefleet.api.words import DeviceType, Precision
from tunefleet.plan.document import Estimate, Plan
from tunefleet.plan.facts import DeviceFacts, Facts, ModelFacts
from tunefleet.plan.memory import gated
from tunefleet.plan.notes import some


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate per worker with its bounds, and where it comes from."""

    value: float
    low: float
    high: float
    basis: str

    def times(self, factor: float) -> Rate:
        """The rate of ``factor`` such devices."""
        return Rate(self.value * factor, self.low * factor, self.high * factor, self.basis)


# Dense bf16 peaks in TFLOP/s by a part of the device's name (vendors' data sheets), the
# longest part first where one contains another.
_BF16_TERAFLOPS = {
    "B200": 2250, "H200": 989, "H100": 989, "H800": 989, "A100": 312, "A800": 312, "L40S": 362,
    "L40": 181, "L4": 121, "A10G": 70, "A10": 125, "A40": 150, "A6000": 155, "4090": 165,
    "3090": 71, "V100": 125, "T4": 65,
}  # fmt: skip
_UNKNOWN_TERAFLOPS = 40.0
# Share of a GPU's peak that fine-tuning reaches; without tensor cores fp32 has about a 1/8.
_USED, _USED_LOW, _USED_HIGH = 0.25, 0.08, 0.45
_FP32_SHARE = 1 / 8

# Measured: a MiniLM trained in fp32 on one core of a busy server did 30 to 65 GFLOP/s.
_CORE = Rate(40e9, 15e9, 100e9, "40 GFLOP/s per core (30 to 65 measured on server cores)")
_APPLE = Rate(1.5e12, 0.4e12, 5e12, "1.5 TFLOP/s of an Apple GPU (assumed)")

_MEMORY_RATE = {DeviceType.CPU: 5e9, DeviceType.CUDA: 8e11, DeviceType.MPS: 5e10}
_LINK_RATE = {DeviceType.CPU: 5e8, DeviceType.CUDA: 2e10, DeviceType.MPS: 5e8}

# Measured on 2 cores: Ray 4 to 5 s, workers 13 to 17 s, imports and model up to 8 s.
_START, _START_LOW, _START_HIGH = 20.0, 8.0, 45.0
# The model is read from disk; report and bundle are written.
_LOAD_RATE = 2e8
_END, _END_LOW, _END_HIGH = 10.0, 3.0, 30.0


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do; ``forward_tokens`` are those of all evaluations together."""

    steps: int
    step_tokens: float
    forward_tokens: float
    save_steps: int | None
    save_seconds: float | None
    stall_seconds: float


def matrix_parameters(model: ModelFacts, *, vocabulary_logits: bool) -> int:
    """Parameters that every token is multiplied with: all but the embeddings it looks up."""
    embedding = model.vocab_size * model.hidden_size
    # Families with a gated feed-forward encode positions by rotation, without parameters.
    positions = 0 if gated(model) else (model.max_positions or 0) * model.hidden_size
    rest = model.parameters - embedding - positions
    if vocabulary_logits and model.tied_embeddings is not False:
        rest += embedding
    return max(rest, model.parameters // 20, 1)


def forward_flops(model: ModelFacts, length: float, *, vocabulary_logits: bool) -> float:
    """Operations per token of a forward pass: 2 per parameter, 4·L·h·s for attention."""
    matrices = matrix_parameters(model, vocabulary_logits=vocabulary_logits)
    return 2 * matrices + 4 * model.layers * model.hidden_size * length


def training_flops(
    model: ModelFacts, length: float, *, vocabulary_logits: bool, checkpointing: bool
) -> float:
    """Operations per token of forward and backward (and a second forward when recomputed).

    The backward pass is twice the forward one; where most weights are frozen it only carries
    gradients through, which is once, plus the trained weights' own.
    """
    forward = forward_flops(model, length, vocabulary_logits=vocabulary_logits)
    frozen = model.trainable_parameters < model.parameters // 2
    backward = forward + 2 * model.trainable_parameters if frozen else 2 * forward
    return forward + backward + (forward if checkpointing else 0)


def mean_length(lengths: Sequence[Sequence[int]]) -> float:
    """The mean length a token sees (long units hold more tokens)."""
    tokens = sum(length * units for length, units in lengths)
    return sum(length * length * units for length, units in lengths) / tokens if tokens else 0.0


def device_rate(
    device: DeviceFacts, precision: Precision, threads: int, measured: float | None
) -> Rate:
    """Operations per second of one worker; a ``measured`` rate stands above any table."""
    if measured is not None:
        return Rate(
            measured, measured * 0.8, measured * 1.2, f"{measured / 1e9:,.1f} GFLOP/s measured"
        )
    slower = 0.5 if precision is Precision.FP64 else 1.0
    if device.type is DeviceType.CPU:
        cores = _CORE.times(threads * slower)
        return Rate(
            cores.value, cores.low, cores.high, f"{_CORE.basis} × {some(threads, 'thread')}"
        )
    if device.type is DeviceType.MPS:
        return _APPLE.times(slower)
    known = next((n for n in _BF16_TERAFLOPS if n in device.name), None)
    peak = _BF16_TERAFLOPS[known] if known else _UNKNOWN_TERAFLOPS
    share = 1.0 if precision is Precision.BF16 else _FP32_SHARE
    base = peak * 1e12 * share
    named = f"{peak:g} TFLOP/s dense bf16" if known else f"unknown device, {peak:g} TFLOP/s assumed"
    basis = f"{_USED:.0%} of {named}" + ("" if share == 1.0 else f" × 1/8 at {precision}")
    return Rate(base * _USED, base * _USED_LOW, base * _USED_HIGH, basis)


def measured_flops(
    job: FineTuneJob, facts: Facts, done: Plan, *, steps: int, train_seconds: float
) -> float | None:
    """Operations per second of one worker, from a run that was planned as ``done``.

    ``train_seconds`` are the worker-seconds that ``steps`` took, updates and reductions
    included. None where nothing was measured.
    """
    if steps <= 0 or train_seconds <= 0 or not done.padded_tokens:
        return None
    per_token = training_flops(
        facts.model,
        mean_length(facts.data.train.lengths),
        vocabulary_logits=job.spec.declaration.weight_unit == "tokens",
        checkpointing=done.gradient_checkpointing,
    )
    return per_token * steps * done.padded_tokens / done.steps_per_epoch / train_seconds


@dataclass(frozen=True, slots=True)
class Engine:
    """What the work is done with. ``rate`` is one worker's; ``length`` what a token sees."""

    model: ModelFacts
    device: DeviceFacts
    rate: Rate
    workers: int
    vocabulary_logits: bool
    checkpointing: bool
    length: float

    @property
    def token_flops(self) -> float:
        """Operations per padded token of training."""
        return training_flops(
            self.model,
            self.length,
            vocabulary_logits=self.vocabulary_logits,
            checkpointing=self.checkpointing,
        )

    def step_seconds(self, tokens: float, speed: float) -> float:
        """Seconds of one optimiser step: computing, reducing, updating."""
        state = self.model.trainable_parameters * 4
        update = 7 * state / _MEMORY_RATE[self.device.type]
        share = 2 * (self.workers - 1) / self.workers
        reduce = share * state / _LINK_RATE[self.device.type]
        return tokens * self.token_flops / (speed * self.workers) + reduce + update

    @property
    def start_seconds(self) -> float:
        """Seconds before the first step: processes, imports, the model."""
        return _START + self.model.parameters * 4 / _LOAD_RATE

    @property
    def end_seconds(self) -> float:
        """Seconds after the last evaluation: bundle and report."""
        return _END

    def scoring_seconds(self, tokens: float) -> float:
        """Seconds of a forward pass over so many tokens."""
        forward = forward_flops(self.model, self.length, vocabulary_logits=self.vocabulary_logits)
        return tokens * forward / (self.rate.value * self.workers)

    def run_seconds(self, work: Work) -> Estimate:
        """Wall seconds of the whole run with bounds."""
        load = self.model.parameters * 4 / _LOAD_RATE
        training, evaluating = self._parts(work, self.rate.value)
        fixed, group = _START + load + _END, some(self.workers, "worker")
        return Estimate(
            value=training + evaluating + fixed,
            low=sum(self._parts(work, self.rate.high)) + _START_LOW + load + _END_LOW,
            high=sum(self._parts(work, self.rate.low)) + _START_HIGH + load + _END_HIGH,
            basis=(
                f"training {training:,.0f} s: {work.steps:,} steps × {work.step_tokens:,.0f} "
                f"padded tokens × {self.token_flops / 1e6:,.1f} MFLOP on {group} "
                f"at {self.rate.basis}, with update, reduction and saving; evaluation "
                f"{evaluating:,.0f} s; start {_START + load:,.0f} s; bundle and report "
                f"{_END:,.0f} s"
            ),
        )

    def _parts(self, work: Work, speed: float) -> tuple[float, float]:
        """Seconds of training and of evaluating."""
        step = self.step_seconds(work.step_tokens, speed)
        saves = work.steps // work.save_steps if work.save_steps else 0
        if work.save_seconds:
            saves += int(step * work.steps / work.save_seconds)
        forward = forward_flops(self.model, self.length, vocabulary_logits=self.vocabulary_logits)
        evaluating = work.forward_tokens * forward / (speed * self.workers)
        return step * work.steps + saves * work.stall_seconds, evaluating

"""The ledger of consumed samples: which ids passed backward, provable from a checkpoint.

Decides the digest. A worker adds up a hash of every id it has used, which does not depend on
order or on how work was dealt; the sums of all workers travel with the step's reduction and
are compared with what the plan says the step must hold. The chain of step digests stands in
every checkpoint.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

CHUNKS = 3
_BITS = 21
_MASK = np.uint64((1 << _BITS) - 1)

# Sums of 21-bit chunks stay exact in a double for 2**32 ids, so that they can travel in the
# same float64 vector as the loss.
Digest = npt.NDArray[np.float64]


def digest_of(ids: npt.NDArray[np.int64], epoch: int) -> Digest:
    """The digest of some ids in an epoch: [3] sums of chunks of a 64-bit hash.

    The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014).
    """
    with np.errstate(over="ignore"):
        value = ids.astype(np.uint64) + np.uint64(epoch + 1) * np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value = value ^ (value >> np.uint64(31))
    chunks = [(value >> np.uint64(shift * _BITS)) & _MASK for shift in range(CHUNKS)]
    return np.array([chunk.sum(dtype=np.uint64) for chunk in chunks], dtype=np.float64)


def extend(chain: str, step: int, digest: Digest) -> str:
    """The chain after a step: sha256 over the chain before, the step and its digest."""
    text = f"{chain}|{step}|" + ",".join(str(int(part)) for part in digest)
    return hashlib.sha256(text.encode()).hexdigest()


def micro_batch_seed(seed: int, step: int, index: int) -> int:
    """The seed of a micro-batch's random numbers: f(seed, step, index), whoever computes it."""
    words = np.random.SeedSequence([seed, 3, step, index]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))

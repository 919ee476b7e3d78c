"""The nearest word to a wrong one: what "did you mean" offers.

Decides how names are compared (case, ``_`` and ``-`` do not count; words of other tools are
known by a short table). Imports nothing but the standard library.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_CLOSE = 0.7

SYNONYMS = {
    "lr": "learningRate",
    "numtrainepochs": "epochs",
    "numepochs": "epochs",
    "nepochs": "epochs",
    "epoch": "epochs",
    "steps": "maxSteps",
    "perdevicetrainbatchsize": "batchSize",
    "trainbatchsize": "batchSize",
    "bs": "batchSize",
    "gradientaccumulationsteps": "microBatch",
    "microbatchsize": "microBatch",
    "maxseqlength": "maxLength",
    "maxseqlen": "maxLength",
    "sequencelen": "maxLength",
    "cutofflen": "maxLength",
    "maxgradnorm": "clipNorm",
    "gradientclipping": "clipNorm",
    "warmupratio": "warmup",
    "warmupsteps": "warmup",
    "lrschedulertype": "schedule",
    "scheduler": "schedule",
    "optim": "optimizer",
    "loraalpha": "alpha",
    "lorar": "rank",
    "r": "rank",
    "loradropout": "dropout",
    "loratargetmodules": "targetModules",
    "basemodel": "model",
    "modelnameorpath": "model",
    "dataset": "data",
    "datasets": "data",
    "path": "uri",
    "file": "uri",
    "files": "uri",
    "url": "uri",
    "evalsteps": "every",
    "evalstrategy": "every",
    "savesteps": "every",
    "metricforbestmodel": "metric",
    "savetotallimit": "keep",
    "outputdir": "checkpoints",
    "numworkers": "workers",
    "numgpus": "gpu",
    "gpus": "gpu",
    "cpus": "cpu",
    "eval": "validation",
    "dev": "validation",
    "splitratio": "fraction",
    "testsize": "fraction",
    "adameps": "epsilon",
    "adamepsilon": "epsilon",
}
"""Words of other tools (squeezed by :func:`squeeze`) and the field that answers to them."""


def squeeze(word: str) -> str:
    """A word without case, spaces, hyphens and underscores."""
    return "".join(letter for letter in word.casefold() if letter.isalnum())


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None when nothing is close."""
    by_squeezed: dict[str, str] = {}
    for candidate in known:
        by_squeezed.setdefault(squeeze(candidate), candidate)
    asked = squeeze(word[:80])
    if not asked:
        return None
    if asked in by_squeezed:
        return by_squeezed[asked]
    if SYNONYMS.get(asked) in by_squeezed.values():
        return SYNONYMS[asked]
    found = difflib.get_close_matches(asked, list(by_squeezed), n=1, cutoff=_CLOSE)
    return by_squeezed[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean `epochs`?``, or an empty string."""
    found = nearest(word, known)
    return f"did you mean `{found}`?" if found else ""

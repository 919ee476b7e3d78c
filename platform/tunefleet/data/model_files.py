"""The base model's files: where they are, whether they can be used, and their digest.

Decides which files of a model matter (safetensors, configuration, tokenizer), that pickles
and code are refused, and what is fetched of a hub model. Reads configuration and safetensors
headers only, never weights; imports huggingface_hub for hub names.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunefleet.api.errors import ModelError
from tunefleet.api.job import ModelSpec
from tunefleet.api.words import Severity
from tunefleet.data.cache import digest_file
from tunefleet.data.sources import local_path
from tunefleet.plan.facts import Finding

_ANSWERS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
_NOT_TOKENIZER = {"config.json", "generation_config.json", "model.safetensors.index.json"}
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
    "tekken.json",
    "*.tiktoken",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model's folder. ``source`` is how the job names it; ``revision`` a hub commit."""

    path: Path
    source: str
    revision: str = ""


def find_model(model: ModelSpec, base: Path) -> ModelFolder:
    """The folder that holds the model; a hub model is fetched. Raises ``ModelError``."""
    if model.name is not None:
        beside = base / model.name
        if beside.is_dir() and (beside / "config.json").exists():
            raise ModelError(
                f"spec.model.name: {model.name!r} is a folder beside the job file",
                remedy=f"a folder is named by uri: set model: {{uri: {model.name}}}",
            )
        return _fetch(model.name, model.revision)
    if model.uri is not None:
        return ModelFolder(local_path(model.uri, base), model.uri)
    assert model.from_ is not None
    if model.from_.bundle is not None:
        return ModelFolder(local_path(model.from_.bundle, base), model.from_.bundle)
    raise ModelError(
        f"spec.model.from.job: the newest bundle of {model.from_.job!r} has not been looked up",
        remedy="name its folder: model: {from: {bundle: …}}",
    )


def _fetch(name: str, revision: str | None) -> ModelFolder:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    def download(*, local: bool) -> Path:
        found = huggingface_hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(_ANSWERS),
            local_files_only=local,
        )
        return Path(found)

    pinned = revision is not None and len(revision) == 40
    try:
        path = download(local=False) if not pinned else _pinned(download)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelError(
            f"spec.model.name: cannot fetch {name!r} from the hub ({reason})",
            remedy="check the name and revision, and that the hub can be reached (a private or "
            "gated model needs HF_TOKEN); a folder on this machine is named by model.uri",
        ) from None
    return ModelFolder(path, name, path.name)


def _pinned(download: object) -> Path:
    """A commit never changes: take what is there, and ask the hub for what is not."""
    assert callable(download)
    try:
        path = download(local=True)
        if isinstance(path, Path) and any(path.glob("*.safetensors")):
            return path
    except OSError:
        pass
    found = download(local=False)
    assert isinstance(found, Path)
    return found


def check_model(path: Path) -> dict[str, object]:
    """The configuration of a usable model folder; raises ``ModelError`` for any other."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ModelError(
            f"the model folder {path} {what}",
            remedy="spec.model.uri is a folder with config.json, relative to the job file",
        )
    config = _config(path)
    if config.get("auto_map"):
        raise ModelError(
            f"{path} needs code of its own (auto_map in config.json), which is not run",
            remedy="use a model whose architecture transformers has",
        )
    _check_weights(path)
    if not any(any(path.glob(pattern)) for pattern in _TOKENIZERS):
        raise ModelError(
            f"{path} has no tokenizer (tokenizer.json, tokenizer.model or vocab.txt)",
            remedy="copy the tokenizer's files of the original model into the folder",
        )
    return config


def _config(path: Path) -> dict[str, object]:
    file = path / "config.json"
    if not file.is_file():
        inside = sorted(entry.parent.name for entry in path.glob("*/config.json"))
        raise ModelError(
            f"{path} has no config.json",
            remedy=f"the model seems to be in its folder {inside[0]}"
            if inside
            else "a model folder is what save_pretrained writes",
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(
            f"{file} is not JSON ({error})", remedy="copy the model's files again"
        ) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(
            f"{file} names no model_type", remedy="use a folder that save_pretrained has written"
        )
    return config


def _check_weights(path: Path) -> None:
    if any(path.glob("*.safetensors")):
        return
    pickles = sorted(entry.name for pattern in PICKLES for entry in path.glob(pattern))
    if pickles:
        raise ModelError(
            f"{path} holds its weights as a pickle only ({pickles[0]}), which can run code when "
            "it is read",
            remedy='convert it once, where you trust its origin: python -c "from transformers '
            f"import AutoModel; m = AutoModel.from_pretrained('{path}'); "
            "m.save_pretrained('converted')\", and copy the tokenizer's files",
        )
    raise ModelError(
        f"{path} has no weights (*.safetensors)",
        remedy="download the model again, safetensors included",
    )


def head_findings(config: Mapping[str, object], labels: Sequence[str]) -> list[Finding]:
    """What becomes of a classification head that the checkpoint has."""
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    if not labels or not any("ForSequenceClassification" in str(name) for name in names):
        return []
    by_number = config.get("id2label")
    had = (
        [str(by_number[key]) for key in sorted(by_number, key=int)]
        if isinstance(by_number, dict)
        else ["LABEL_0", "LABEL_1"]
    )
    if had == list(labels):
        return []
    shown = ", ".join(had[:5]) + (", …" if len(had) > 5 else "")
    return [
        Finding(
            severity=Severity.WARNING if sorted(had) == sorted(labels) else Severity.INFO,
            code="head",
            message=f"the model's own head answers {len(had)} labels ({shown}), the data has "
            f"{len(labels)} ({', '.join(labels[:5])}{', …' if len(labels) > 5 else ''}); its head "
            "is replaced by a new one",
            remedy="list data.labels in the model's order to keep its head"
            if sorted(had) == sorted(labels)
            else "",
        )
    ]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a safetensors header."""

    dtype: str
    shape: tuple[int, ...]


def read_headers(path: Path) -> dict[str, Tensor]:
    """Every tensor's type and shape, from the headers. Raises ``ModelError``."""
    found: dict[str, Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        found.update(_read_header(file))
    return found


def _read_header(file: Path) -> dict[str, Tensor]:
    size = file.stat().st_size
    try:
        with file.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > size:
                raise ValueError("its header is longer than the file")
            header = json.loads(handle.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if 8 + length + end > size:
            raise ValueError(f"it has {size:,} bytes where {8 + length + end:,} are announced")
        return {
            name: Tensor(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()
        }
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelError(
            f"{file} is no whole safetensors file: {error}",
            remedy="a cut-off download looks like this: fetch the file again",
        ) from None


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of the files that affect answers, and of the tokenizer's alone."""

    model: str
    tokenizer: str


def digest_model(path: Path, cache: Path | None = None) -> Digests:
    """Digests of a model folder; with ``cache`` unchanged files are not read again."""
    files = answer_files(path)
    sums = {file.name: digest_file(file, cache) for file in files}
    tokenizer = {
        name: total
        for name, total in sums.items()
        if name not in _NOT_TOKENIZER and not name.endswith(".safetensors")
    }
    return Digests(f"sha256:{_fold(sums)}", f"sha256:{_fold(tokenizer)}")


def answer_files(path: Path) -> Sequence[Path]:
    """The files of a model folder that affect its answers, sorted by name."""
    return sorted({file for pattern in _ANSWERS for file in path.glob(pattern) if file.is_file()})


def _fold(sums: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for name, total in sorted(sums.items()):
        digest.update(f"{name} {total}\n".encode())
    return digest.hexdigest()

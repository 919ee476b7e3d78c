"""Safetensors files without a second copy: laid out in host memory, read to where they belong.

Decides the layout once; after that a save is one copy of each tensor to its place, and the
bytes can be written from where they lie. The library's own ``save`` needs the tensors and a
second copy of all of them as bytes at the same time, and its reading maps the file, whose pages
then come from a disk a few at a time. The form is that of safetensors: eight bytes of header
length, a JSON header, the tensors back to back, the widest types first so that each is aligned
(https://github.com/huggingface/safetensors, "Format"). Imports torch alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from math import prod
from typing import Protocol

import torch

_TYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.bool: "BOOL",
}
_DTYPES = {text: dtype for dtype, text in _TYPES.items()}
_HEADER_AT_MOST = 100_000_000

Kind = tuple[torch.dtype, torch.Size]


class FileImage:
    """The bytes of a safetensors file with the names, types and shapes of some tensors.

    Memory of the host, page-locked where the tensors come from a GPU.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Lay out and reserve; ``tensors`` give names, types and shapes, not values.

        Raises ``TypeError`` for a type that the form does not know.
        """
        self._kinds = _kinds(tensors)
        order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
        header: dict[str, object] = {}
        end = 0
        for name in order:
            tensor = tensors[name]
            if tensor.dtype not in _TYPES:
                raise TypeError(f"{name} is of {tensor.dtype}, which no checkpoint can hold")
            begin, end = end, end + tensor.nbytes
            header[name] = {
                "dtype": _TYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [begin, end],
            }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        head = struct.pack("<Q", len(text)) + text
        pinned = any(tensor.is_cuda for tensor in tensors.values())
        # Zeros, not empty memory: the pages are there before the first copy has to wait for them.
        self._bytes = torch.zeros(len(head) + end, dtype=torch.uint8, pin_memory=pinned)
        self._bytes[: len(head)] = torch.frombuffer(bytearray(head), dtype=torch.uint8)
        self._views: dict[str, torch.Tensor] = {}
        at = len(head)
        for name in order:
            tensor = tensors[name]
            flat = self._bytes[at : at + tensor.nbytes].view(tensor.dtype)
            self._views[name] = flat.view(tensor.shape)
            at += tensor.nbytes

    def fits(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether these tensors have the names, types and shapes of the layout."""
        return self._kinds == _kinds(tensors)

    def fill(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy the tensors as they are now; returns when all are copied."""
        for name, view in self._views.items():
            view.copy_(tensors[name], non_blocking=True)
        if self._bytes.is_pinned():
            torch.cuda.synchronize()

    @property
    def body(self) -> memoryview:
        """The file's bytes, where they lie."""
        return self._bytes.numpy().data


class Readable(Protocol):
    """A file that is open at its beginning; what is read of it may be less than was asked for."""

    @property
    def name(self) -> object: ...
    def readinto(self, buffer: memoryview, /) -> int | None: ...


class FileReader:
    """An open safetensors file. ``kinds`` are the types and shapes of its tensors by name.

    Raises ``ValueError`` for a file that is none, or shorter than it says.
    """

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.kinds: dict[str, Kind] = dict(_layout(file))

    def read(self, place: Callable[[str, Kind], torch.Tensor]) -> None:
        """Fill for each tensor, in the file's order, the one that ``place`` gives for it.

        One of the same type on the CPU is read into; any other gets a copy.
        """
        for name, kind in self.kinds.items():
            target = place(name, kind)
            fits = (target.dtype, target.shape) == kind and target.is_contiguous()
            if fits and target.device.type == "cpu":
                self._fill(target)
                continue
            dtype, shape = kind
            read = torch.empty(shape, dtype=dtype)
            self._fill(read)
            target.copy_(read)

    def _fill(self, tensor: torch.Tensor) -> None:
        _read(self._file, tensor.detach().reshape(-1).view(torch.uint8).numpy().data)


def _layout(file: Readable) -> list[tuple[str, Kind]]:
    """Names and kinds in the order of the bytes; the file is read to their beginning."""
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    if length > _HEADER_AT_MOST:
        raise ValueError(f"{file.name} is no safetensors file: its header is too long")
    text = _exactly(file, length)
    try:
        entries = [
            (*entry["data_offsets"], name, _DTYPES[entry["dtype"]], torch.Size(entry["shape"]))
            for name, entry in json.loads(text).items()
            if name != "__metadata__"
        ]
        entries.sort(key=lambda entry: entry[:3])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file.name} is no safetensors file: {error!r} in its header") from error
    found, at = [], 0
    for begin, end, name, dtype, shape in entries:
        if begin != at or end - begin != prod(shape) * dtype.itemsize:
            raise ValueError(f"{file.name} is no safetensors file: {name} is not in its place")
        found.append((name, (dtype, shape)))
        at = end
    return found


def _exactly(file: Readable, size: int) -> bytes:
    body = bytearray(size)
    _read(file, memoryview(body))
    return bytes(body)


def _read(file: Readable, into: memoryview) -> None:
    while into.nbytes:
        count = file.readinto(into)
        if not count:
            raise ValueError(f"{file.name} ends too early")
        into = into[count:]


def _kinds(tensors: Mapping[str, torch.Tensor]) -> dict[str, Kind]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}

"""A safetensors file in host memory whose tensors are views into it.

Decides the layout once; after that a save is one copy of each tensor to its place, and the
bytes can be written from where they lie. The library's own ``save`` needs the tensors and a
second copy of all of them as bytes at the same time. The form is that of safetensors: eight
bytes of header length, a JSON header, the tensors back to back, the widest types first so that
each is aligned (https://github.com/huggingface/safetensors, "Format"). Imports torch alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

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


def _kinds(
    tensors: Mapping[str, torch.Tensor],
) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}

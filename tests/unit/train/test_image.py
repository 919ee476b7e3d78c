"""Files laid out in memory are read by safetensors as it reads its own, and the other way round."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunefleet.train.image import FileImage, FileReader, Kind

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
KINDS = st.dictionaries(
    st.text(max_size=8),
    st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=3).map(tuple)),
    max_size=6,
)


def drawn(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 2, shape).to(dtype)


@given(KINDS)
def test_the_library_reads_what_was_filled_in(
    kinds: dict[str, tuple[torch.dtype, tuple[int, ...]]],
) -> None:
    tensors = {name: drawn(*kind) for name, kind in kinds.items()}
    image = FileImage(tensors)
    image.fill(tensors)
    found = safetensors.torch.load(bytes(image.body))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_second_fill_replaces_the_first_in_the_same_memory() -> None:
    image = FileImage({"w": torch.zeros(3)})
    where = torch.frombuffer(image.body, dtype=torch.uint8).data_ptr()
    for value in (1.0, 2.0):
        image.fill({"w": torch.full((3,), value)})
        assert safetensors.torch.load(bytes(image.body))["w"].tolist() == [value] * 3
    assert torch.frombuffer(image.body, dtype=torch.uint8).data_ptr() == where


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        ({"w": torch.ones(2, 3)}, True),
        ({"w": torch.ones(3, 2)}, False),
        ({"w": torch.ones(2, 3, dtype=torch.float64)}, False),
        ({"v": torch.ones(2, 3)}, False),
    ],
    ids=["other values fit", "another shape does not", "another type does not", "nor a name"],
)
def test_a_layout_fits_names_types_and_shapes(other: dict[str, torch.Tensor], fits: bool) -> None:
    assert FileImage({"w": torch.zeros(2, 3)}).fits(other) is fits


def test_a_transposed_tensor_is_written_in_rows() -> None:
    tensor = torch.arange(6.0).view(2, 3).t()
    image = FileImage({"w": tensor})
    image.fill({"w": tensor})
    assert torch.equal(safetensors.torch.load(bytes(image.body))["w"], tensor)


def test_a_type_that_no_file_knows_is_refused() -> None:
    with pytest.raises(TypeError, match=r"w is of torch\.complex64"):
        FileImage({"w": torch.zeros(1, dtype=torch.complex64)})


@given(KINDS)
def test_what_the_library_wrote_is_read_to_where_it_belongs(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, tuple[torch.dtype, tuple[int, ...]]]
) -> None:
    tensors = {name: drawn(*kind) for name, kind in kinds.items()}
    path = tmp_path_factory.mktemp("library") / "file"
    safetensors.torch.save_file(tensors, path)
    found: dict[str, torch.Tensor] = {}

    def place(name: str, kind: Kind) -> torch.Tensor:
        dtype, shape = kind
        found[name] = torch.zeros(shape, dtype=dtype)
        return found[name]

    with path.open("rb", buffering=0) as opened:
        file = FileReader(opened)
        assert file.kinds == {name: (each.dtype, each.shape) for name, each in tensors.items()}
        file.read(place)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "target",
    [torch.zeros(3, 2).t(), torch.zeros(2, 3, dtype=torch.float64)],
    ids=["in columns", "of a wider type"],
)
def test_a_tensor_that_lies_otherwise_gets_a_copy(tmp_path: Path, target: torch.Tensor) -> None:
    written = torch.arange(6.0).view(2, 3)
    safetensors.torch.save_file({"w": written}, tmp_path / "file")
    with (tmp_path / "file").open("rb", buffering=0) as opened:
        FileReader(opened).read(lambda name, kind: target)
    assert torch.equal(target.float(), written)


def a_file(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


ENTRY = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff" * 64,
        struct.pack("<Q", 64) + b"{}",
        struct.pack("<Q", 4) + b"{{{{",
        a_file([1]),
        a_file({"w": {}}, b"1234"),
        a_file({"w": ENTRY | {"dtype": "F4"}}, b"1234"),
        a_file({"w": ENTRY | {"shape": [5]}}, b"1234"),
        a_file({"w": ENTRY | {"shape": [-1]}}, b"1234"),
        a_file({"w": ENTRY | {"data_offsets": [4, 8]}}, b"12341234"),
        a_file({"w": ENTRY}, b"123"),
    ],
    ids=[
        "an empty one",
        "one whose header is longer than any",
        "one that ends in its header",
        "one whose header is no JSON",
        "one whose header is no mapping",
        "one with a tensor of which nothing is said",
        "one of an unknown type",
        "one whose tensor is larger than its place",
        "one of a negative size",
        "one with a gap",
        "one that ends in a tensor",
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "file").write_bytes(body)
    with pytest.raises(ValueError), (tmp_path / "file").open("rb", buffering=0) as opened:
        FileReader(opened).read(lambda name, kind: torch.zeros(kind[1], dtype=kind[0]))

"""A file laid out in memory is read by safetensors as it reads its own."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunefleet.train.image import FileImage

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


def drawn(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 2, shape).to(dtype)


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=3).map(tuple)),
        max_size=6,
    )
)
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

"""Casts are those of torch, bit for bit."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.checkpoints import cast

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.train
NAMES = ("F64", "F32", "F16", "BF16")
HARD_ENDS = (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x3000, 0x5000)
"""Lower halves around the ties of both 16-bit formats."""


def patterns(name: str) -> Any:
    """All patterns of 16 bits; of 32 all upper halves with hard lower ones, and a million drawn; of 64 likewise."""
    import numpy as np

    drawn = np.random.default_rng(0)
    if name in ("F16", "BF16"):
        return np.arange(2**16, dtype=np.uint16)
    upper = np.arange(2**16, dtype=np.uint32) << 16
    narrow = np.concatenate([*(upper | end for end in HARD_ENDS), drawn.integers(0, 2**32, 2**20, dtype=np.uint32)])
    if name == "F32":
        return narrow.astype(np.uint32)
    with np.errstate(all="ignore"):
        wide = narrow.astype(np.uint32).view(np.float32).astype(np.float64)
    spread = drawn.standard_normal(2**18) * 10.0 ** drawn.integers(-60, 60, 2**18)
    near = np.nextafter(wide[: 2**18], np.inf)
    noise = drawn.integers(0, 2**64, 2**18, dtype=np.uint64).view(np.float64)
    return np.concatenate([wide, spread, near, noise])


def bits(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.view({8: torch.int64, 4: torch.int32, 2: torch.int16}[tensor.element_size()])


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(NAMES, 2)))
def test_a_cast_is_that_of_torch(source: str, target: str) -> None:
    import torch

    dtypes = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    data = patterns(source).tobytes()
    convert = cast.choose(source, target)
    assert convert
    made = torch.frombuffer(bytearray(convert(data)), dtype=dtypes[target])
    values = torch.frombuffer(bytearray(data), dtype=dtypes[source])
    expected = values.to(dtypes[target])
    is_nan = expected.isnan()
    assert torch.equal(is_nan, made.isnan())
    assert torch.equal(bits(expected)[~is_nan], bits(made)[~is_nan])
    # What torch makes of a NaN differs between processors, and even along a tensor: one of its answers is ours.
    answers = [values.to(dtypes[target])]
    answers += [values[at:].to(dtypes[target])[: len(values) - at] for at in (1, 3)]
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        same = bits(answers[0]) == bits(made)
        for at, answer in zip((1, 3), answers[1:], strict=True):
            same[at:] |= bits(answer) == bits(made)[at:]
        assert bool(same.all())


@pytest.mark.parametrize("source", NAMES)
def test_the_place_in_a_block_does_not_matter(source: str) -> None:
    """Blocks of any length, cut anywhere, give the same bytes: output does not depend on how it was made."""
    size = {"F64": 8, "F32": 4}.get(source, 2)
    data = patterns(source)[-5000:].tobytes()
    for target in set(NAMES) - {source}:
        convert = cast.choose(source, target)
        assert convert
        parts = [0, size, 3 * size, 50 * size, 51 * size, 3001 * size, len(data)]
        cut = b"".join(bytes(convert(data[low:high])) for low, high in itertools.pairwise(parts))
        assert cut == bytes(convert(data))


def test_what_stays_is_not_touched_and_integers_are_refused() -> None:
    assert cast.choose("BF16", "BF16") is None
    assert cast.choose("I64", "I64") is None
    for source, target in (("I64", "F32"), ("F32", "I8"), ("BOOL", "BF16"), ("F8_E4M3", "BF16")):
        with pytest.raises(KeyError):
            cast.choose(source, target)

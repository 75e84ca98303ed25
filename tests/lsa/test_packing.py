"""V4's bytes: sizes, what a round trip loses, and the two layouts of a cache."""

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.lsa import LSAConfig
from intuitive.lsa.packing import (
    Storage,
    gathered,
    pack_entries,
    pack_keys,
    unpack_entries,
    unpack_keys,
)

PAPER = LSAConfig.paper()


def draw(*shape, seed=0):
    """Numbers over many orders of magnitude."""
    generator = seeded(seed)
    size = torch.randn(*shape, generator=generator) * 3
    return torch.randn(*shape, generator=generator) * size.exp()


def test_rows_have_the_bytes_of_the_paper():
    assert pack_entries(draw(3, 5, 512), 64).shape == (3, 5, 584)
    assert pack_keys(draw(3, 5, 128)).shape == (3, 5, 132)
    storage = Storage(PAPER)
    assert (storage.row_bytes("entries"), storage.row_bytes("index_keys")) == (584, 132)


@pytest.mark.parametrize(("d", "d_rope"), [(512, 64), (16, 8), (192, 64), (70, 0), (8, 8)])
def test_an_entry_comes_back_within_its_error_bounds(d, d_rope):
    entries = draw(40, d)
    rows = pack_entries(entries, d_rope)
    back = unpack_entries(rows, d, d_rope)
    n = d - d_rope
    assert back.shape == entries.shape
    for first in range(0, n, 64):
        here, there = entries[:, first : min(first + 64, n)], back[:, first : min(first + 64, n)]
        largest = here.abs().amax(-1, keepdim=True)
        scale = 2 ** torch.ceil(torch.log2(largest.double() / 448))
        bound = torch.maximum(here.abs().double() / 16, scale * 2**-10)
        assert ((here - there).abs() <= bound * (1 + 1e-6)).all()
    turned = entries[:, n:]
    assert ((turned - back[:, n:]).abs() <= turned.abs() / 256).all()


def test_the_scale_is_the_least_power_of_two_that_is_enough():
    entries = torch.zeros(1, 64)
    for largest, byte in ((448.0, 127), (449.0, 128), (224.0, 126), (1.0, 127 - 8)):
        entries[0, 5] = largest
        assert pack_entries(entries, 0)[0, 64] == byte
    assert unpack_entries(pack_entries(torch.zeros(2, 64), 0), 64, 0).eq(0).all()
    assert unpack_entries(torch.zeros(2, 584, dtype=torch.uint8), 512, 64).eq(0).all()


def test_what_was_stored_once_loses_nothing_more():
    once = unpack_entries(pack_entries(draw(30, 512), 64), 512, 64)
    assert torch.equal(unpack_entries(pack_entries(once, 64), 512, 64), once)
    values = unpack_keys(pack_keys(draw(30, 128)))
    torch.testing.assert_close(unpack_keys(pack_keys(values)), values, atol=0, rtol=1e-6)


def test_a_key_comes_back_within_its_error_bounds():
    keys = draw(50, 128)
    back = unpack_keys(pack_keys(keys))
    scale = keys.abs().amax(-1, keepdim=True) / 448
    assert ((keys - back).abs() <= torch.maximum(keys.abs() / 16, scale * 2**-10) * 1.001).all()


def test_parts_of_wider_rows_can_be_read():
    """A cell holds the rows of all layers side by side."""
    entries, keys = draw(9, 512), draw(9, 128)
    cells = torch.cat((pack_entries(entries, 64), pack_keys(keys)), -1)
    assert torch.equal(
        unpack_entries(cells[:, :584], 512, 64), unpack_entries(pack_entries(entries, 64), 512, 64)
    )
    assert torch.equal(unpack_keys(cells[:, 584:]), unpack_keys(pack_keys(keys)))


@pytest.mark.parametrize("width", [1, 3, 32, 36, 132, 584])
@pytest.mark.parametrize("first", [0, 4, 7, 8])
def test_rows_are_gathered_whatever_words_they_divide_into(width, first):
    cells = torch.randint(256, (9, 600), generator=seeded(width)).to(torch.uint8)
    numbers = torch.tensor([8, 0, 3, 3])
    for rows in (cells[:, first : first + width], cells[:, first : first + width].contiguous()):
        assert torch.equal(gathered(rows, numbers), rows[numbers])
    wide = torch.randn(9, 5, generator=seeded(1))
    assert torch.equal(gathered(wide, numbers), wide[numbers])
    assert gathered(cells[:, :132], numbers[:0]).shape == (0, 132)


def test_wrong_rows_are_refused():
    with pytest.raises(ValueError, match="600 bytes are no packed entry of 512 channels"):
        unpack_entries(torch.zeros(2, 600, dtype=torch.uint8), 512, 64)
    with pytest.raises(ValueError, match="entries have 5 numbers each, a stored row has 584"):
        Storage(PAPER).store("entries", torch.zeros(2, 5, dtype=torch.uint8))
    with pytest.raises(ValueError, match="index_keys have 5 numbers each, a stored row has 32"):
        Storage(LSAConfig()).store("index_keys", torch.zeros(2, 5))

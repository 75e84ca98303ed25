"""A decode on disk and back."""

import dataclasses

import pytest
import torch
from recordings import draw_recording

from intuitive.lsa.recording import Recording

SCORES = ("scores", "native", "bounds", "mass")


def test_a_recording_comes_back(tmp_path):
    kept = draw_recording()
    back = Recording.load(kept.save(tmp_path / "made" / "drawn.npz"))
    for field in dataclasses.fields(Recording):
        before, after = getattr(kept, field.name), getattr(back, field.name)
        if field.name in SCORES:
            assert torch.equal(before == -torch.inf, after == -torch.inf)
            finite = before > -torch.inf
            error = (after[finite] - before[finite]).abs().max()
            spread = before[finite].max() - before[finite].min()
            assert error <= spread / 250, field.name
        elif isinstance(before, torch.Tensor):
            assert torch.equal(before, after) and before.dtype == after.dtype
        else:
            assert before == after


def test_what_was_loaded_can_be_saved_again_without_loss(tmp_path):
    once = Recording.load(draw_recording().save(tmp_path / "a.npz"))
    twice = Recording.load(once.save(tmp_path / "b.npz"))
    for name in SCORES:
        torch.testing.assert_close(getattr(once, name), getattr(twice, name))


def test_the_order_of_scores_survives_where_it_is_clear(tmp_path):
    kept = draw_recording()
    native = torch.where(kept.native > -torch.inf, kept.native.round(), kept.native)
    kept = dataclasses.replace(kept, native=native)
    back = Recording.load(kept.save(tmp_path / "drawn.npz"))
    for before, after in zip(native, back.native, strict=True):
        order = before.sort(stable=True).indices
        assert bool((after[order].diff() >= -1e-6)[after[order][:-1] > -torch.inf].all())


def test_a_chunk_is_read_as_text():
    kept = draw_recording()
    assert kept.text(2) == " w8 w9 w10 w11"
    assert kept.text(kept.n_chunks) == " w96 w97 w98"  # not closed yet


def test_chunks_that_exist():
    kept = draw_recording(n_prompt=62, steps=5)
    assert kept.closed.tolist() == [15, 15, 16, 16, 16]
    assert kept.exists.sum(-1).tolist() == kept.closed.tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_prompt": 0}, "n_prompt=0"),
        ({"n_prompt": 99}, "n_prompt=99"),
        ({"n_prompt": 50}, "give every decoded token a word"),
        ({"chunk_size": 0}, "chunk_size=0"),
        ({"mass": torch.zeros(37, 3)}, "mass"),
        ({"scores": torch.zeros(37, 0, 24)}, "at least one layer|scores"),
        ({"closed": torch.arange(37) + 5}, "how many of 24 chunks"),
        ({"closed": torch.arange(37).flip(0) // 2}, "closed must name|falls"),
    ],
)
def test_parts_that_do_not_fit(change, words):
    # Where shapes are checked by their annotations, as in these tests, a TypeError comes first.
    with pytest.raises((ValueError, TypeError), match=words):
        dataclasses.replace(draw_recording(), **change)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        draw_recording().save(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Recording.load(tmp_path / "a.npz")
    path = draw_recording().save(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="no whole recording"):
        Recording.load(path)
    nan = dataclasses.replace(draw_recording(), bounds=torch.full((37, 24), torch.nan))
    with pytest.raises(ValueError, match="NaN"):
        nan.save(tmp_path / "b.npz")

"""The store of the book's recordings."""

import book_recordings
import pytest
from book_pages import Shown
from book_recordings import fingerprint, recordings

CHECKS = "intuitive.widgets.msa.checks"
QUESTION, OTHER = Shown(CHECKS, "halving_k"), Shown(CHECKS, "decode_ceiling")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A repository of few files, in the place of this one."""
    for name in ("intuitive/msa/a.py", "intuitive/trd/a.py", "widgets/kit/a.py"):
        tmp_path.joinpath(name).parent.mkdir(parents=True)
        tmp_path.joinpath(name).write_text("a")
    monkeypatch.setattr(book_recordings, "ROOT", tmp_path)

    def written(name, text="b"):
        tmp_path.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        tmp_path.joinpath(name).write_text(text)
        book_recordings._files.cache_clear()
        return fingerprint(QUESTION)

    yield written
    book_recordings._files.cache_clear()


def test_what_a_recording_depends_on_changes_its_fingerprint(files):
    seen = [files("intuitive/trd/b.py")]
    for name in (
        "intuitive/msa/a.py",
        "intuitive/msa/weights/x.npz",
        "intuitive/common/a.py",
        "widgets/kit/a.py",
        "widgets/msa/a.py",
        "kernels/a.py",
        "benchmarks/results/msa_a.json",
        "benchmarks/results/kernels.json",
    ):
        seen.append(files(name))
    assert len(set(seen)) == len(seen)
    assert fingerprint(OTHER) != fingerprint(QUESTION) != fingerprint(QUESTION, seconds=1)


def test_other_papers_and_pictures_leave_it_as_it_is(files):
    before = files("intuitive/trd/b.py")
    for name in (
        "intuitive/trd/a.py",
        "widgets/trd/a.py",
        "widgets/msa/posters/a.png",
        "widgets/kit/front/a.js",
        "benchmarks/results/trd_a.json",
    ):
        assert files(name) == before, name


def test_the_arena_depends_on_every_paper(files):
    arena = Shown("intuitive.widgets.arena.one_question", "explorer")
    files("intuitive/trd/a.py", "1")
    before = fingerprint(arena)
    files("intuitive/trd/a.py", "2")
    assert fingerprint(arena) != before


@pytest.mark.slow  # a process of its own
def test_a_second_build_takes_what_stands_there_and_one_that_fails_stops_no_other(tmp_path):
    tmp_path.joinpath(f"{QUESTION.name}.old.msgpack").write_bytes(b"")
    bad = Shown(CHECKS, "no_such_question")
    found = []
    with pytest.raises(ExceptionGroup) as raised:
        found.extend(recordings([bad, QUESTION], tmp_path, workers=1))
    (error,) = raised.value.exceptions
    assert error.__notes__ == [f"while {bad.name} was recorded"]
    assert [file.name for file in tmp_path.iterdir()] == [
        f"{QUESTION.name}.{fingerprint(QUESTION)}.msgpack"
    ]
    ((kept, made),) = recordings([QUESTION], tmp_path, workers=1)
    assert not made and kept.name == QUESTION.name and kept.packed[:2] == b"\x1f\x8b"

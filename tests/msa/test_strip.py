"""The strip of blocks: what fits is in sight, what does not is folded, every word in its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intuitive.widgets.msa import strip
from intuitive.widgets.msa.strip import Strip, cells, excerpt, quoted, shown, window


@pytest.mark.parametrize(
    ("token", "name"),
    [
        (" Alice", "“Alice”"),
        ("\n", "a line break"),
        (" ", "a space"),
        ("\n\n ", "white space"),
        ("", "part of a character"),
    ],
)
def test_white_space_has_a_name_in_sentences(token, name):
    assert quoted(token) == name


@pytest.mark.parametrize(
    ("text", "columns"),
    [("desk", 4), ("é", 1), ("e\u0301", 1), ("烏鴉", 4), ("🐇", 2), ("\u200d", 0), ("", 0)],
)
def test_columns_of_a_text(text, columns):
    assert cells(text) == columns


def test_nothing_invisible_is_shown():
    assert shown("a\n\tb\x07\u00a0c") == "a↵→b  c"


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.data())
def test_an_excerpt_holds_its_anchor_and_fits(widths, data):
    anchor = data.draw(st.integers(0, len(widths) - 1))
    room = data.draw(st.integers(16, 100))
    kept = excerpt(widths, anchor, room)
    assert anchor in kept
    assert sum(widths[place] for place in kept) <= room
    if len(kept) < len(widths):  # nothing more would have fitted beside it
        used = sum(widths[place] for place in kept) + 2
        beside = [kept.start - 1, kept.stop]
        more = [widths[place] for place in beside if 0 <= place < len(widths)]
        assert all(used + width > room for width in more)


@given(
    n_blocks=st.integers(1, 80),
    must=st.sets(st.integers(0, 79), min_size=1, max_size=10),
    room=st.integers(230, 400),
)
def test_a_window_shows_what_it_must_and_covers_every_block(n_blocks, must, room):
    must = {block for block in must if block < n_blocks} or {0}
    rows = window(n_blocks, (sorted(must),), room=room, last=max(must))
    assert [block for row in rows for block in row] == list(range(n_blocks))
    shown = {row.start for row in rows if len(row) == 1}
    assert max(must) in shown
    if len(must) <= room / (strip.PITCH + strip.FOLD) - 1:  # room for each with a fold beside it
        assert must <= shown
    folds = [row for row in rows if len(row) > 1]
    assert strip.PITCH * (len(rows) - len(folds)) + strip.FOLD * len(folds) <= room + 0.01


TOKENS = tuple(f" word{i}" for i in range(160))


def laid_out(block_size=16, **changes):
    settings = {"wanted": ((9, 0),), "last": 9, "anchors": {}, "tags": {}, "height": 240} | changes
    return Strip(TOKENS, block_size, **settings)


@pytest.mark.parametrize("block_size", [16, 32, 64, 128])
def test_words_stand_one_after_another_within_their_line(block_size):
    text = laid_out(block_size, last=159 // block_size, wanted=((0,),))
    assert text.lines
    for row in text.lines.values():
        ends = [strip.LEFT, *(word.x + word.w for word in row.words)]
        starts = [word.x for word in row.words]
        assert all(end <= start + 0.01 for end, start in zip(ends, starts, strict=False))
        assert ends[-1] <= strip.RIGHT + 0.01


def test_a_tag_takes_room_from_its_line():
    plain, tagged = laid_out(32), laid_out(32, tags={0: ("the riddle", "gold")})
    assert tagged.lines[0].words[-1].token < plain.lines[0].words[-1].token
    (tag,) = tagged.tagged()
    assert tag.text == "the riddle" and tag.x <= strip.RIGHT


def test_a_line_is_cut_around_what_matters():
    text = laid_out(128, wanted=((0,),), last=1, anchors={0: 100})
    assert 100 in text.words and 0 not in text.words
    assert text.lines[0].more == (True, True)


def test_bars_are_as_tall_as_their_scores():
    assert Strip.tall(5, 0, 10) == strip.TALL / 2
    assert Strip.tall(-3, 0, 10) == 0 and Strip.tall(12, 0, 10) == strip.TALL


@pytest.mark.parametrize(
    ("share", "text"), [(0.866, "87%"), (0.004, "<1%"), (0, "0%"), (0.999, "over 99%")]
)
def test_shares_are_short(share, text):
    assert strip.share_text(share) == text

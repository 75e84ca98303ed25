"""View models speak up when their parts do not fit together."""

import pytest

from intuitive.widgets.kit import Readout, Table, TokenMarks, View


def test_a_table_has_as_many_cells_as_columns():
    Table(("selector", "mass"), (("oracle", "0.95"), ("window", "0.40")))
    with pytest.raises(ValueError, match=r"\('oracle',\) has 1 cells, the header has 2"):
        Table(("selector", "mass"), (("oracle",),))


def test_rows_may_be_made_when_they_are_looked_at():
    made = []
    rows = (("oracle", "0.95"),)
    table = Table(("selector", "mass"), lambda: made.append(1) or rows)
    assert not made and table.cells() == rows and made
    with pytest.raises(ValueError, match=r"\('oracle',\) has 1 cells, the header has 2"):
        Table(("selector", "mass"), lambda: (("oracle",),)).cells()


def test_every_token_has_a_mark():
    assert TokenMarks(("a", "b"), bytes([0, 1])).focus == 0
    with pytest.raises(ValueError, match="2 tokens and 1 marks: give one mark per token"):
        TokenMarks(("a", "b"), bytes([0]))


def test_a_view_needs_no_more_than_a_summary():
    view = View(summary="Nothing is read.")
    assert view.figures == view.bounds == view.values == {}
    assert view.table is None and view.tokens is None and view.readouts == ()


def test_views_do_not_share_what_they_hold():
    assert View(summary="one").figures is not View(summary="two").figures


def test_a_readout_is_text():
    assert Readout("mass captured", "0.95").value == "0.95"

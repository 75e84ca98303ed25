"""Colours that can be seen on both pages, and a layout that merges what it is given."""

import itertools

import plotly.graph_objects as go
import pytest

from intuitive.widgets import theme

PAGES = {"light": "#ffffff", "dark": "#111111"}  # what JupyterLab's two themes call layout-color0


def luminance(colour):
    """Relative luminance, WCAG 2.2."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_guidelines():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("colour", [*theme.SEQUENCE, theme.GREY])
def test_series_stand_out_on_the_page(colour, page):
    assert contrast(colour, page) >= 3


def test_series_differ_in_more_than_colour():
    assert len(set(theme.SEQUENCE)) == len(set(theme.DASHES)) == len(set(theme.SYMBOLS))
    assert len(theme.SEQUENCE) == 4


def test_figure_merges_layout_into_the_common_one():
    figure = go.Figure(
        theme.figure(
            [{"type": "scatter", "y": [1, 2]}], x="tokens", y_range=(0, 3), margin={"l": 99}
        )
    )
    assert figure.layout.margin.l == 99 and figure.layout.margin.r == 14
    assert figure.layout.xaxis.title.text == "tokens"
    assert figure.layout.yaxis.range == (0, 3)
    assert theme.figure([])["layout"]["margin"]["l"] == 56  # the common layout was not changed


def test_page_colours_are_left_to_the_page():
    layout = theme.figure([])["layout"]
    assert not {"paper_bgcolor", "plot_bgcolor"} & set(layout)
    assert "color" not in layout["font"] and "gridcolor" not in layout["xaxis"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_columns_stand_side_by_side(count):
    layout = theme.columns([f"plot {i}" for i in range(count)], x="token", x_range=(0, 9))
    figure = go.Figure(theme.figure([], **layout))
    domains = [figure.layout[theme.x_axis(i).replace("x", "xaxis")].domain for i in range(count)]
    assert domains[0][0] == 0 and domains[-1][1] == pytest.approx(1)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(domains))
    assert [note.text for note in figure.layout.annotations] == [f"plot {i}" for i in range(count)]


def test_lines_cross_the_whole_plot():
    across = theme.line(x=3, axis="x2", colour=theme.BLUE)
    assert (across["x0"], across["x1"], across["y0"], across["y1"]) == (3, 3, 0, 1)
    assert (across["xref"], across["yref"]) == ("x2", "paper")
    level = theme.line(y=3, axis="x2", colour=theme.BLUE, dash="dash")
    assert (level["y0"], level["y1"], level["xref"]) == (3, 3, "x2 domain")
    assert level["line"]["dash"] == "dash"


@pytest.mark.parametrize(
    ("ends", "given"), [({"x": 1, "y": 2}, "x=1, y=2"), ({"z": 1}, "z=1"), ({}, "neither")]
)
def test_a_line_takes_one_end(ends, given):
    with pytest.raises(ValueError, match=f"a line takes x or y, got {given}: give x for a vert"):
        theme.line(**ends, colour=theme.BLUE)


def test_plotly_hides_no_tick_label_for_its_place():
    """With all of them hidden plotly.js sets the axis title at minus infinity, and complains."""
    axes = go.Figure(theme.figure([], x="x", y="y")).layout
    assert axes.xaxis.ticklabeloverflow == axes.yaxis.ticklabeloverflow == "allow"

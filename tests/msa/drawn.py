"""What stands in the figures of blocks per group."""

import plotly.graph_objects as go

from intuitive.widgets import theme


def on_axis(figure, group):
    return [trace for trace in figure.data if (trace.xaxis or "x") == theme.x_axis(group)]


def ranges(figure):
    figure = go.Figure(figure)
    axes = [name for name in figure.layout if name.startswith(("xaxis", "yaxis"))]
    return {name: figure.layout[name].range for name in axes}


def bars(figure, group):
    """{block: (colour, height of its top)} of the bars in one group's plot."""
    (trace,) = (trace for trace in on_axis(figure, group) if trace.type == "bar")
    tops = [trace.base + float(height) for height in trace.y]
    drawn = zip(trace.customdata.tolist(), trace.marker.color, tops, strict=True)
    return {block: (colour, top) for block, colour, top in drawn}

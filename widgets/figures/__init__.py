"""Records drawn as Plotly figures, one module per method."""

"""How nbval compares the lessons: `pytest --nbval --nbval-current-env notebooks`.

Text is compared exactly. nbval leaves out pictures and widgets by itself; figures and HTML carry
random ids too. What they show is also in each explorer's text summary, which is compared.
"""

UNCOMPARED = ("application/vnd.plotly.v1+json", "text/html")


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):  # a notebook cell
            item.output_timeout = 60  # seconds; nbval's own 5 is short for a busy machine
            item.parent.skip_compare = (*item.parent.skip_compare, *UNCOMPARED)

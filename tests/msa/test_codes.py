"""What eight bits cost the trained index: the page says what the record says."""

from pathlib import Path

import pytest

from intuitive.common import records
from intuitive.msa.index import load_index

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="module")
def values():
    return records.load(RESULTS / "msa_codes.json")[0]


def test_the_record_is_of_the_shipped_index(values):
    assert values["index"] == load_index().made["student"]


def test_the_page_says_what_codes_lose(values):
    page = (ROOT / "docs" / "kernels.md").read_text("utf-8")
    shares = [f"{row['recall']:.0%}" for row in values["recall"]]
    assert [row["n_selected"] for row in values["recall"]] == [4, 8, 16]
    assert "it is {}, {} and {} of the chosen blocks".format(*shares) in page
    numbers, codes = (row["all"] for row in values["perplexity"])
    assert f"a perplexity of {codes:.3f} instead of {numbers:.3f} at 8" in page
    assert codes < 1.005 * numbers


@pytest.mark.model
@pytest.mark.sweep
def test_a_slice_comes_out_again():
    import msa_codes

    assert msa_codes.compare(RESULTS) == []

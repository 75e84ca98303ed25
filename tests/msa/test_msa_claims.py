"""Claims about the trained index are read from the newest run of it."""

import json

import pytest

from intuitive import claims
from intuitive.claims.papers import msa
from intuitive.common import results

INDEX_ROWS = ("msa-block-recall", "msa-window", "msa-perplexity")


def test_the_newer_run_is_taken_where_it_is_there(monkeypatch):
    for names, run in (
        (("msa_conversion",), "msa_conversion"),
        (("msa_conversion", "msa_index"), "msa_index"),
    ):
        monkeypatch.setattr(results, "names", lambda names=names: names)
        assert msa.index_run() == run


@pytest.mark.parametrize("id", INDEX_ROWS)
def test_a_row_of_the_index_says_which_run_it_is_from(id):
    row = claims.row(id)
    assert [record.name for record in row.records] == [msa.index_run()]
    assert f"benchmarks/{msa.index_run()}.py" in row.command


def test_a_newer_run_changes_verdicts(monkeypatch, tmp_path):
    """The old record, with a trained index that is worse than any window, in the place of a new."""
    saved = json.loads(results.path(msa.index_run()).read_text("utf-8"))
    for row in saved["values"]["perplexity"]:
        if row["selector"] == "trained_index":
            row["all"] *= 10
    for row in saved["values"]["quality"]:
        row["block_recall"] /= 10
    (tmp_path / "msa_index.json").write_text(json.dumps(saved), "utf-8")
    monkeypatch.setattr(results, "path", lambda name: tmp_path / f"{name}.json")
    results.load.cache_clear()
    assert [claims.row(id).verdict for id in INDEX_ROWS] == ["not reproduced"] * 3
    assert claims.row("msa-window").records[0].name == "msa_index"
    results.load.cache_clear()

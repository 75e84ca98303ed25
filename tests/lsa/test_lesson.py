"""What the lesson's prose says in figures, and what its cells are."""

import json
import re
from pathlib import Path

import pytest

from intuitive.lsa import LSAConfig, cost
from intuitive.lsa.experiments import memory, threshold

LESSON = Path(__file__).parents[2] / "notebooks" / "03_lsa.ipynb"
CELLS = {c["id"]: c for c in json.loads(LESSON.read_text(encoding="utf-8"))["cells"]}
PAPER = LSAConfig.paper()


def prose(cell):
    return "".join(CELLS[cell]["source"])


def test_the_byte_model_in_the_prose():
    text = prose("03-16")
    entry, key = PAPER.entry_bytes, PAPER.index_key_bytes
    assert f"{entry} bytes in each of {PAPER.n_csa} layers, its index key {key}" in text
    assert f"{entry} bytes in each of {PAPER.n_hca} layers" in text
    per_token = sum(cost.kv_bytes(PAPER, 2**20).values()) / 2**20
    assert "3850" in text and per_token == pytest.approx(3850, abs=0.5)
    kept, floor = (cost.resident_bytes(PAPER, 2**20, kept=share) for share in (1.0, 0.0))
    moved = (sum(kept.values()) - sum(floor.values())) / 2**20
    assert rf"\rho \cdot {moved:.0f} + {floor['index_keys'] / 2**20:.0f}" in text
    assert f"+ {floor['hca_entries'] / 2**20:.0f}$ bytes per token" in text


def test_the_sizes_of_the_model_in_the_prose():
    text = prose("03-14")
    assert f"has {len(PAPER.layers)} layers. In {PAPER.n_csa} of them" in text
    assert f"picks {PAPER.top_k} entries" in text and f"In {PAPER.n_hca} others" in text
    assert f"one entry holds {PAPER.hca_size} tokens" in text
    assert f"newest {PAPER.window} tokens" in text


def test_what_the_paper_prints():
    (last,) = (row for row in memory.PRINTED if row[0] == 2**20)
    assert f"{last[2]} GB instead of {last[1]}" in prose("03-00")


def test_what_was_measured_in_the_prose():
    assert "speed is within a tenth of everything resident" in prose("03-17a")
    found = memory.measured()
    for row in found.rows["lsa_overlapped"]:
        everything = found.at("everything", row.context)
        assert row.steps_per_s / everything.steps_per_s > 0.9


def test_a_half_in_the_prose():
    assert threshold.meant(0.5, 0.02) == pytest.approx(0.06, abs=0.003)
    assert "about six in a hundred" in prose("03-12")


def test_nothing_is_defined_but_in_exercises():
    for cell in CELLS.values():
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "exercise" not in cell["metadata"].get("tags", ()):
            assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE), cell["id"]


def test_the_solution_in_the_fold_passes():
    from intuitive.lsa import check_choose

    (code,) = re.findall(r"```python\n(.*?)```", prose("03-43"), re.DOTALL)
    space = {}
    exec(code, space)
    report = check_choose(space["choose"])
    assert report.n_passed == len(report.checks)

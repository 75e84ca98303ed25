"""The ledger: rows follow from committed records, commands exist, quick rows come out again."""

import argparse
import contextlib
import dataclasses
import io
import json
import math
import random
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from intuitive import claims, cli
from intuitive.claims import claim as claim_room
from intuitive.claims import rows as rows_room
from intuitive.common import results

ROOT = Path(__file__).parents[2]
ROWS = claims.ledger()
BY_ID = {row.id: row for row in ROWS}
PAPERS = {path.stem for path in ROOT.glob("docs/papers/*.md")}
UNTESTED = claims.VERDICTS[-1]
each_paper = pytest.mark.parametrize("paper", sorted(PAPERS))


def test_there_are_rows_of_every_paper_and_every_verdict():
    assert len(ROWS) >= 30
    assert len(PAPERS) == 5 and {row.paper for row in ROWS} == set(claims.paper_names()) == PAPERS
    assert {row.verdict for row in ROWS} == set(claims.VERDICTS)
    assert len(BY_ID) == len(ROWS)


@each_paper
def test_a_paper_has_its_claims(paper):
    rows = claims.ledger(paper)
    assert len(rows) >= 6
    assert all(row.paper == paper and row.id.startswith(f"{paper}-") for row in rows)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_says_all_that_is_needed(row):
    for name in ("claim", "paper_value", "source", "our_value", "why"):
        text = getattr(row, name)
        assert text and text == text.strip() and not text.endswith("."), name
    assert all(math.isfinite(value) for value in row.numbers.values())
    assert all(low <= row.numbers[n] <= high for n, (low, high) in row.spread.items())
    if row.verdict != UNTESTED:
        assert row.command and row.numbers and row.records and row.seeds
    for record in row.records:
        assert record.name in results.names()
        assert re.fullmatch("[0-9a-f]{40}|[0-9a-f]{7}", record.commit)


# ------------------------------------------------------------------------- built, never typed

# A record is looked up by these, so that another value would find nothing.
KEYS = {"weight", "weights", "chosen", "repair", "threshold", "length", "lr", "exchange"}
KEYS |= {"reconstruction"}  # share of a mix


def is_key(name, entry):
    """Whether an entry is a key: a number or numbers of such a name, not a list of records."""
    records = isinstance(entry, list) and any(isinstance(each, dict) for each in entry)
    return name in KEYS and not records


def noisy(value, draw, *, whole=False):
    """The same, but every number that was measured is half to one and a half of itself."""
    if isinstance(value, dict):
        return {
            name: entry
            if is_key(name, entry)
            else noisy(entry, draw, whole=name == "bytes" or whole)
            for name, entry in value.items()
        }
    if isinstance(value, list):
        return [noisy(entry, draw, whole=whole) for entry in value]
    if whole:
        return int(value * draw.uniform(0.5, 1.5))
    return value * draw.uniform(0.5, 1.5) if isinstance(value, float) else value


def forget():
    """Nothing that was read from records is kept."""
    for name, module in list(sys.modules.items()):
        if re.fullmatch(r"intuitive\.\w+\.(results|experiments\.\w+)", name):
            for kept in vars(module).values():
                getattr(kept, "cache_clear", lambda: None)()


@pytest.fixture(scope="module")
def other_rows(tmp_path_factory):
    """The rows as they would be, had other numbers been measured."""
    folder = tmp_path_factory.mktemp("results")
    for name in results.names():
        draw = random.Random(name)  # a new record moves no other
        whole = float if name == claim_room.FACTS else int  # how whole numbers are read
        text = results.path(name).read_text("utf-8")
        values = noisy(json.loads(text, parse_int=whole)["values"], draw)
        saved = json.loads(text) | {"values": values}
        (folder / f"{name}.json").write_text(json.dumps(saved), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        forget()
        patch.setattr(results, "path", lambda name: folder / f"{name}.json")
        found = {row.id: row for row in claims.ledger()}
    forget()
    return found


@pytest.mark.parametrize("row", [row for row in ROWS if row.records], ids=lambda row: row.id)
def test_other_records_make_another_row(row, other_rows):
    other = other_rows[row.id]
    assert other.numbers != row.numbers
    assert other.our_value != row.our_value
    assert (other.claim, other.paper_value) == (row.claim, row.paper_value)


@each_paper
def test_other_records_make_other_verdicts(paper, other_rows):
    assert any(other_rows[r.id].verdict != r.verdict for r in claims.ledger(paper))


def test_a_missing_record_is_an_error(monkeypatch):
    monkeypatch.setattr(results, "path", lambda name: Path(f"{name}.json"))
    forget()
    with pytest.raises(FileNotFoundError, match="no committed result"):
        claims.ledger()
    forget()


# ------------------------------------------------------------------------------- the commands


class Parsed(Exception):
    """A script has understood its arguments."""


def understood(command, monkeypatch, capsys):
    """Whether a command's script takes these arguments; nothing is run."""
    program, script, *arguments = shlex.split(command)
    assert program == "python"
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *given):
        parse(self, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except Parsed:
        return True
    except (SystemExit, FileNotFoundError):
        print(capsys.readouterr().err)
    return False


SCRIPTS = sorted({row.command for row in ROWS if row.command.startswith("python ")})


@pytest.mark.parametrize("command", SCRIPTS)
def test_every_script_takes_its_arguments(command, monkeypatch, capsys):
    assert understood(command, monkeypatch, capsys)
    with pytest.raises(SystemExit) as stopped:
        understood(f"{command.split(' -')[0]} --help", monkeypatch, capsys) or sys.exit(0)
    assert stopped.value.code == 0


def test_wrong_arguments_are_found(monkeypatch, capsys):
    assert not understood("python benchmarks/claims.py --tea", monkeypatch, capsys)
    assert not understood("python benchmarks/tea.py", monkeypatch, capsys)


def test_other_commands_make_a_quick_row_again():
    rest = {r.id: r.command for r in ROWS if r.command and r.command not in SCRIPTS}
    assert rest == {id: f"intuitive claims --verify {id}" for id in rest}
    assert set(rest) <= set(claims.quick_ids())


# ----------------------------------------------------------------------------- made again


@pytest.mark.parametrize("id", claims.quick_ids())
def test_quick_rows_come_out_again(id):
    checked = claims.verify(id)
    assert checked and all(one.equal for one in checked), claims.as_check(id, checked)


def test_the_facts_are_those_of_all_quick_claims():
    found = results.load(claim_room.FACTS, claims.Facts).values.facts
    assert set(found) == set(claims.quick_ids())


def test_a_row_that_comes_out_otherwise_is_told(monkeypatch, capsys):
    paper, one = next(
        (name, claim)
        for name in claims.paper_names()
        for claim in rows_room.claims_of(name)
        if claim.quick
    )
    before = one.quick()
    name = next(iter(before))
    other = dataclasses.replace(one, quick=lambda: before | {name: before[name] + 1})
    monkeypatch.setattr(rows_room, "_find", lambda id: (paper, other))
    assert cli.main(["claims", "--verify", one.id]) == 1
    told = capsys.readouterr().out
    assert f"{one.id}: {name} was" in told and "DIFFERENT" in told
    assert told.endswith(f"Otherwise than recorded: {one.id}.\n")


def test_rows_that_are_not_quick_say_what_makes_them():
    slow = next(row for row in ROWS if not row.quick and row.command)
    with pytest.raises(ValueError, match=re.escape(slow.command)):
        claims.verify(slow.id)
    untested = next(row for row in ROWS if not row.command)
    with pytest.raises(ValueError, match=f"{untested.id} is not testable here: "):
        claims.verify(untested.id)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: claims.row("tea"), "no claim 'tea'"),
        (lambda: claims.verify("tea"), "no claim 'tea'"),
        (lambda: claims.ledger("tea"), "no paper 'tea'; there are "),
        (lambda: claims.quick_ids("tea"), "no paper 'tea'; there are "),
        (lambda: claim_room.over([]), "no values"),
    ],
)
def test_unknown_names_are_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_fact_that_was_never_recorded_names_the_script():
    one = claim_room.fact("tea", dict, lambda _: None, claim="", paper_value="", source="")
    with pytest.raises(ValueError, match=r"lacks 'tea': run python benchmarks/claims\.py again"):
        one.measure()


# ------------------------------------------------------------------------------- in words


def printed(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(["claims", *arguments]) == 0
    return out.getvalue()


def test_json_holds_every_field():
    found = json.loads(printed("--json"))
    assert [row["id"] for row in found] == [row.id for row in ROWS]
    wanted = {"id", "paper", "claim", "paper_value", "our_value", "verdict", "command"}
    assert all(wanted <= set(row) for row in found)
    assert found[0]["records"][0].keys() >= {"name", "commit", "device"}


@each_paper
def test_one_paper_in_words_and_in_json(paper):
    rows = claims.ledger(paper)
    told = printed("--paper", paper)
    assert all(f"{row.id}: {row.verdict.upper()}" in told for row in rows)
    assert told.count("\n  why ") == len(rows)
    assert [row["paper"] for row in json.loads(printed("--json", "--paper", paper))] == [
        paper for _ in rows
    ]


def test_unknown_papers_and_rows_are_one_line(capsys):
    for arguments in (["--paper", "tea"], ["--verify", "tea"], ["--verify", "all", "--paper", "x"]):
        assert cli.main(["claims", *arguments]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3 and all(line.startswith("intuitive claims: no ") for line in told)


def test_the_page_says_what_the_records_say():
    """After a new run: `intuitive claims --markdown > docs/claims.md`."""
    assert (ROOT / "docs/claims.md").read_text("utf-8") == printed("--markdown")


def test_cells_of_the_page_stay_in_their_columns():
    row = dataclasses.replace(ROWS[0], claim="a|b", command="")
    line = claims.as_page([row]).splitlines()[-1]
    assert line.startswith(f'| <a id="{row.id}"></a>a\\|b (') and line.endswith(" | – |")

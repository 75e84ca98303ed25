"""What the lesson's prose says in figures, and what its cells are."""

import json
import math
import re
from pathlib import Path

import pytest

from intuitive.lsa import LSAConfig, cost, replay_choose, results
from intuitive.lsa.arms import Policy, replay
from intuitive.lsa.experiments import contest, memory, residency_words, threshold
from intuitive.lsa.labels import window_labels
from intuitive.widgets.lsa import contest as contest_page
from intuitive.widgets.lsa import shelves

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


def test_the_papers_memory_is_met_from_256k_on():
    text = prose("03-16")
    assert "From 256K tokens on" in text and "0.04 and 0.06 instead of 0.03 and 0.05" in text
    held = {h.context: h for h in memory.run(memory.MemoryParams(accounting="paper")).at}
    printed = {context: lsa for context, _, lsa in memory.PRINTED}
    assert [printed[c] for c in (2**16, 2**17)] == [0.04, 0.06]
    assert [round(held[c].lsa_bytes / 2**30, 2) for c in (2**16, 2**17)] == [0.03, 0.05]
    assert f"{held[2**20].all_bytes / 2**30:.2f} GiB" in text


def test_what_was_measured_is_printed_from_the_record_and_not_told_beside_it():
    """A new record changes what the cell prints; no sentence of the prose can then be old."""
    told, printed = prose("03-17a"), "".join(CELLS["03-17b"]["outputs"][0]["text"])
    assert residency_words.printed() in printed
    assert residency_words.sentences()[0].startswith("Goal at 512K")
    found = memory.measured()
    assert printed.startswith(f"recorded on one {found.device}\n")
    for arm in ("lsa_overlapped", "lsa_sync", "reactive"):
        for context in (2**15, 2**17, 2**19, 2**20):
            row, whole = found.at(arm, context), found.at("everything", context)
            share = sum(row.bytes.values()) / sum(whole.bytes.values())
            words = residency_words.ARM_WORDS[arm]
            assert f"{context:9,} tokens, {words}: {share:.1%} of the memory" in printed
    assert re.findall(r"[\d.]+%|\b\d\.\d+\b", told) == ["14.4%"]  # the formula's, not the run's
    limits = prose("03-44").split("## Honest limits")[1]
    assert "made once, on one card" in limits and "each goal was met is printed above" in limits
    assert all(word in printed for word in ("met", "launched kernel by kernel"))
    assert not re.search(r"0\.9\d|H[12]00", limits)


def test_what_the_arms_found_in_the_prose():
    text, found = prose("03-21b"), results.arms().values

    def mean(arm, measure):
        return found.mean("arms", measure, arm=arm)

    assert f"LSA keeps {mean('lsa', 'kept'):.0%} of the old chunks" in text
    assert f"finds {mean('lsa', 'golden_recall'):.0%} of the needed ones" in text
    assert f"and {mean('lsa', 'accuracy'):.0%} of the answers are right" in text
    for arm in ("random", "recency", "quest"):
        assert mean(arm, "accuracy") == pytest.approx(0.2, abs=0.02), arm
    assert mean("oracle", "accuracy") == mean("reactive", "accuracy") == 1
    times = mean("reactive", "bytes_per_token") / mean("lsa", "bytes_per_token")
    assert "forty times" in text and times == pytest.approx(40, abs=1)
    late = found.mean("lookahead", "accuracy", arm="lsa", lookahead=64, lag=1)
    assert f"decided one window late, LSA falls to {late:.0%}." in text
    oracle = found.mean("lookahead", "accuracy", arm="oracle", lookahead=64, lag=1)
    assert f"the oracle tells: it falls to {oracle:.0%}" in text
    chance = mean("random", "accuracy")
    assert f"Chance has {chance:.0%} in time" in text
    assert late == pytest.approx(chance * oracle, abs=0.03)  # about as good as chance
    assert not [p for p in found.points["lookahead"] if p.arm == "random"]  # late: not recorded
    wide, narrow = (found.mean("threshold", "kept", arm="lsa", threshold=at) for at in (0.3, 0.7))
    assert f"0.3 keeps {wide:.0%} of the old chunks, one of 0.7 keeps {narrow:.1%}" in prose(
        "03-12"
    )
    assert f"on {found.indexers.documents} documents" in prose("03-12")
    assert found.indexers.made.device.startswith("cpu")


def test_the_table_of_rows_that_are_not_to_be_mixed():
    """What LSA finds and how many times as much is copied on demand, by where it is told."""
    rows = {}
    for line in prose("03-21a").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if line.startswith("|") and len(cells) >= 3:
            rows[cells[0]] = cells[1:]

    def first_number(text):
        return int(re.search(r"\d+", text)[0])

    def holds(name, found, ratio=None):
        _, said, *times = rows[name]
        assert first_number(said) == round(100 * found), name
        assert ratio is None or first_number(times[0]) == round(ratio), name

    lsa, demand = shelves.shipped(), shelves.shipped(arm="reactive")
    ratio = demand.bytes_per_token / lsa.bytes_per_token
    holds("shelves, the letter", lsa.found_share, ratio)
    trigger = threshold.run(threshold.ThresholdParams())
    assert rows["section 2, one trigger"][1].startswith(
        f"{trigger.n_found} of {trigger.n_needed} needed"
    )
    for name, how in (
        ("here, as it opens", {}),
        ("here, a decision every 8 steps", {"lookahead": 8}),
        ("here, one window late", {"lag": 1}),
    ):
        params = contest.ContestParams(text="topical", **how)
        ours, theirs = (contest.entry(params, arm, 64) for arm in ("lsa", "reactive"))
        holds(name, ours.needed, theirs.copied / ours.copied)
    found = results.arms().values
    golden = found.mean("arms", "golden_recall", arm="lsa")
    sent = [found.mean("arms", "bytes_per_token", arm=arm) for arm in ("reactive", "lsa")]
    holds("*Answers*, held-out texts", golden, sent[0] / sent[1])
    at = {"rule": "budget", "size": 8, "lookahead": 64, "lag": 0, "layers": None}
    copies = [
        sum(results.smollm().values.extent("chunks_copied_per_64_steps", arm=arm, **at)) / 2
        for arm in ("reactive", "lsa")
    ]
    at_hand = sum(results.smollm().values.extent("golden_recall", arm="lsa", **at)) / 2
    holds("*SmolLM2*, held-out texts", at_hand, copies[0] / copies[1])
    how = {"most": 24, "policy": Policy(tail_chunks=16, sink=1)}
    package = replay_choose(lambda logits, most: [], threshold.load("topical"), **how).package
    holds("section 7", package.golden_recall)


def test_more_found_is_not_more_answered():
    text, found = prose("03-21a"), results.arms().values

    def at(lookahead, measure):
        return found.mean("lookahead", measure, arm="lsa", lookahead=lookahead, lag=0)

    short, usual = at(8, "accuracy"), at(64, "accuracy")
    assert f"{short:.0%} of the answers are right instead of {usual:.0%}" in text
    assert f"{at(8, 'kept'):.0%} of the old ones instead of {at(64, 'kept'):.0%}" in text
    assert abs(at(8, "golden_recall") - at(64, "golden_recall")) < 0.06
    told = contest_page._kept_by_window()
    assert f"{at(8, 'kept'):.0%} of the old chunks there with 8 steps" in told


def test_answers_go_with_the_attention_at_hand():
    text, found = prose("03-21a"), results.arms().values

    def at(measure, lookahead, lag=0):
        return found.mean("lookahead", measure, arm="lsa", lookahead=lookahead, lag=lag)

    for measure in ("golden_recall", "mass_recall", "kept"):
        assert f"{at(measure, 8):.0%}" in text and f"instead of {at(measure, 64):.0%}" in text
    both = f"{at('mass_recall', 8):.0%} instead of {at('mass_recall', 64):.0%}"
    assert f"less of the attention finds its chunk, {both}" in text
    settings = {(p.lookahead, p.lag) for p in found.points["lookahead"] if p.arm == "lsa"}
    assert len(settings) == 10
    for setting in settings:
        assert at("accuracy", *setting) == pytest.approx(at("mass_recall", *setting), abs=0.07)
    assert max(abs(at("accuracy", *s) - at("golden_recall", *s)) for s in settings) > 0.15


def test_how_the_other_texts_stand_in_the_prose():
    text = prose("03-02")
    arms = {name: shelves.shipped(text=name).arms for name in ("letter", "lease", "alice")}

    def share(name, arm):
        return arms[name][arm].residency.mass_recall

    found = {name: arms[name]["lsa"].found_share for name in arms}
    assert max(found, key=found.get) == "letter" == shelves.TEXT
    assert f"finds {found['lease']:.0%} in the lease" in text
    assert f"and {found['alice']:.0%} in the third" in text
    assert arms["lease"]["lsa"].residency.kept > 0.5
    needed = [float(arms[name]["lsa"].wanted.mean()) for name in arms]
    assert (f"{min(needed):.0%}", f"{max(needed):.0%}") == ("1%", "3%") and "1% to 3%" in text
    ours = [f"{share(name, 'lsa'):.0%}" for name in arms]
    assert "it has {} of it at hand in the letter, {} in the lease, {} in".format(*ours) in text
    theirs = [f"{share(name, 'quest'):.0%}" for name in arms]
    assert "Quest has {}, {} and {}.".format(*theirs) in text
    assert all(share(name, "quest") > share(name, "lsa") for name in arms)
    assert share("lease", "random") > share("lease", "lsa")
    assert share("alice", "recency") > share("alice", "lsa")
    assert f"{share('letter', 'reactive'):.0%} of all attention finds its chunk" in text


def test_which_count_the_perplexity_goes_with():
    text, found = prose("03-21a"), results.smollm().values
    at = {"rule": "budget", "size": 8, "lookahead": 64, "lag": 0, "layers": None}

    def both(measure, arm, form):
        low, high = (format(end, form) for end in found.extent(measure, arm=arm, **at))
        return low if low == high else f"{low} to {high}"

    mass = [both("mass_recall", arm, ".0%") for arm in ("quest", "lsa")]
    assert "Quest has more of all attention at hand than LSA, {} against {}".format(*mass) in text
    needed = [both("golden_recall", arm, ".0%") for arm in ("lsa", "quest")]
    assert "{} against {}. Where a passage returns".format(*needed) in text
    arms = ("oracle", "lsa", "quest", "random", "recency")
    ends = {
        m: [found.extent(m, arm=arm, **at)[0] for arm in arms]
        for m in ("golden_recall", "perplexity_returned", "mass_recall")
    }
    assert ends["golden_recall"] == sorted(ends["golden_recall"], reverse=True)
    assert ends["perplexity_returned"] == sorted(ends["perplexity_returned"])
    other = [both("perplexity_other", arm, ".1f") for arm in ("lsa", "quest", "random", "recency")]
    assert "leads nobody: {}, Quest {}, chance {}, the newest {}".format(*other) in text
    whole = {m: found.extent(m, arm="everything") for m in ("perplexity_other",)}
    assert f"and {whole['perplexity_other'][0]:.1f} with everything at hand" in text
    best = found.extent("perplexity_returned", arm="oracle", **{**at, "size": 16})[0]
    least = found.extent("perplexity_returned", arm="everything")[0]
    assert f"{best:.2f} against {least:.2f}" in text and best < least


def test_a_choice_of_nothing_copies_nothing():
    """What is always there is copied whoever chooses, and counts for none."""
    how = {"most": 24, "policy": Policy(tail_chunks=16, sink=1)}
    told = replay_choose(lambda logits, most: [], threshold.load("topical"), **how)
    assert re.search(r"yours +0% .* 0 old ones copied", str(told))
    assert int(told.yours.copied.sum()) == 17 and int(told.yours.chosen.sum()) == 0
    package = int(told.package.copied.sum()) - 17
    assert f"{package} old ones copied" in str(told)


def test_within_a_record_scores_say_nothing():
    """What the fold says of the steps for which the indexer was not trained."""
    assert "lets nine in ten chunks pass" in prose("03-12")
    recording, params = threshold.load("topical"), threshold.ThresholdParams()
    needed = window_labels(recording.needed, recording.closed, lookahead=64, stride=1)
    scores = recording.scores.amax(1)
    passed = wanted = both = chunks = 0
    for step in range(1, recording.n_steps, 64):
        old = threshold.evictable(recording, params, step)
        above, those = scores[step, old] > 0, needed[step, old]
        passed, wanted = passed + int(above.sum()), wanted + int(those.sum())
        both, chunks = both + int((above & those).sum()), chunks + len(those)
    assert passed / chunks == pytest.approx(0.9, abs=0.03)
    assert both / passed == pytest.approx(wanted / chunks, rel=0.1)


def test_no_loss_and_the_fall_stand_in_one_paragraph():
    assert "no accuracy on the mean" in prose("03-00")
    assert "from 76 to 48" in prose("03-00") and "from 76 to 48" in prose("03-44")
    page = (LESSON.parents[1] / "intuitive/claims/papers/lsa.py").read_text("utf-8")
    assert "MRCR 76.0 becomes 48.0" in page and "77.5 against 76.9" in page


def test_the_question_on_lateness_comes_before_what_answers_it():
    order = list(CELLS)
    assert "one_window_late" in prose("03-37") and "contest.explorer" in prose("03-21")
    assert order.index("03-37") < order.index("03-21") < order.index("03-21b")


def test_attention_and_needed_chunks_are_two_measures():
    found = replay(threshold.load("topical"), Policy(arm="reactive", tail_chunks=16, sink=1))
    assert found.golden_recall == 1 and found.mass_recall < 0.97


def test_what_smollm_found_in_the_prose():
    text, found = prose("03-21a"), results.smollm().values
    at = {"rule": "budget", "size": 8, "lookahead": 64, "lag": 0, "layers": None}
    least, most = found.extent("perplexity_returned", arm="lsa", **at)
    assert f"| LSA, three seeds of its indexer | {least:.2f} to {most:.2f} |" in text
    newest, quest, oracle = (
        found.extent("perplexity_returned", arm=arm, **at)[0]
        for arm in ("recency", "quest", "oracle")
    )
    for name, value in (("the newest", newest), ("Quest", quest), ("oracle", oracle)):
        assert f"| {name} | {value:.2f} |" in text
    copied = [found.extent("chunks_copied_per_64_steps", arm=a, **at) for a in ("recency", "lsa")]
    assert copied[0][1] < 0.2 * copied[1][0]
    assert {point.texts for point in found.arms} == {10} and "means of ten held-out texts" in text
    assert len(set(found.heldout)) == 5
    ours = found.by_text(arm="lsa", **at)
    least, most = min(low for low, _ in ours), max(high for _, high in ours)
    assert f"from {least:.2f} to {most:.2f} for LSA" in text
    for arm in ("quest", "random", "recency"):  # in each of the ten every seed
        others = found.by_text(arm=arm, **at)
        assert all(mine[1] < other[0] for mine, other in zip(ours, others, strict=True))
    start = {f"{one.recall_at_start:.3f}" for one in found.training}
    best = sorted(one.best_recall for one in found.training)
    told = prose("03-44")
    assert all(f"it finds {one} of the golden chunks" in told for one in start)
    assert f"it is {best[0]:.3f} to {best[-1]:.3f}, over three seeds" in told
    assert all(one.loss_last < one.loss_first / 3 for one in found.training)
    assert f"the same training gets to {found.from_random.best_recall:.3f}" in told
    assert "on ten held-out texts, made of five files" in told


def test_a_half_in_the_prose():
    assert threshold.meant(0.5, 0.02) == pytest.approx(0.06, abs=0.003)
    assert "about six in a hundred" in prose("03-12")


def test_the_hint_leads_to_a_better_rule():
    """Of as many chunks the sum over the layers finds more than their greatest."""

    def best(join):
        def choose(logits, most):
            joined = [join(layers) for layers in zip(*logits, strict=True)]
            there = [c for c, logit in enumerate(joined) if logit > -math.inf]
            return sorted(sorted(there, key=lambda c: -joined[c])[:most])

        how = {"most": 24, "policy": Policy(tail_chunks=16, sink=1)}
        told = str(replay_choose(choose, threshold.load("topical"), **how))
        return int(re.search(r"yours +(\d+)% of the needed", told)[1])

    assert "add up the logits of the layers" in prose("03-42a")
    assert best(sum) > best(max)


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

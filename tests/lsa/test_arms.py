"""Residency replayed: against loops, against the decoding that really moves, and against time."""

import dataclasses
import math

import pytest
import torch
from lsa_layers import SMALL, draw_tokens, make_decoder
from recordings import draw_recording

from intuitive.common.runtime import seeded
from intuitive.lsa import cost
from intuitive.lsa.arms import ARMS, Policy, compared, replay
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.indexer_training import fetch_quality, share_resident
from intuitive.lsa.labels import window_labels
from intuitive.lsa.recording import Recording
from intuitive.lsa.residency import CellPool, LookaheadDecoding
from intuitive.lsa.selection import resident_sets

SETTINGS = {
    "threshold": {},
    "high threshold": {"threshold": 0.8},
    "budget": {"rule": "budget", "size": 7},
    "pages": {"rule": "pages", "size": 3},
    "late": {"lag": 1},
    "sticky": {"sticky": True},
    "late and sticky": {"lag": 1, "sticky": True},
    "one layer": {"layers": 1},
    "sink": {"sink": 2},
    "long": {"lookahead": 64},
    "every step": {"lookahead": 1},
}


def policy(arm="lsa", **more):
    return Policy(arm, **{"lookahead": 8, "tail_chunks": 3, "page_size": 4} | more)


def settings():
    return pytest.mark.parametrize("more", SETTINGS.values(), ids=SETTINGS)


# --------------------------------------------------------------------------- a loop with sets


def loop(recording, how):
    """LSA by threshold in sets of chunk numbers: each step's, and what each trigger copies."""
    cut = math.log(how.threshold / (1 - how.threshold))
    first = int(recording.closed[0])
    resident, copies, decided, now = [], [], set(), set()
    for step in range(recording.n_steps):
        closed = int(recording.closed[step])
        if step % how.lookahead == 0:
            tail = set(range(max(closed - how.tail_chunks, 0), closed))
            always = tail | set(range(first, closed)) | set(range(min(how.sink, closed)))
            asked = {
                chunk
                for chunk in range(closed)
                for layer in range(how.layers or recording.scores.shape[1])
                if float(recording.scores[step, layer, chunk]) > cut
            }
            served, decided = (decided if how.lag else asked), asked
            before = now | set(range(first, closed)) if step else set()
            now = always | served | (now if how.sticky else set())
            copies.append(now - before)
        now = now | set(range(first, closed))
        resident.append(set(now))
    return resident, copies


def chunks(row):
    return set(row.nonzero().flatten().tolist())


@pytest.mark.parametrize("name", [n for n in SETTINGS if n not in ("budget", "pages")])
@pytest.mark.parametrize("seed", [0, 1])
def test_replay_is_the_loop(name, seed):
    recording, how = draw_recording(seed), policy(**SETTINGS[name])
    found = replay(recording, how)
    resident, copies = loop(recording, how)
    assert [chunks(row) for row in found.resident] == resident
    assert [chunks(row) for row in found.fetched] == copies
    assert found.copied.tolist() == [len(copy) for copy in copies]
    hit = [chunks(n) & r for n, r in zip(recording.needed, resident, strict=True)]
    assert [chunks(row) for row in found.hit] == hit
    for step, row in enumerate(found.missed):
        assert chunks(row) == chunks(recording.needed[step]) - resident[step]
    seen, again = set(), 0
    for step, copy in zip(found.triggers.tolist(), copies, strict=True):
        again += len(copy & seen)
        seen |= resident[step]
    assert int(found.refetched.sum()) == again
    assert found.refetch_rate == pytest.approx(again / sum(map(len, copies)))


@settings()
def test_replay_is_resident_sets_and_its_measures(more):
    recording, how = draw_recording(), policy(**more)
    found = replay(recording, how)
    config = how.config(recording.chunk_size)
    closed = recording.closed[found.triggers]
    rule = {"rule": how.rule, "size": how.size, "lag": how.lag, "sticky": how.sticky}
    sets = resident_sets(recording.scores[found.triggers, : how.layers], closed, config, **rule)
    assert torch.equal(found.resident[found.triggers], sets)
    labels = window_labels(recording.needed, recording.closed, lookahead=how.lookahead)
    quality = fetch_quality(sets, labels, found.evictable[found.triggers], closed)
    assert found.golden_recall == pytest.approx(quality.golden_recall)
    weights = recording.mass[:, None]
    share = share_resident(weights, sets, recording.closed, lookahead=how.lookahead)
    assert found.mass_recall == pytest.approx(share)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"lag": 1},
        {"sticky": True},
        {"rule": "budget", "size": 12},
        {"rule": "budget", "size": 12, "lag": 1},
    ],
    ids=str,
)
def test_replay_is_the_decoding_that_moves(more):
    """A decode's own logits at its triggers, replayed, give its sets, its copies and its bytes."""
    config = dataclasses.replace(SMALL, lookahead=8, tail=12)
    indexers = MemoryIndexers(config, generator=seeded(3)).requires_grad_(False)
    for layer in indexers.layers:
        layer.bias.fill_(-0.5)
    prompt, steps = draw_tokens(1, 90)[0], 44
    pool = CellPool(config, 60)
    decoding = LookaheadDecoding(make_decoder(config), indexers, capacity=140, pool=pool, **more)
    decoding.prefill(prompt)
    decoding.generate(steps)
    n = (90 + steps) // 4
    scores = torch.full((steps, 2, n), -torch.inf)
    for cycle in decoding.cycles:
        scores[cycle.step, :, : cycle.logits.shape[-1]] = cycle.logits
    drawn = draw_recording(n_prompt=90, steps=steps)
    recording = dataclasses.replace(drawn, scores=scores)
    found = replay(recording, Policy("lsa", lookahead=8, tail_chunks=3, **more))
    assert found.copied.tolist() == [cycle.fetched for cycle in decoding.cycles]
    assert found.refetched.tolist() == [cycle.refetched for cycle in decoding.cycles]
    moved = found.moved_bytes(config).tolist()
    assert moved == [cycle.moved_bytes for cycle in decoding.cycles]
    assert len({len(chunks(row)) for row in found.resident[found.triggers]}) > 1
    for cycle in decoding.cycles:
        assert chunks(found.resident[cycle.step]) == chunks(cycle.resident)


# ------------------------------------------------------------------------------- all the arms


@settings()
@pytest.mark.parametrize("arm", ["recency", "random", "quest", "oracle"])
def test_budgets_are_equal(arm, more):
    recording = draw_recording()
    found = compared(recording, policy(**more), ("lsa", arm))
    sizes = [found[name].resident.sum(-1).tolist() for name in ("lsa", arm)]
    assert sizes[0] == sizes[1]
    assert found[arm].kept == found["lsa"].kept


@pytest.mark.parametrize("arm", ["lsa", "recency", "random", "quest", "oracle"])
@pytest.mark.parametrize("lag", [0, 1])
def test_a_budget_buys_so_many_evictable_chunks(arm, lag):
    size, recording = 7, draw_recording()
    found = replay(recording, policy(arm, rule="budget", size=size, sink=2, lag=lag))
    bought = (found.resident & found.evictable).sum(-1)[8 * lag :]
    there = found.evictable.sum(-1)[8 * lag :]
    assert int(there.min()) > size
    assert set(bought.tolist()) == {size}


@settings()
def test_no_arm_finds_more_than_the_oracle(more):
    for seed in range(3):
        found = compared(draw_recording(seed), policy(**more))
        best = found["oracle"].golden_recall
        for arm in ("lsa", "recency", "random", "quest"):
            if not more.get("sticky"):  # what the oracle must keep there, it may no longer want
                assert found[arm].golden_recall <= best + 1e-12, arm


@settings()
def test_everything_resident(more):
    found = replay(draw_recording(), policy("everything", **more))
    assert found.mass_recall == 1 and bool((found.mass == 1).all())
    assert found.golden_recall == found.kept == 1
    assert not found.missed.any()
    assert int(found.copied.sum()) == 0


@settings()
def test_reactive_misses_nothing_and_pays_at_every_step(more):
    recording = draw_recording()
    found = replay(recording, policy("reactive", top_k=3, **more))
    assert not found.missed.any() and found.golden_recall == 1
    assert found.triggers.tolist() == list(range(recording.n_steps))
    before = set()
    for step, copied in enumerate(found.copied.tolist()):
        before |= (
            set(range(int(recording.closed[0]), int(recording.closed[step]))) if step else set()
        )
        now = chunks(found.resident[step])
        assert copied == len(now - before)
        assert chunks(found.fetched[step]) == now - before
        assert chunks(found.evicted[step]) == before - now
        before = now
    config = SMALL
    one = cost.transfer_bytes(config, 1)
    assert found.moved_bytes(config).tolist() == [one * n for n in found.copied.tolist()]


def test_reactive_reads_what_is_best_now_and_drops_what_is_unused_longest():
    recording = draw_recording(share=0.0)
    how = policy("reactive", rule="budget", size=9, top_k=2)
    found = replay(recording, how)
    peer = replay(recording, dataclasses.replace(how, arm="lsa"))
    extra = (found.resident & found.evictable).sum(-1)
    room = (peer.resident & peer.evictable).sum(-1)
    assert bool((extra <= room.clamp(min=2)).all()) and int(extra.max()) > 2
    asked = recording.native.sort(dim=-1, descending=True, stable=True).indices[:, :2]
    assert bool(found.resident.gather(1, asked).all())
    last = {}
    for step in range(recording.n_steps):
        stayed = chunks(found.resident[step] & found.evictable[step])
        last |= dict.fromkeys(asked[step].tolist(), step)
        gone = chunks(found.evicted[step]) & last.keys()
        if step % how.lookahead and stayed and gone:  # at a trigger the tail moves as well
            assert max(last[c] for c in gone) <= min(last[c] for c in stayed if c in last)


def changed_after(recording, step):
    """The same up to this step; another future."""
    other = draw_recording(99, share=0.3)
    parts = {}
    for name in ("needed", "mass", "scores", "native", "bounds"):
        parts[name] = torch.cat((getattr(recording, name)[:step], getattr(other, name)[step:]))
    return dataclasses.replace(recording, **parts)


@settings()
@pytest.mark.parametrize("arm", ["lsa", "reactive", "recency", "random", "quest"])
def test_the_future_changes_nothing(arm, more):
    recording, how = draw_recording(), policy(arm, **more)
    step = 19
    here, there = replay(recording, how), replay(changed_after(recording, step), how)
    assert torch.equal(here.resident[:step], there.resident[:step])
    assert torch.equal(here.mass[:step], there.mass[:step])


def test_scores_between_triggers_and_of_chunks_to_come_are_not_read():
    recording, how = draw_recording(), policy()
    scores = recording.scores.clone()
    off = torch.arange(recording.n_steps) % how.lookahead > 0
    scores[off] = 50.0
    scores.masked_fill_(~recording.exists[:, None], 50.0)
    found = replay(dataclasses.replace(recording, scores=scores), how)
    assert torch.equal(found.resident, replay(recording, how).resident)
    assert not (found.resident & ~recording.exists).any()


def test_random_hangs_on_its_seed_alone():
    recording = draw_recording()
    one, same, other = (
        replay(recording, policy("random", seed=seed)).resident for seed in (4, 4, 5)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_nothing_needed_and_nothing_evictable():
    recording = draw_recording(share=0.0)
    assert replay(recording, policy()).golden_recall == 1
    found = replay(recording, policy(tail_chunks=1000))
    assert found.kept == 0 and found.mass_recall == 1
    assert found.resident.equal(recording.exists)


def test_bytes_on_the_device():
    recording = draw_recording()
    found = compared(recording, policy())
    closed = int(recording.closed[20])
    full = cost.kv_bytes(SMALL, closed * SMALL.chunk_size)
    assert found["everything"].resident_bytes(SMALL, 20) == full
    share = int(found["lsa"].resident[20].sum()) / closed
    few = cost.resident_bytes(SMALL, closed * SMALL.chunk_size, kept=share)
    assert found["lsa"].resident_bytes(SMALL, 20) == few
    assert found["reactive"].resident_bytes(SMALL, 20)["index_keys"] == full["index_keys"]
    paper = found["reactive"].resident_bytes(SMALL, 20, accounting="paper")
    assert paper["hca_entries"] == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arm": "psychic"}, "arm='psychic' is unknown"),
        ({"lookahead": 0}, "lookahead=0"),
        ({"threshold": 1.0}, "threshold=1.0"),
        ({"rule": "budget"}, "size=None does not go"),
        ({"rule": "budget", "size": -1}, "size=-1"),
        ({"lag": 2}, "lag=2"),
        ({"layers": 0}, "layers=0"),
        ({"tail_chunks": -1}, "tail_chunks=-1"),
    ],
)
def test_policies_that_are_none(fields, words):
    with pytest.raises(ValueError, match=words):
        Policy(**fields)


def test_more_layers_than_were_recorded():
    with pytest.raises(ValueError, match="layers=3 must be at most 2: that many were recorded"):
        replay(draw_recording(), policy(layers=3))


def test_a_saved_recording_replays_the_same(tmp_path):
    recording = Recording.load(draw_recording().save(tmp_path / "drawn.npz"))
    again = Recording.load(recording.save(tmp_path / "again.npz"))
    for arm in ARMS:
        one, two = (replay(kept, policy(arm)) for kept in (recording, again))
        assert torch.equal(one.resident, two.resident)

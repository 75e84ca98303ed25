"""A decoder for the task at a tiny size: its training, its decodes, its files, its measures."""

import dataclasses

import pytest
import torch
from lsa_layers import CLOSE

from intuitive.common.runtime import Cancelled, seeded
from intuitive.lsa import shipped
from intuitive.lsa.arms import ARMS, Policy
from intuitive.lsa.attention import watching
from intuitive.lsa.config import LSAConfig
from intuitive.lsa.experiments import topical_training
from intuitive.lsa.experiments.topical_arms import accuracy, hold_out, measure, residencies
from intuitive.lsa.experiments.topical_decode import (
    QUEST_PAGE,
    live_right,
    masked_right,
    observe,
    read_prompts,
)
from intuitive.lsa.experiments.topical_training import (
    DecoderTrainingConfig,
    Stage,
    csa_inputs,
    guide_loss,
    make_decoder,
    train_decoder,
)
from intuitive.lsa.harvest import harvest
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.indexer_training import share_resident
from intuitive.lsa.residency import LookaheadDecoding
from intuitive.lsa.task import TaskConfig, draw_documents

ATTENTION = LSAConfig(
    d_model=32,
    layers=("window", "csa", "hca", "csa"),
    n_heads=2,
    d_head=16,
    d_rope=4,
    q_rank=16,
    o_rank=8,
    window=8,
    hca_size=16,
    n_index_heads=2,
    d_index=16,
    top_k=5,
    memory_layers=(0, 1),
    memory_rank=12,
    n_memory_heads=4,
    lookahead=16,
    tail=12,
    page_size=4,
    label_top_k=5,
    label_votes=1,
)
TINY = DecoderTrainingConfig(
    attention=ATTENTION,
    task=TaskConfig(n_topics=10, n_names=6, n_values=4, topics=4, records=6, section=16),
    d_ff=32,
    max_positions=512,
    stages=(Stage(2, 4, 4), Stage(8, 2, 11)),
    lightning=Stage(4, 2, 3),
    finetune=Stage(4, 2, 2),
)


def sharp(config=TINY, seed=0):
    """A decoder whose attention is far from flat, with random weights, and its Memory Indexers."""
    decoder = make_decoder(config, seed=seed).requires_grad_(False).eval()
    for name, weight in decoder.named_parameters():
        if name.endswith(("w_kv.weight", "w_value.weight", "w_uq.weight", "w_iuq.weight")):
            weight.mul_(2)
        if "norm_kv" in name or "compressor.norm" in name:
            weight.mul_(2)
    indexers = MemoryIndexers(config.attention, generator=seeded(seed + 5)).requires_grad_(False)
    for layer in indexers.layers:
        layer.bias.fill_(-0.2)
    return decoder, indexers


def documents(count=3, **change):
    return draw_documents(dataclasses.replace(TINY.task, **change), count, seeded(7))


@pytest.fixture(scope="module")
def held():
    return hold_out(*sharp(), TINY.task, 3, seed=1)


# --------------------------------------------------------------------------------- training


def test_training_goes_through_its_phases_and_freezes():
    trained = train_decoder(TINY, seed=3)
    assert trained.steps == {
        "dense, 2 topics": 4,
        "dense, 8 topics": 11,  # the other modes among them
        "lightning": 3,
        "finetune": 2,
    }
    assert [len(loss) for loss in trained.losses.values()] == list(trained.steps.values())
    assert not any(weight.requires_grad for weight in trained.decoder.parameters())
    assert all(layer.attention.selects for layer in trained.decoder.layers)
    again = train_decoder(TINY, seed=3)
    assert again.losses == trained.losses
    other = train_decoder(TINY, seed=4)
    assert other.losses != trained.losses


def test_lightning_trains_the_native_indexer_alone(monkeypatch):
    seen = {}

    def keep(run, stage=None):
        seen[stage] = {n: w.detach().clone() for n, w in run.decoder.named_parameters()}

    run = topical_training._Run
    phases = {"dense": run.dense, "lightning": run.lightning}
    for name, phase in phases.items():

        def spied(self, name=name, phase=phase):
            phase(self)
            keep(self, name)

        monkeypatch.setattr(run, name, spied)
    train_decoder(TINY, seed=3)
    moved = {n for n, w in seen["dense"].items() if not torch.equal(w, seen["lightning"][n])}
    assert moved and all(("index_compressor" in n or "w_i" in n) for n in moved)


def test_a_stage_that_knows_all_ends_early(monkeypatch):
    monkeypatch.setattr(topical_training, "GOOD_ENOUGH", -1.0)
    monkeypatch.setattr(topical_training, "LOOKED_AT", 2)
    trained = train_decoder(TINY)
    assert list(trained.steps.values()) == [2, 11, 3, 2]  # the last dense stage never ends early


def test_a_stage_ends_where_there_is_no_time_left(monkeypatch):
    monkeypatch.setattr(topical_training, "LOOKED_AT", 2)
    trained = train_decoder(TINY, hurry=lambda stage: stage.startswith("dense, 8"))
    assert list(trained.steps.values()) == [4, 2, 3, 2]


def test_training_can_be_cancelled():
    with pytest.raises(Cancelled):
        train_decoder(TINY, stale=lambda: True)


def test_guiding_is_the_mass_that_the_layer_gives_the_record():
    decoder, _ = sharp()
    drawn = documents()
    looks = {}
    for layer in decoder.layers:
        layer.attention.selects = False
    with watching(decoder, looks.__setitem__), csa_inputs(decoder) as inputs:
        decoder.hidden(drawn.tokens)
    for ordinal, (attention, hidden) in enumerate(inputs.items()):
        mass = looks[ordinal].mass[:, -drawn.config.n_steps :]
        # The guide looks at entries alone; a head's share of them is its mass, scaled.
        one = guide_loss(attention, hidden, drawn.asked)
        assert one > 0
        nobody = guide_loss(attention, hidden, torch.full_like(drawn.asked, -1))
        assert nobody == 0
        best = mass.argmax(-1)
        easy = guide_loss(attention, hidden, best)
        hard = guide_loss(attention, hidden, (mass + (mass == 0) * 9).argmin(-1))
        assert easy < one < hard


def test_names_of_a_topic_resemble_it():
    decoder = make_decoder(TINY)
    task, words = TINY.task, decoder.embedding.weight
    topics = words[task.topic_token(0) : task.topic_token(task.n_topics)]
    names = words[task.n_said :].unflatten(0, (task.n_topics, task.n_names))
    likeness = torch.nn.functional.cosine_similarity(names, topics[:, None], dim=-1)
    assert 0.5 < float(likeness.mean()) < 0.9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": ()}, "stages is empty"),
        ({"attention": dataclasses.replace(ATTENTION, chunk_size=8)}, "chunk_size=8 must be 4"),
    ],
)
def test_trainings_that_cannot_be(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TINY, **change)


# ---------------------------------------------------------------------------------- decodes


def test_an_observed_decode_is_what_harvest_finds():
    decoder, _ = sharp()
    drawn = documents()
    seen = observe(decoder, ATTENTION, drawn)
    for row in range(3):
        trace = harvest(decoder, drawn.tokens[row], ATTENTION, n_prompt=drawn.config.n_prompt)
        torch.testing.assert_close(seen.hidden[row], trace.hidden, **CLOSE)
        torch.testing.assert_close(seen.keys[row], trace.keys, **CLOSE)
        torch.testing.assert_close(seen.mass[row], trace.mass.mean(1), **CLOSE)
        assert torch.equal(seen.closed, trace.closed)
        assert torch.equal(seen.positions, trace.positions)
        ours, theirs = seen.document(row, stride=4), trace.document(stride=4, decoding=True)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.candidates, theirs.candidates)


def test_what_any_layer_reads_and_native_margins():
    decoder, _ = sharp()
    drawn = documents()
    looks = {}
    with watching(decoder, looks.__setitem__):
        decoder.hidden(drawn.tokens)
    seen = observe(decoder, ATTENTION, drawn)
    for row in range(3):
        for step in range(drawn.config.n_steps):
            at = drawn.config.n_prompt + step
            read = {c for look in looks.values() for c in look.selected[row, at].tolist()} - {-1}
            assert set(seen.wanted[row, step].nonzero().flatten().tolist()) == read
    assert bool((seen.native[seen.wanted] >= 0).all())
    assert not (seen.wanted & (seen.native < 0)).any() and bool((seen.native < 0).any())


def test_bounds_are_never_below_the_best_logit_of_a_page():
    decoder, _ = sharp()
    drawn = documents()
    seen = observe(decoder, ATTENTION, drawn)
    n = drawn.config.n_prompt // 4
    cache = read_prompts(decoder, drawn)
    with csa_inputs(decoder) as inputs:
        decoder.hidden(drawn.tokens[:, drawn.config.n_prompt - 1 :], cache=cache)
    best = torch.full_like(seen.bounds, -torch.inf)
    for layer in ATTENTION.csa_layers:
        attention = decoder.layers[layer].attention
        low = attention.norm_q(attention.w_dq(inputs[attention][:, :-1]))
        q = attention.queries(low, seen.positions.expand(3, -1))
        entries = cache.layers[layer].readable().entries
        logits = torch.einsum("bnhd,brd->bnhr", q, entries).amax(2) * ATTENTION.d_head**-0.5
        best = torch.maximum(best, logits)
    pages = seen.bounds[..., :n].split(QUEST_PAGE, -1)
    for page, logits in zip(pages, best[..., :n].split(QUEST_PAGE, -1), strict=True):
        assert bool((page >= logits.amax(-1, keepdim=True) - 1e-4).all())
        assert bool((page == page[..., :1]).all())


def test_everything_resident_is_the_unrestricted_model(held):
    chunks = held.recordings[0].n_chunks
    windows = -(-TINY.task.n_steps // 16)
    everything = torch.ones(3, windows, chunks, dtype=torch.bool)
    right = masked_right(
        held.decoder, ATTENTION, held.documents, everything, lookahead=16, prompts=held.prompts
    )
    assert torch.equal(right, held.observed.right)


def test_reactive_answers_as_the_unrestricted_model(held):
    found = residencies(held, Policy("reactive", lookahead=16, tail_chunks=3))
    assert accuracy(held, found, 1) == held.observed.accuracy
    assert all(one.mass_recall == pytest.approx(1) and one.kept < 1 for one in found)


def test_masking_in_windows_is_decoding_step_by_step():
    """Many documents a window at a time, against one request a token at a time."""
    decoder, indexers = sharp()
    drawn = documents()
    right, sets = live_right(decoder, indexers, drawn)
    again = masked_right(decoder, ATTENTION, drawn, sets, lookahead=16)
    assert torch.equal(right, again)
    task, said = drawn.config, []
    for row in range(3):
        decoding = LookaheadDecoding(decoder, indexers, capacity=task.n_tokens)
        logits = [decoding.prefill(drawn.tokens[row, : task.n_prompt])]
        logits += [decoding.step(int(t)) for t in drawn.tokens[row, task.n_prompt : -1]]
        for window, cycle in enumerate(decoding.cycles):
            resident = cycle.resident.nonzero().flatten().tolist()
            assert sets[row, window].nonzero().flatten().tolist() == resident
            assert 0.2 < len(resident) / len(cycle.resident) < 1
        said.append(torch.stack(logits)[:, : task.n_said].argmax(-1))
    steps = drawn.tokens[:, task.n_prompt :]
    assert torch.equal(right, (torch.stack(said) == steps) & drawn.answers)


# --------------------------------------------------------------------------------- measures


@pytest.mark.parametrize("arm", ARMS)
def test_a_point(held, arm):
    point = measure(held, Policy(arm, lookahead=16, tail_chunks=3))
    assert (point.arm, point.seed, point.lookahead, point.layers) == (arm, 1, 16, 2)
    for name in ("accuracy", "mass_recall", "golden_recall", "kept", "resident"):
        assert 0 <= getattr(point, name) <= 1
    one = 2 * 16 * 4  # bytes of an entry in two CSA layers; both vote, so no index keys move
    assert point.bytes_per_token == pytest.approx(one * point.copied_per_token)
    assert point.copied_per_token > 0 or arm == "everything"


def test_mass_recall_of_a_point_is_that_of_its_sets(held):
    policy = Policy("lsa", lookahead=16, tail_chunks=3)
    shares = [
        share_resident(one.mass[:, None], sets.resident[::16], one.closed, lookahead=16)
        for one, sets in zip(held.recordings, residencies(held, policy), strict=True)
    ]
    assert measure(held, policy).mass_recall == pytest.approx(sum(shares) / 3)


def test_held_out_documents_are_not_those_of_training():
    drawn = documents()
    kept = hold_out(*sharp(), TINY.task, 3, seed=7)
    assert not torch.equal(kept.documents.tokens, drawn.tokens)


# ------------------------------------------------------------------------------------ files


def test_weights_come_back_as_they_were_stored(tmp_path):
    decoder, indexers = sharp()
    shipped.as_stored(decoder)
    shipped.as_stored(indexers)
    other = MemoryIndexers(ATTENTION, generator=seeded(77)).requires_grad_(False)
    shipped.as_stored(other)
    every = {0: indexers, 2: other}
    path = shipped.save(tmp_path / "tiny.safetensors", decoder, every, TINY, {"device": "cpu"})
    back = shipped.load(path)
    assert list(back.by_seed) == [0, 2] and back.by_seed[0] is back.indexers
    assert back.training == TINY and back.made == {"device": "cpu"}
    assert back.config == ATTENTION and back.task == TINY.task
    drawn = documents()
    one, two = observe(decoder, ATTENTION, drawn), observe(back.decoder, ATTENTION, drawn)
    torch.testing.assert_close(one.hidden, two.hidden, rtol=0, atol=0)
    assert torch.equal(one.right, two.right)
    for seed, first in every.items():
        got = one.recording(0, first).scores, two.recording(0, back.by_seed[seed]).scores
        torch.testing.assert_close(*got, rtol=0, atol=0)
    assert not torch.equal(one.recording(0, indexers).scores, one.recording(0, other).scores)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        shipped.load(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="no recording 'none'"):
        shipped.recording("none")


def test_a_recording_of_the_task(held, tmp_path):
    recording = held.recordings[1]
    words = held.documents.config.words(held.documents.tokens[1])
    assert recording.words == words and recording.chunk_size == 4
    assert [step for step, _ in recording.sections] == [0, 16, 32, 48]
    title = recording.sections[0][1]
    assert title in recording.text(recording.n_prompt // 4 - 1)
    assert recording.save(tmp_path / "one.npz").stat().st_size < 200_000

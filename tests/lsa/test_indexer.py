"""The Memory Indexer by hand, and that it learns what can be learned."""

import math

import pytest
import torch

from intuitive.common.runtime import Cancelled, seeded
from intuitive.lsa import LSAConfig, cost, memory_logits, rotary
from intuitive.lsa import indexer_training as training
from intuitive.lsa.indexer import MemoryIndexer, MemoryIndexers
from intuitive.lsa.selection import always_resident, resident_sets

SMALL = LSAConfig(
    d_model=32,
    d_index=16,
    d_rope=0,
    n_memory_heads=8,
    memory_rank=32,
    memory_layers=(0, 2),
    lookahead=8,
    tail=32,
)

# ------------------------------------------------------------------------------- the module


@pytest.mark.parametrize("spread", [False, True], ids=["plain", "hadamard"])
def test_logits_by_hand(spread):
    config = LSAConfig(d_model=12, d_index=8, d_rope=4, n_memory_heads=3, hadamard=spread)
    indexer = MemoryIndexer(config, generator=seeded(1)).requires_grad_(False)
    indexer.norm.copy_(torch.rand(config.memory_rank, generator=seeded(2)))
    indexer.bias.fill_(-0.7)
    draw = seeded(3)
    hidden, keys = torch.randn(5, 12, generator=draw), torch.randn(9, 8, generator=draw)
    positions = torch.tensor([0, 3, 70, 71, 500])
    rates = [1.0, config.compressed_rope_base ** (-2 / 4)]
    want = torch.zeros(5, 9)
    for i in range(5):
        low = indexer.w_dq @ hidden[i]
        low = low / (low.square().mean() + config.norm_eps).sqrt() * indexer.norm
        for head in range(3):
            q = indexer.w_uq[8 * head : 8 * head + 8] @ low
            for pair, rate in enumerate(rates):  # channels 4, 5 and 6, 7
                angle, c = float(positions[i]) * rate, 4 + 2 * pair
                x, y = float(q[c]), float(q[c + 1])
                q[c] = x * math.cos(angle) - y * math.sin(angle)
                q[c + 1] = y * math.cos(angle) + x * math.sin(angle)
            if spread:
                q = rotary.hadamard(q)
            w = float(indexer.w_w[head] @ hidden[i]) / math.sqrt(3) / math.sqrt(8)
            want[i] += w * (keys @ q).clamp(min=0)
    torch.testing.assert_close(indexer(hidden, positions, keys), want - 0.7, atol=1e-5, rtol=1e-5)


def test_module_agrees_with_memory_logits():
    config = LSAConfig(memory_bias=False)
    indexer = MemoryIndexer(config).requires_grad_(False)
    draw = seeded(4)
    hidden = torch.randn(3, config.d_model, generator=draw)
    keys = torch.randn(50, config.d_index, generator=draw)
    positions = torch.tensor([5, 6, 900])
    q, weights = indexer.queries(hidden, positions)
    want = torch.stack([memory_logits(*one, keys) for one in zip(q, weights, strict=True)])
    torch.testing.assert_close(indexer(hidden, positions, keys), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_it_has_the_weights_that_the_cost_model_counts(bias):
    config = LSAConfig(memory_bias=bias)
    count = sum(weight.numel() for weight in MemoryIndexer(config).parameters())
    assert count == cost.memory_indexer_weights(config)


def test_an_indexer_without_layers_is_refused():
    with pytest.raises(ValueError, match="at least one CSA layer"):
        MemoryIndexers(LSAConfig(memory_layers=()))


# --------------------------------------------------------------------------------- the loss


def test_focal_loss_by_hand():
    logits = torch.tensor([0.0, 2.0, 2.0, -1.0])
    needed = torch.tensor([True, True, False, False])
    weights = torch.tensor([1.0, 0.5, 1.0, 1.0])
    p = [1 / (1 + math.exp(-z)) for z in logits.tolist()]
    right = [p[0], p[1], 1 - p[2], 1 - p[3]]
    want = [w * (1 - x) ** 2 * -math.log(x) for w, x in zip(weights.tolist(), right, strict=True)]
    torch.testing.assert_close(training.focal_loss(logits, needed, weights), torch.tensor(want))


def test_focal_loss_stays_finite_far_out():
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = training.focal_loss(logits, torch.tensor([True, True]), torch.ones(2))
    loss.sum().backward()
    assert loss.tolist() == [200.0, 0.0]
    assert torch.isfinite(logits.grad).all()


def test_gamma_0_is_cross_entropy():
    logits = torch.randn(20, generator=seeded(5))
    needed = torch.rand(20, generator=seeded(6)) < 0.5
    want = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, needed.float(), reduction="none"
    )
    got = training.focal_loss(logits, needed, torch.ones(20), gamma=0.0)
    torch.testing.assert_close(got, want)


def test_three_negatives_are_drawn_for_each_positive():
    labels = torch.zeros(3, 40, dtype=torch.bool)
    labels[0, :4] = labels[1, :20] = True
    candidates = torch.ones_like(labels)
    candidates[0, 0] = candidates[:, -5:] = False
    positive, negative = training.draw_chunks(labels, candidates, seeded(0))
    assert positive.sum(-1).tolist() == [3, 20, 0]
    assert negative.sum(-1).tolist() == [9, 15, 0]  # of the second trigger all there are
    assert not (negative & labels).any()
    assert not ((positive | negative) & ~candidates).any()
    few, _ = training.draw_chunks(labels, candidates, seeded(0), most=6)
    assert few.sum(-1).tolist() == [3, 6, 0]


def test_negatives_are_drawn_anew_and_evenly():
    labels = torch.zeros(1, 31, dtype=torch.bool)
    labels[0, 0] = True
    draw, counts = seeded(1), torch.zeros(31)
    for _ in range(500):
        counts += training.draw_chunks(labels, torch.ones_like(labels), draw)[1][0]
    assert counts[0] == 0
    assert counts[1:].min() > 25  # 50 expected, standard deviation 6.7
    assert counts[1:].max() < 75


# ---------------------------------------------------------------------------------- documents

TOPICS, CHUNKS = 8, 96
CODES = torch.nn.functional.normalize(torch.randn(TOPICS, 16, generator=seeded(100)), dim=-1)
READ = torch.randn(16, 32, generator=seeded(101)) / 4  # how a hidden state shows its topic


def draw_document(seed, *, n_sections=12, stride=8, decoding=False):
    """Chunks with a topic each, in random order; a section of 8 steps needs those of its topic."""
    draw = seeded(seed)
    topic = torch.randint(TOPICS, (CHUNKS,), generator=draw)
    keys = 4 * CODES[topic] + 0.3 * torch.randn(2, CHUNKS, 16, generator=draw)
    section = torch.randint(TOPICS, (n_sections,), generator=draw).repeat_interleave(8)
    steps = len(section)
    hidden = 4 * CODES[section] @ READ + 0.3 * torch.randn(2, steps, 32, generator=draw)
    golden = section[:, None] == topic
    return training.Document.of(
        hidden,
        4 * CHUNKS + torch.arange(steps),
        keys,
        golden,
        torch.full((steps,), CHUNKS),
        SMALL,
        stride=stride,
        decoding=decoding,
    )


@pytest.fixture(scope="module")
def trained():
    documents = [draw_document(seed) for seed in range(24)]
    how = training.IndexerTrainingConfig(n_steps=120, n_documents=2)
    return training.train_indexers(documents, SMALL, how, seed=0)


def test_candidates_exist_and_are_not_resident_anyhow():
    golden = torch.ones(16, CHUNKS, dtype=torch.bool)
    closed = 40 + torch.arange(16) // 4
    given = (torch.zeros(2, 16, 32), torch.arange(16), torch.zeros(2, CHUNKS, 16), golden, closed)
    document = training.Document.of(*given, SMALL)
    assert document.closed.tolist() == [40, 42]
    assert document.hidden.shape == (2, 2, 32)
    assert [row.sum().item() for row in document.candidates] == [32, 34]
    for row, count in zip(document.candidates, (40, 42), strict=True):
        always = always_resident(count, CHUNKS, SMALL)
        assert not (row & always).any()
        assert ((row | always).sum() == count) and (row | always)[:count].all()
    decoding = training.Document.of(*given, SMALL, decoding=True)
    assert [row.sum().item() for row in decoding.candidates] == [32, 34]
    assert document.weights.tolist() == [0.5] * CHUNKS  # golden at every step


def evaluate(indexers, document, **rule):
    logits = indexers(document.hidden, document.positions, document.keys)
    resident = resident_sets(logits, document.closed, SMALL, **rule)
    return training.fetch_quality(resident, document.labels, document.candidates, document.closed)


def test_what_is_learned_serves_documents_never_seen(trained):
    """A topic's chunks are an eighth; the tail of 8 chunks is resident in any case."""
    assert sum(trained.loss[-20:]) < 0.3 * sum(trained.loss[:20])
    untrained = MemoryIndexers(SMALL, generator=seeded(0)).requires_grad_(False)
    for seed in (1000, 1001, 1002):
        document = draw_document(seed, decoding=True)
        got = evaluate(trained.indexers, document)
        assert got.golden_recall > 0.95
        assert got.kept < 0.35
        assert got.fetched < 0.3
        size = int(document.labels.sum(-1).max())
        budget = evaluate(trained.indexers, document, rule="budget", size=size)
        assert budget.golden_recall > 0.9
        assert evaluate(untrained, document, rule="budget", size=size).golden_recall < 0.6


def test_a_cycle_late_serves_only_what_the_topics_share(trained):
    document = draw_document(1003, decoding=True)
    late = evaluate(trained.indexers, document, lag=1).golden_recall
    assert late < 0.4 < 0.95 < evaluate(trained.indexers, document).golden_recall


def test_training_is_repeatable_and_leaves_no_gradients(trained):
    documents = [draw_document(seed) for seed in range(3)]
    how = training.IndexerTrainingConfig(n_steps=3)
    with torch.inference_mode():  # whatever the caller has switched off
        first, again = (training.train_indexers(documents, SMALL, how, seed=7) for _ in range(2))
    assert first.loss == again.loss
    assert training.train_indexers(documents, SMALL, how, seed=8).loss != first.loss
    assert not any(weight.requires_grad for weight in trained.indexers.parameters())
    assert not any(weight.is_inference() for weight in first.indexers.parameters())


def test_training_can_be_given_up():
    with pytest.raises(Cancelled):
        training.train_indexers([draw_document(0)], SMALL, stale=lambda: True)


def test_nothing_to_fetch_is_said():
    document = draw_document(0)
    empty = training.Document(**vars(document) | {"labels": torch.zeros_like(document.labels)})
    with pytest.raises(ValueError, match="none of 1 documents"):
        training.train_indexers([empty], SMALL)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_steps": 0}, "n_steps=0"),
        ({"learning_rate": 1.5}, "between 0 and 1"),
        ({"clip": 0.0}, "clip=0.0 must be above 0"),
        ({"gamma": -1.0}, "not negative"),
    ],
)
def test_a_wrong_schedule_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        training.IndexerTrainingConfig(**changes)


# -------------------------------------------------------------------------------- measures


def test_fetch_quality_by_hand():
    resident = torch.tensor([[1, 1, 0, 0, 1], [0, 1, 1, 0, 1]]).bool()
    labels = torch.tensor([[1, 0, 1, 0, 1], [0, 1, 0, 1, 1]]).bool()
    candidates = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]).bool()
    got = training.fetch_quality(resident, labels, candidates, torch.tensor([5, 5]))
    assert vars(got) == pytest.approx(
        {"golden_recall": 0.5, "kept": 0.6, "fetched": 0.5, "needed": 2.0, "missed": 1.0}
    )


def test_share_resident_by_hand():
    weights = torch.zeros(4, 1, 4)
    weights[0, 0] = torch.tensor([0.2, 0.2, 0.6, 0.0])
    weights[1, 0] = torch.tensor([0.0, 0.1, 0.1, 0.2])  # chunk 3 was decoded in this window
    weights[3, 0, 0] = 5.0  # step 2 reads nothing
    resident = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0]]).bool()
    closed = torch.tensor([3, 4, 4, 4])
    got = training.share_resident(weights, resident, closed, lookahead=2)
    assert got == pytest.approx((0.8 + 0.75 + 0.0) / 3)
    everything = torch.ones(2, 4, dtype=torch.bool)
    assert training.share_resident(weights, everything, closed, lookahead=2) == 1.0
    with pytest.raises(ValueError, match="4 steps make 2 windows"):
        training.share_resident(weights, everything[:1], closed, lookahead=2)

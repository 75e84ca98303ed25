"""The script that times the untrained pair: its layers compute what the common ones do."""

import dataclasses
import json

import lclm_pair
import msgspec
import pytest
import torch
from pair_layers import quicken

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.eviction import METHODS
from intuitive.common.runtime import seeded
from intuitive.lclm import results

CONFIG = DecoderConfig(d_model=32, rope_base=1e6)


def twins(dtype=torch.float32, **given):
    config = dataclasses.replace(CONFIG, **given)
    common, quick = (
        Decoder(config, dtype=dtype, generator=seeded(0)).requires_grad_(False) for _ in range(2)
    )
    for decoder in (common, quick):
        for name, weight in decoder.named_parameters():
            if "norm" in name:
                weight.data.uniform_(0.5, 1.5, generator=seeded(len(name)))
            elif "embedding" not in name:
                weight.data.mul_(10)
    return common, quicken(quick)


@pytest.mark.parametrize("positions", ["rope", "learned", "none"])
def test_quick_layers_compute_what_the_common_ones_do(positions):
    common, quick = twins(positions=positions)
    tokens = torch.randint(256, (3, 20), generator=seeded(1))
    torch.testing.assert_close(quick(tokens), common(tokens), atol=1e-4, rtol=1e-4)
    places = torch.randint(100, (3, 20), generator=seeded(2))  # other ones in every row
    got, want = (d(tokens, positions=places) for d in (quick, common))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_quick_layers_share_the_weights_and_round_a_little_in_bfloat16():
    common, quick = twins(torch.bfloat16)
    before = [weight.data_ptr() for weight in quick.parameters()]
    assert before == [weight.data_ptr() for weight in quicken(quick).parameters()]
    tokens = torch.randint(256, (1, 20), generator=seeded(1))
    got, want = (d(tokens).float() for d in (quick, common))
    assert (got - want).abs().mean() < 0.02 * want.abs().mean()


def test_pieces_through_the_cache_are_one_pass():
    _, quick = twins()
    tokens = torch.randint(256, (1, 50), generator=seeded(1))
    want, cache = quick(tokens), quick.make_cache(1, 50)
    got = [quick(tokens[:, a : a + 16], cache=cache) for a in range(0, 50, 16)]
    torch.testing.assert_close(torch.cat(got, 1), want, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def bench():
    made = lclm_pair.Bench(
        lclm_pair.Plan.small(), lclm_pair.sizes(True), torch.device("cpu"), seconds=600
    )
    saved = []
    with torch.no_grad():
        for part in ("all", "beside", "evictions"):
            made.run(part, lambda values: saved.append(json.dumps(values)))
    made.saved = saved
    return made


def test_every_stage_runs_and_is_read_back(bench):
    assert bench.values["faults"] == []
    found = msgspec.convert(json.loads(bench.saved[-1]), results.Pair)
    plan = bench.plan
    raw, latents = found.select(arm="raw"), found.select(arm="lclm")
    assert {p.n_tokens for p in raw} == {p.n_tokens for p in latents} == set(plan.lengths)
    assert {p.ratio for p in latents} == set(plan.ratios)
    assert {p.way for p in latents} == {"whole", "pieces"}
    assert [e.windows for e in found.encoder] == list(plan.batches)
    assert {(e.method, e.n_tokens) for e in found.evictions} == {
        (name, n) for name in METHODS for n in plan.evicted
    }
    for point in found.points:
        assert point.encoder_s + point.decoder_s == pytest.approx(point.ttft_s, rel=1e-3)
        assert (point.encoder_s == 0) == (point.arm == "raw")


def test_terms_are_those_of_the_models(bench):
    raw = next(p for p in bench.values["points"] if (p["n_tokens"], p["logits"]) == (100, "all"))
    cache = bench.decoder.make_cache(1, 100)
    with torch.no_grad():
        logits = bench.decoder(bench.tokens[None, :100], cache=cache)
    gib = 2**30
    assert raw["kv_gib"] * gib == pytest.approx(sum(cache.nbytes().values()), rel=1e-4)
    assert raw["logits_gib"] * gib == pytest.approx(logits.numel() * 4, rel=1e-4)


def test_both_ways_end_with_the_same_token(bench):
    with torch.no_grad():
        tokens = bench.tokens[None, :256]
        whole, pieces = (
            bench.first_token("tokens", tokens, "last", w) for w in ("whole", "pieces")
        )
        assert whole == pieces == int(bench.decoder(tokens)[0, -1].argmax())


def test_what_there_is_no_time_for_is_told():
    made = lclm_pair.Bench(
        lclm_pair.Plan.small(), lclm_pair.sizes(True), torch.device("cpu"), seconds=0
    )
    made.run("all", lambda values: None)
    assert made.values["points"] == []
    assert all("not begun" in fault["error"] for fault in made.values["faults"])
    assert made.values["faults"][0]["stage"] == "raw 100 last whole"


def test_other_kernels_are_named_in_their_points():
    made = lclm_pair.Bench(
        lclm_pair.Plan.small(), lclm_pair.sizes(True), torch.device("cpu"), seconds=600
    )
    with torch.no_grad():
        made.run("kernels", lambda values: None)
    arms = [(point["arm"], point["backend"]) for point in made.values["points"]]
    assert arms == [("raw", "flash"), ("raw", "cudnn"), ("lclm", "cudnn"), ("lclm", "flash")]

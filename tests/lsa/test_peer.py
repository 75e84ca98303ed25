"""CSA and HCA beside transformers' DeepSeek-V4, on shared random weights.

Compared in float32 to 1e-5, at odd lengths, for a whole text and with its cache token by token
and in pieces. Two differences are named here:

- The peer's indexer stores plain keys. Ours passes queries and keys through a Walsh-Hadamard
  transform where `LSAConfig.hadamard` says so, as the released Memory Indexer's keys have been;
  it is a rotation and changes no score beyond rounding.
- Where several chunks score the same, `torch.topk` of the peer takes any of them; ours takes the
  lower chunk, so that a pool of cells in another order selects the same. A chunk for which no
  index head fires scores exactly 0: with the three heads of the other tests that is every eighth,
  and the two do choose differently (`test_only_ties_are_decided_otherwise`). Outputs are therefore
  compared with sixteen heads, where such ties are rarer than one in ten thousand.

The peer keeps every layer in a class of its own; here the three kinds share one.
"""

import dataclasses

import pytest
import torch
from lsa_layers import CLOSE, SMALL, draw_hidden, make_layer, places, run

transformers = pytest.importorskip("transformers")
v4 = pytest.importorskip("transformers.models.deepseek_v4.modeling_deepseek_v4")

KINDS = {
    "window": "sliding_attention",
    "csa": "compressed_sparse_attention",
    "hca": "heavily_compressed_attention",
}


def peer_config(config, kind):
    rope = {}
    if config.yarn_factor > 1:
        rope = {
            "rope_type": "yarn",
            "factor": config.yarn_factor,
            "original_max_position_embeddings": config.yarn_length,
            "beta_fast": 32,
            "beta_slow": 1,
        }
    return transformers.DeepseekV4Config(
        vocab_size=16,
        hidden_size=config.d_model,
        num_hidden_layers=1,
        layer_types=[KINDS[kind]],
        mlp_layer_types=["moe"],
        num_attention_heads=config.n_heads,
        head_dim=config.d_head,
        partial_rotary_factor=config.d_rope / config.d_head,
        q_lora_rank=config.q_rank,
        o_groups=config.o_groups,
        o_lora_rank=config.o_rank,
        sliding_window=config.window,
        compress_rates={KINDS["csa"]: config.chunk_size, KINDS["hca"]: config.hca_size},
        index_n_heads=config.n_index_heads,
        index_head_dim=config.d_index,
        index_topk=config.top_k,
        rms_norm_eps=config.norm_eps,
        rope_theta=config.rope_base,
        compress_rope_theta=config.compressed_rope_base,
        max_position_embeddings=512,
        rope_parameters=rope or None,
        attn_implementation="eager",
    )


def shared_names(kind):
    """The peer's names of our weights."""
    names = {
        "w_dq.weight": "q_a_proj.weight",
        "norm_q.weight": "q_a_norm.weight",
        "w_uq.weight": "q_b_proj.weight",
        "w_kv.weight": "kv_proj.weight",
        "norm_kv.weight": "kv_norm.weight",
        "sinks": "sinks",
        "w_oa.weight": "o_a_proj.weight",
        "w_o.weight": "o_b_proj.weight",
    }
    compressors = {"hca": {"compressor": "compressor"}, "window": {}}.get(
        kind, {"compressor": "compressor", "index_compressor": "compressor.indexer"}
    )
    for ours, theirs in compressors.items():
        names |= {
            f"{ours}.w_value.weight": f"{theirs}.kv_proj.weight",
            f"{ours}.w_gate.weight": f"{theirs}.gate_proj.weight",
            f"{ours}.slot_bias": f"{theirs}.position_bias",
            f"{ours}.norm.weight": f"{theirs}.kv_norm.weight",
        }
    if kind == "csa":
        names |= {
            "w_iuq.weight": "compressor.indexer.q_b_proj.weight",
            "w_iw.weight": "compressor.indexer.scorer.weights_proj.weight",
        }
    return names


class Peer:
    """The peer's layer with the weights of ours."""

    def __init__(self, attention):
        config, kind = attention.config, attention.kind
        self.config, self.settings = config, peer_config(config, kind)
        self.layer = v4.DeepseekV4Attention(self.settings, 0).eval().requires_grad_(False)
        self.rotary = v4.DeepseekV4RotaryEmbedding(self.settings)
        names = shared_names(kind)
        ours = dict(attention.named_parameters())
        assert names.keys() == ours.keys()
        state = {names[name]: weight for name, weight in ours.items()}
        loaded = self.layer.load_state_dict(state, strict=False)
        assert not loaded.unexpected_keys
        assert not [name for name in loaded.missing_keys if "rotary" not in name]
        self.cache = None

    def __call__(self, hidden, start=0):
        b, n = hidden.shape[:2]
        positions = places(b, n, start)
        turns = {
            kind: self.rotary(hidden, position_ids=positions, layer_type=kind)
            for kind in ("main", "compress")
        }
        # Its sliding cache hands back the last window - 1 tokens and the new ones.
        held = 0 if self.cache is None else min(start, self.config.window - 1)
        keys = torch.arange(start - held, start + n)
        behind = positions[0][:, None] - keys
        mask = torch.where((behind >= 0) & (behind < self.config.window), 0.0, -torch.inf)
        out, _ = self.layer(
            hidden,
            position_embeddings=turns,
            position_ids=positions,
            attention_mask=mask.expand(b, 1, -1, -1),
            past_key_values=self.cache,
        )
        return out

    def in_pieces(self, hidden, pieces):
        self.cache, start, parts = transformers.DynamicCache(config=self.settings), 0, []
        for part in hidden.split(pieces, 1):
            parts.append(self(part, start))
            start += part.shape[1]
        return torch.cat(parts, 1)


MANY = dataclasses.replace(SMALL, n_index_heads=16)
STRETCHED = dataclasses.replace(MANY, yarn_factor=16.0, yarn_length=64)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 3, 7, 29, 61], ids="n={}".format)
def test_whole_text_agrees(kind, n):
    attention, hidden = make_layer(kind, MANY), draw_hidden(2, n)
    torch.testing.assert_close(run(attention, hidden), Peer(attention)(hidden), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [1, 5, 13], ids="pieces={}".format)
def test_both_caches_agree(kind, pieces):
    attention, hidden = make_layer(kind, MANY), draw_hidden(2, 47)
    want = Peer(attention).in_pieces(hidden, pieces)
    torch.testing.assert_close(run(attention, hidden, pieces), want, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_yarn_agrees(kind):
    """Only layers with a compressor are stretched; the logits are not rescaled."""
    attention, hidden = make_layer(kind, STRETCHED), draw_hidden(1, 45)
    got = run(attention, hidden)
    torch.testing.assert_close(got, Peer(attention)(hidden), **CLOSE)
    plain = run(make_layer(kind, MANY), hidden)
    assert ((got - plain).abs().max() > 1e-3) == (kind != "window")


@torch.no_grad()
def test_the_hadamard_transform_changes_no_output():
    attention = make_layer("csa", dataclasses.replace(MANY, hadamard=True))
    hidden = draw_hidden(1, 45)
    torch.testing.assert_close(run(attention, hidden), Peer(attention)(hidden), **CLOSE)


def selections(attention, hidden):
    """Chunks that ours and the peer select for every query of one text, and our scores."""
    looks = []
    attention.watch = looks.append
    run(attention, hidden)
    peer = Peer(attention).layer
    low = peer.q_a_norm(peer.q_a_proj(hidden))
    theirs = peer.compressor.indexer(hidden, low, places(1, hidden.shape[1]), None, 0)[0]
    ours = looks[0].selected[0]
    assert ours.shape == theirs.shape
    both = zip(ours.tolist(), theirs.tolist(), looks[0].scores[0].tolist(), strict=True)
    return [(set(one) - {-1}, set(other) - {-1}, scores) for one, other, scores in both]


@torch.no_grad()
def test_both_select_the_same_chunks():
    chosen = selections(make_layer("csa", MANY), draw_hidden(1, 61))
    assert [ours for ours, _, _ in chosen] == [theirs for _, theirs, _ in chosen]
    assert max(max(ours) for ours, _, _ in chosen if ours) > 10


@torch.no_grad()
@pytest.mark.parametrize("dead", [False, True], ids=["few heads", "all scores 0"])
def test_only_ties_are_decided_otherwise(dead):
    attention = make_layer("csa")
    if dead:
        attention.w_iw.weight.zero_()
    n_tied = 0
    for ours, theirs, scores in selections(attention, draw_hidden(1, 61)):
        assert len(ours) == len(theirs)
        assert {scores[s] for s in ours ^ theirs} <= {0.0}
        n_tied += bool(ours) and scores.count(0.0) > 1 and min(scores[s] for s in ours) == 0.0
        if dead:
            assert ours == set(range(len(ours)))
    assert n_tied > 0

"""Models of `transformers` with our attention, against their own `eager` and `sdpa`."""

import importlib.metadata
import importlib.util
import os

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")

from transformers import (  # noqa: E402
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MiniMaxM3VLTextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    StaticCache,
)
from transformers.models.minimax_m3_vl.modeling_minimax_m3_vl import (  # noqa: E402
    MiniMaxM3VLForCausalLM,
)

from intuitive.common.decoder import DecoderConfig, DenseAttention  # noqa: E402
from intuitive.common.runtime import seeded  # noqa: E402
from intuitive.msa import MSAConfig  # noqa: E402
from intuitive.msa import transformers as ours  # noqa: E402
from intuitive.msa.conversion import SelectorAttention  # noqa: E402
from intuitive.msa.minimax import quick_indexers  # noqa: E402
from intuitive.msa.transformers import BlockSparse, register  # noqa: E402

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
# CUDA sums float32 products in another order in each attention function, three layers deep
CLOSE_ON = {"cpu": CLOSE, "cuda": {"atol": 2e-5, "rtol": 2e-5}}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SIZES = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_hidden_layers": 3,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}


def drawn(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """The model with weights of its own drawing, sharper than at the start of a training."""
    random = seeded(0)
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            scale = 0.3 if "q_proj" in name or "k_proj" in name else 0.12
            weight.data = scale * torch.randn(weight.shape, generator=random)
    return model.eval().requires_grad_(False).to(device)


def minimax(device: str = "cpu", **changes) -> MiniMaxM3VLForCausalLM:
    config = MiniMaxM3VLTextConfig(
        **SIZES
        | {
            "dense_intermediate_size": 48,
            "shared_intermediate_size": 32,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5
            },
            "layer_types": ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
            "mlp_layer_types": ["dense", "sparse", "dense"],
            "index_n_heads": 2,
            "index_head_dim": 64,
            "index_block_size": 16,
            "index_topk_blocks": 3,
        }
        | changes
    )  # fmt: skip
    model = drawn(MiniMaxM3VLForCausalLM(config), device)
    model.set_experts_implementation("eager")  # the others take half precision only, on a GPU
    return model


def tokens_of(b: int, n: int, device: str = "cpu") -> torch.Tensor:
    return torch.randint(2, 97, (b, n), generator=seeded(1)).to(device)


def both(model, run, other: str = "eager", name: str | None = None) -> tuple:
    """What `run(model)` gives with theirs and with ours."""
    found = []
    for kind in (other, name or register()):
        model.set_attn_implementation(kind)
        found.append(run(model))
    return tuple(found)


# ------------------------------------------------------------------------------- MiniMax-M3


@pytest.mark.parametrize("device", DEVICES)
def test_minimax_reads_its_blocks_without_a_dense_mask(device, monkeypatch):
    model, tokens = minimax(device), tokens_of(2, 131, device)
    theirs, sdpa = both(model, lambda m: m(tokens).logits, name="sdpa")
    indexer = model.model.layers[1].self_attn.indexer
    monkeypatch.setattr(indexer, "build_block_mask", None)  # would fail if it were called
    model.set_attn_implementation(register())
    seen = []
    model.model.layers[1].self_attn.register_forward_pre_hook(
        lambda module, args, named: seen.append(named["attention_mask"]), with_kwargs=True
    )
    got = model(tokens).logits
    torch.testing.assert_close(got, theirs, **CLOSE)
    torch.testing.assert_close(sdpa, theirs, **CLOSE)
    assert seen == [None]
    with_all = minimax(device, index_topk_blocks=9)(tokens).logits
    assert (with_all - theirs).abs().max() > 1e-2  # so the selection matters


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("padding", ["none", "right", "left"])
def test_minimax_generates_the_same_tokens(device, padding):
    model, tokens = minimax(device), tokens_of(3, 50, device)
    mask = torch.ones_like(tokens)
    for row, missing in enumerate((0, 7, 20)):
        if padding == "right" and missing:
            mask[row, -missing:] = 0
        if padding == "left":
            mask[row, :missing] = 0
    tokens = tokens * mask

    def logits(model):
        return model(tokens, attention_mask=mask).logits[mask.bool()]

    torch.testing.assert_close(*both(model, logits), **CLOSE)

    theirs, got = both(model, lambda model: greedy(model, tokens, mask, 24))
    assert torch.equal(got, theirs)
    assert got.unique().numel() > 10  # no model that always says the same


def greedy(model, tokens: torch.Tensor, mask: torch.Tensor, n: int) -> torch.Tensor:
    """The next n tokens of each row after its last real one, from a cache."""
    rows = torch.arange(len(tokens), device=tokens.device)
    place = torch.where(mask.bool(), mask.cumsum(-1) - 1, 0)
    last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(-1)
    read = model(tokens, attention_mask=mask, position_ids=place, use_cache=True)
    logits, new = read.logits[rows, last], []
    for _ in range(n):
        new.append(logits.argmax(-1))
        place = mask.sum(-1, keepdim=True)
        mask = torch.cat((mask, torch.ones_like(mask[:, :1])), 1)
        read = model(
            new[-1][:, None],
            attention_mask=mask,
            position_ids=place,
            past_key_values=read.past_key_values,
        )
        logits = read.logits[:, -1]
    return torch.stack(new, 1)


def test_minimax_generates_the_same_by_the_generate_of_transformers():
    model, tokens = minimax(), tokens_of(2, 50)
    options = {"max_new_tokens": 16, "do_sample": False}
    theirs, got = both(model, lambda model: model.generate(tokens, **options))
    assert torch.equal(got, theirs)
    beams = both(model, lambda model: model.generate(tokens, num_beams=3, **options))
    assert torch.equal(*beams)


def test_minimax_reads_in_chunks_and_from_caches_of_both_kinds():
    model, tokens = minimax(), tokens_of(2, 77)
    want = model(tokens).logits
    model.set_attn_implementation(register())
    for cache in (
        DynamicCache(config=model.config),
        StaticCache(config=model.config, max_cache_len=90),
    ):
        parts = tokens.split((40, 30, 1, 1, 5), dim=1)
        got = torch.cat([model(part, past_key_values=cache).logits for part in parts], 1)
        torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("device", DEVICES)
def test_quick_indexers_choose_the_same_blocks(device):
    model, tokens = minimax(device), tokens_of(2, 131, device)
    mask = torch.ones_like(tokens)
    mask[0, :9] = 0
    model.set_attn_implementation("eager")
    want = (
        model(tokens).logits,
        greedy(model, tokens, mask, 20),
        greedy(model, tokens[1:], mask[1:], 20),
    )
    indexer, hidden = model.model.layers[1].self_attn.indexer, torch.randn(2, 131, 64).to(device)
    place = torch.arange(131, device=device).expand(2, -1)
    rotary = model.model.rotary_emb(hidden, place)
    theirs = indexer(hidden, rotary, None, place)
    assert quick_indexers(model) == 2
    ours = indexer(hidden, rotary, None, place)
    assert torch.equal(ours.sort(-1).values, theirs.sort(-1).values)
    model.set_attn_implementation(register())
    torch.testing.assert_close(model(tokens).logits, want[0], **CLOSE)
    assert torch.equal(greedy(model, tokens, mask, 20), want[1])  # padded on the left
    assert torch.equal(greedy(model, tokens[1:], mask[1:], 20), want[2])
    with pytest.raises(ValueError, match="LlamaForCausalLM has no MiniMaxM3VLIndexer"):
        quick_indexers(llama())


def test_minimax_with_fewer_index_heads_shares_their_blocks():
    model = minimax(index_n_heads=1)
    torch.testing.assert_close(*both(model, lambda m: m(tokens_of(1, 90)).logits), **CLOSE)
    model = minimax(index_n_heads=4)
    model.set_attn_implementation(register())
    with pytest.raises(ValueError, match="of layer 1 passes blocks of 4 index heads for 2"):
        model(tokens_of(1, 90))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_minimax_in_half_precision_is_as_near_to_float32_as_sdpa(dtype):
    exact = minimax("cuda").model.layers[1].self_attn
    layer = minimax("cuda").model.layers[1].self_attn.to(dtype)
    hidden = torch.randn(2, 300, 64, generator=seeded(2)).cuda()
    place = torch.arange(300, device="cuda")[None]
    rotary = minimax("cuda").model.rotary_emb
    block_idx = exact.indexer(hidden, rotary(hidden, place), None, place.expand(2, -1))

    def attended(layer, x, kind):
        layer.config._attn_implementation = kind
        layer.indexer.forward = lambda *given: block_idx  # near ties fall otherwise in half
        return layer(x, rotary(x, place), None, position_ids=place)[0].float()

    want = attended(exact, hidden, "eager")
    errors = [
        (attended(layer, hidden.to(dtype), kind) - want).norm() for kind in (register(), "sdpa")
    ]
    assert errors[0] < 2 * errors[1]


# ------------------------------------------------------------------------------- other models


def llama(device: str = "cpu") -> LlamaForCausalLM:
    return drawn(LlamaForCausalLM(LlamaConfig(**SIZES)), device)


MEAN = {"selector": "block_mean_keys", "block_size": 16, "n_selected": 3}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("make", [llama, lambda device: drawn(
    Qwen3ForCausalLM(Qwen3Config(**SIZES)), device
)], ids=["llama", "qwen3"])  # fmt: skip
def test_a_selector_serves_any_model_with_grouped_heads(make, device):
    model, tokens = make(device), tokens_of(2, 140, device)
    everything = register("all", selector="window_sink", block_size=16, n_selected=9)
    close = CLOSE_ON[device]
    torch.testing.assert_close(*both(model, lambda m: m(tokens).logits, name=everything), **close)
    few = register("few", **MEAN)
    theirs, sparse = both(model, lambda m: m(tokens).logits, name=few)
    torch.testing.assert_close(sparse[:, :48], theirs[:, :48], **close)  # within the budget
    assert (sparse - theirs)[:, 60:].abs().max() > 1e-2
    first_only = register("first", layers=[0], **MEAN)
    _, some = both(model, lambda m: m(tokens).logits, name=first_only)
    assert not torch.allclose(some, sparse, atol=1e-3)
    assert not torch.allclose(some, theirs, atol=1e-3)


def test_a_selector_reads_what_the_converted_decoder_reads():
    """One layer of Llama against `SelectorAttention`, which `convert` puts into our decoder."""
    model = llama()
    theirs = model.model.layers[0].self_attn
    config = DecoderConfig(d_model=64, n_q_heads=4, n_kv_heads=2, d_head=64)
    msa = MSAConfig(n_q_heads=4, n_kv_heads=2, d_head=64, block_size=16, n_selected=3)
    mine = SelectorAttention(config, msa, "block_mean_keys").requires_grad_(False)
    assert isinstance(mine, DenseAttention)
    for name in "qkvo":
        getattr(mine, f"w_{name}").weight.copy_(getattr(theirs, f"{name}_proj").weight)
    hidden, place = torch.randn(2, 90, 64, generator=seeded(2)), torch.arange(90)[None]
    want = mine(hidden, place.expand(2, -1))
    theirs.config._attn_implementation = register("few", **MEAN)
    got, weights = theirs(hidden, model.model.rotary_emb(hidden, place), None)
    assert weights is None
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_for_a_selector(device, side):
    model, text = llama(device), tokens_of(1, 60, device)
    model.set_attn_implementation(register("few", **MEAN))
    alone = greedy(model, text, torch.ones_like(text), 20)
    pad = torch.zeros(1, 13, dtype=text.dtype, device=device)
    parts = (pad, text) if side == "left" else (text, pad)
    rows = torch.cat((torch.cat(parts, 1), tokens_of(1, 73, device)))
    mask = torch.ones_like(rows)
    mask[0, slice(None, 13) if side == "left" else slice(60, None)] = 0
    assert torch.equal(greedy(model, rows, mask, 20)[0], alone[0])


@pytest.mark.model
def test_smollm2_in_transformers_goes_on_as_our_converted_decoder():
    from intuitive.common.decoder import generate
    from intuitive.common.smollm import load_smollm2
    from intuitive.msa.conversion import convert

    model = load_smollm2()
    theirs = ours.as_llama(model.decoder)
    prompt = torch.tensor([model.tokenizer.encode(TEXT)])
    assert prompt.shape[1] > 100
    with torch.no_grad():
        difference = theirs(prompt).logits - model.decoder(prompt)
    assert difference.abs().max() < 2e-3
    theirs.set_attn_implementation(
        register("few", selector="main_max", block_size=16, n_selected=3)
    )
    msa = MSAConfig(n_q_heads=9, n_kv_heads=3, d_head=64, block_size=16, n_selected=3)
    want = generate(convert(model.decoder, msa, "main_max"), prompt, max_new_tokens=5)
    got = theirs.generate(prompt, max_new_tokens=5, do_sample=False)[:, prompt.shape[1] :]
    assert torch.equal(got, want)
    with torch.no_grad():
        assert (theirs(prompt).logits - model.decoder(prompt)).abs().max() > 0.1


TEXT = (
    "The harbour lay still. A clerk counted the boats, wrote their names into a book, and closed "
    "it. Then he walked to the lighthouse, where the keeper was waiting with a lamp. "
) * 3


# ------------------------------------------------------------------------------- what is refused


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "5.9.1")
    with pytest.raises(ImportError, match=r"transformers 5\.9\.1 is installed, but only 5\.23"):
        register()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="transformers is not installed"):
        register()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"selector": "best"}, "selector='best' is unknown; choose one of oracle"),
        ({"n_selected": 0}, "n_selected=0 must be at least 1"),
        ({"name": "sdpa"}, "name='sdpa' is an attention function of transformers itself"),
        ({"layers": ()}, "serves no layer"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_registering_is_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        register(**{"name": "test"} | arguments)


def test_layers_that_cannot_be_served_are_named():
    model, tokens = llama(), tokens_of(1, 20)
    model.set_attn_implementation(register("far", layers=[0, 3], **MEAN))
    with pytest.raises(ValueError, match=r"layers=\(0, 3\) must lie in \[0, 3\), the layers of"):
        model(tokens)
    function, layer = BlockSparse(**MEAN), model.model.layers[1].self_attn
    q, k = torch.zeros(1, 4, 5, 64), torch.zeros(1, 2, 5, 64)
    for given, message in (
        ({"dropout": 0.1}, "dropout=0.1 of attention weights is not served"),
        ({"is_causal": False}, "LlamaAttention of layer 1 is not causal"),
        ({"softcap": 30.0}, "LlamaAttention of layer 1 asks for softcap"),
    ):
        with pytest.raises(ValueError, match=message):
            function(layer, q, k, k, None, **given)
    window = torch.ones(5, 5, dtype=torch.bool).tril().triu(-1)[None, None]
    with pytest.raises(ValueError, match="hides more than padding and the future"):
        function(layer, q, k, k, window)

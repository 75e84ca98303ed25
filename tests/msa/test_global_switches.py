"""What a notebook has set for itself changes no number, and nothing draws from its dice.

First pictures of explorers: tests/widgets/test_every_explorer.py.
"""

import contextlib

import numpy as np
import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.smollm import SmolLM2, Tokenizer
from intuitive.msa import task
from intuitive.msa.config import MSAConfig
from intuitive.msa.conversion import convert
from intuitive.msa.experiments import block_selection, continuation
from intuitive.msa.index import TrainedIndex, shipped_index
from intuitive.msa.index_training import IndexTrainingConfig, train_indices
from intuitive.msa.recall import run
from intuitive.msa.texts import TRAINED_INDEX, UNTRAINED_INDEX, read_text, synthetic_sample


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SWITCHES = {
    "no grad": lambda: torch.set_grad_enabled(False),
    "inference mode": torch.inference_mode,
    "numpy raises": lambda: np.errstate(all="raise"),
    "float64": lambda: default_dtype(torch.float64),
}
switched = pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES)


def dice():
    """Not Python's own, which the checker of signatures throws."""
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()


def made_up():
    """Selection in the heads that stand in for the model, drawn and scored anew."""
    synthetic_sample.cache.clear()
    sample = synthetic_sample(n=120)
    params = block_selection.SelectionParams(layer=1, n_selected=2)
    found = block_selection.select_in_text(sample, params)
    return [*sample.queries, *sample.keys, torch.from_numpy(found.token_mass.copy())]


@switched
def test_made_up_heads_are_alike_and_no_global_generator_is_asked(switch):
    torch.manual_seed(1)
    before, want = dice(), made_up()
    assert dice() == before
    torch.manual_seed(2)
    with switch():
        got = made_up()
    assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))


TEXT = "It was much pleasanter at home, thought poor Alice. " * 4


def little_model():
    characters = sorted(set(TEXT.replace(" ", "Ġ")))
    config = DecoderConfig(vocab_size=len(characters), n_q_heads=9, n_kv_heads=3, d_head=64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = Decoder(config).eval()
    return SmolLM2(decoder, Tokenizer(characters, (), ()), config, end_of_text=0, end_of_turn=0)


def little_index(model):
    untrained = convert(model.decoder, MSAConfig.smollm(), None, generator=None)
    return TrainedIndex.of(untrained, {})


def test_reading_with_an_index_uses_no_global_generator():
    """The Index Branches are drawn from a seed, or not at all where trained ones replace them."""
    model = little_model()
    torch.manual_seed(1)
    before = dice()
    index = little_index(model)
    sample = read_text(TEXT, model=model, index=index)
    assert dice() == before
    torch.manual_seed(2)
    again = read_text(TEXT, model=model, index=little_index(model))
    assert again is not sample
    for name in (TRAINED_INDEX, UNTRAINED_INDEX):
        for one, other in zip(sample.index_keys[name], again.index_keys[name], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("reader", [UNTRAINED_INDEX, "main_max"])
def test_continuing_a_text_uses_no_global_generator(reader):
    model, params = little_model(), continuation.ContinueParams(reader=reader, n_new=8)
    torch.manual_seed(1)
    before = dice()
    first = continuation.continue_text(TEXT, params, model=model)
    assert dice() == before
    torch.manual_seed(2)
    assert continuation.continue_text(TEXT, params, model=little_model()) == first


@pytest.mark.model
def test_the_shipped_index_is_put_in_without_a_draw():
    from intuitive.common.smollm import load_smollm2

    model, index = load_smollm2(), shipped_index()
    before = dice()
    convert(model.decoder, index.sized(MSAConfig.smollm()), index)
    assert dice() == before


@switched
def test_a_text_is_read_and_continued_alike(switch):
    model = little_model()
    params = continuation.ContinueParams(reader="main_max", n_new=8)
    want = read_text(TEXT, model=model), continuation.continue_text(TEXT, params, model=model)
    with switch():
        other = SmolLM2(model.decoder, model.tokenizer, model.config, 0, end_of_turn=1)  # anew
        sample = read_text(TEXT, model=other)
        continued = continuation.continue_text(TEXT, params, model=other)
    assert sample is not want[0] and continued == want[1]
    for one, two in zip(sample.queries, want[0].queries, strict=True):
        assert torch.equal(one, two) and not one.is_inference()


@pytest.mark.parametrize("switch", [SWITCHES["no grad"], SWITCHES["inference mode"]])
def test_training_has_its_gradients_whatever_the_caller_has_set(switch):
    config = task.RecallConfig(
        arm="msa", n_tokens=32, n_keys=32, batch_size=2, n_heldout=2, n_steps=2, warmup_steps=1
    )
    texts = [torch.randint(20, (200,), generator=torch.Generator().manual_seed(0))]
    plan = IndexTrainingConfig(
        msa=MSAConfig(n_q_heads=9, n_kv_heads=3, d_head=64, block_size=8, n_selected=3),
        context=200,
        n_warmup=2,
        n_sparse=1,
        n_queries=64,
    )
    model = little_model()
    want = run(config, seed=0), train_indices(model.decoder, texts, plan)[0].kl
    with switch():
        got = run(config, seed=0), train_indices(model.decoder, texts, plan)[0].kl
    assert got[0].train_loss == want[0].train_loss and got[0].heldout == want[0].heldout
    assert got[1] == want[1]

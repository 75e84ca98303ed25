"""What the script that trains the SmolLM2 pair draws and measures."""

import contextlib
import dataclasses
import json

import lclm_fast_step
import lclm_needles
import lclm_smollm
import lclm_smollm_eval as measures
import lclm_texts
import numpy as np
import pytest
import torch

from intuitive.common.low_rank import low_rank_decoder
from intuitive.common.runtime import seeded
from intuitive.common.smollm import load_smollm2
from intuitive.lclm.reference import latent_count
from intuitive.lclm.smollm import ANSWER, WHERE, WINDOW, Ranks, SmolLatents
from intuitive.lclm.splice import Raw, Span

CPU = torch.device("cpu")


def stream() -> lclm_texts.Stream:
    """Files of 40 and 25 tokens, and one too short to be drawn from; ids count on."""
    files = [np.arange(0, 40), np.arange(100, 105), np.arange(200, 225)]
    return lclm_texts.Stream(files, ["a", "b", "c"], CPU)


def test_a_passage_comes_from_one_file():
    rows = stream().draw(400, 10, seeded(0))
    assert (rows.diff(dim=1) == 1).all()
    assert set(rows[:, 0].tolist()) == {*range(31), *range(200, 216)}


def test_a_passage_longer_than_every_file_is_refused():
    with pytest.raises(ValueError, match=r"no file of .* has 41 tokens"):
        stream().draw(1, 41, seeded(0))


def test_pieces_do_not_overlap():
    pieces = stream().pieces(10, 10)
    assert pieces[:, 0].tolist() == [0, 10, 20, 30, 200, 210]
    assert stream().pieces(3, 10)[:, 0].tolist() == [0, 20, 200]


def test_a_needle_pushes_the_text_back():
    text = torch.arange(8).repeat(3, 1)
    needle = torch.tensor([[91, 92, 93]] * 3)
    found = lclm_needles.insert(text, needle, torch.tensor([0, 2, 5]))
    assert found.tolist() == [
        [91, 92, 93, 0, 1, 2, 3, 4],
        [0, 1, 91, 92, 93, 2, 3, 4],
        [0, 1, 2, 3, 4, 91, 92, 93],
    ]


def test_lexical_search_counts_different_tokens():
    chunks = torch.tensor([[[1, 1, 1, 1], [1, 2, 8, 9], [7, 7, 2, 1]]])
    assert measures.most_shared(chunks, torch.tensor([[1, 1, 1, 5]])).tolist() == [0]
    assert measures.most_shared(chunks, torch.tensor([[1, 2, 2, 8]])).tolist() == [1]


def test_truncation_has_the_latents_positions():
    context = torch.arange(768)[None]
    kept = measures.truncations(768)
    for name, ratio, positions, pieces in measures.compressed_arms(context):
        assert kept[name.replace("compressed", "truncated to")] == positions
        (span, *rest) = pieces
        n = len(span.tokens[0])
        assert n + sum(len(piece.tokens[0]) for piece in rest) == 768
        taken = latent_count(n, ratio=ratio, window=WINDOW) + 2
        assert taken + sum(len(piece.tokens[0]) for piece in rest) == positions
    for name, positions, (piece,) in measures.raw_arms(context, 0):
        assert piece.tokens.shape == (1, positions)
        if name != "none":
            assert torch.equal(piece.tokens, context[:, -positions:])


@pytest.fixture(scope="module")
def batches() -> lclm_texts.Batches:
    model = load_smollm2()
    texts = lclm_texts.Texts(None, model, CPU)
    return lclm_texts.Batches(model, texts, lclm_texts.Mix(), CPU, 0, scale=4)


@pytest.mark.model
def test_passages_return_in_some_rows(batches):
    pieces = batches.interleaved(8, 4, (512, 512))
    span, raw = (piece.tokens for piece in pieces)
    assert [type(piece) for piece in pieces] == [Span, Raw]
    n = 64 // 4
    windows = [{tuple(row[i : i + n]) for i in range(len(row) - n + 1)} for row in span.tolist()]
    back = [
        any(tuple(row[i : i + n]) in known for i in range(len(row) - n + 1))
        for row, known in zip(raw.tolist(), windows, strict=True)
    ]
    assert back[:2] == [True, True]
    assert sum(back) < 6


@pytest.mark.model
def test_the_chunk_asked_for_holds_the_answer(batches):
    decode = batches.model.tokenizer.decode
    for _ in range(4):
        chunks, asked, bucket, key, value = batches.chunk_texts(3, 4, 48)
        for row in range(3):
            place, what = bucket.place[key[row]], bucket.fact[key[row]]
            said = decode(bucket.value[key[row], value[row]])
            homes = [
                i
                for i, chunk in enumerate(chunks[row])
                if f"the {place} is{said}." in decode(chunk)
            ]
            assert asked[row] in homes
            question = decode(bucket.asked[key[row]])
            assert place in question
            subject = {"code": "pass code", "name": "keeper", "colour": "door"}[what]
            assert subject in question
            assert question.startswith(ANSWER.split("{")[0])
            assert decode(bucket.question[key[row]]).endswith(WHERE.split("}")[1])


@pytest.mark.model
def test_held_out_places_are_others(batches):
    held = lclm_needles.needles(batches.model, lclm_needles.HELD_OUT_PLACES, CPU, 1)
    assert len({place for bucket in held for place in bucket.place}) > 6
    assert {fact for bucket in held for fact in bucket.fact} == {"code", "name", "colour"}
    assert not {*lclm_needles.PLACES} & {*lclm_needles.HELD_OUT_PLACES}


@pytest.mark.model
def test_kinds_of_tokens():
    model = load_smollm2()
    text = "The old clerk met Harriet in 1815. She smiled at Mr. Weston, and I left."
    ids = model.tokenizer.encode(text)
    kinds = dict(
        zip(model.tokenizer.token_strings(ids), measures.token_kinds(model, ids), strict=True)
    )
    assert kinds["The"] == kinds[" She"] == kinds[" I"] == kinds[" clerk"] == "word"
    assert kinds[" Harriet"] == "name"
    assert kinds["8"] == "number"
    assert kinds["."] == kinds[","] == "other"


def outputs(folder, seeds=(0, 1), steps=10, *, kind="pair", commit="abc"):
    for seed in seeds:
        lclm_smollm.records.save(
            folder / f"{kind}-seed{seed}.json",
            {"training": {"seed": seed, "steps": steps}, "texts": {}, "maps": [{"ratio": 4}]},
            config={"steps": steps},
            commit=commit,
            seed=seed,
        )
    (folder / "pair-seed0.safetensors").write_bytes(b"weights")


def test_seeds_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(lclm_smollm, "WEIGHTS", tmp_path / "shipped.safetensors")
    outputs(tmp_path)
    lclm_smollm.merge(tmp_path, tmp_path / "results", ship=True)
    values, made = lclm_smollm.records.load(tmp_path / "results" / "lclm_smollm.json")
    assert values["maps"] == [{"seed": 0, "ratio": 4}, {"seed": 1, "ratio": 4}]
    assert made["seed"] == [0, 1]
    assert made["commit"] == "abc"
    assert (tmp_path / "shipped.safetensors").read_bytes() == b"weights"


def test_seeds_of_different_settings_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(lclm_smollm, "WEIGHTS", tmp_path / "shipped.safetensors")
    outputs(tmp_path, seeds=(0,))
    outputs(tmp_path, seeds=(1,), steps=20)
    with pytest.raises(ValueError, match="runs differ in settings"):
        lclm_smollm.merge(tmp_path, tmp_path, ship=False)


def test_a_control_and_a_longer_training_of_a_later_commit_are_put_beside(tmp_path):
    outputs(tmp_path)
    outputs(tmp_path, seeds=(0,), kind="control", commit="def")
    outputs(tmp_path, seeds=(0,), kind="longer", commit="def")
    lclm_smollm.merge(tmp_path, tmp_path / "results", ship=False)
    values, made = lclm_smollm.records.load(tmp_path / "results" / "lclm_smollm.json")
    commits = {kind: part["commit"] for kind, part in values["parts"].items()}
    assert commits == {"pair": "abc", "control": "def", "longer": "def"}
    assert (made["commit"], made["seed"]) == ("abc", [0, 1])
    assert [run["control"] for run in values["training"]] == [True, False, False]
    assert values["longer"]["maps"] == [{"seed": 0, "ratio": 4}]
    assert len(values["maps"]) == 3, "a longer training is no further seed"


def test_a_longer_training_with_other_settings_is_not(tmp_path):
    outputs(tmp_path)
    outputs(tmp_path, seeds=(0,), steps=20, kind="longer")
    with pytest.raises(ValueError, match="runs differ in settings"):
        lclm_smollm.merge(tmp_path, tmp_path, ship=False)


def test_pairs_of_different_commits_are_not(tmp_path):
    outputs(tmp_path, seeds=(0,))
    outputs(tmp_path, seeds=(1,), commit="def")
    with pytest.raises(ValueError, match="runs differ in settings, commit"):
        lclm_smollm.merge(tmp_path, tmp_path, ship=False)


def test_a_setting_inside_a_setting():
    plan = lclm_smollm.changed(lclm_smollm.Plan(), "mix.raw", 3)
    assert plan.mix.raw == 3
    assert json.dumps(lclm_smollm.changed(plan, "lengths", [5]).lengths) == "[5]"


@pytest.mark.model
@pytest.mark.parametrize("compressed", [True, False])
def test_a_fast_step_is_the_models_own(batches, compressed):
    cut = low_rank_decoder(batches.model.decoder, n_layers=5)
    smollm = dataclasses.replace(batches.model, decoder=cut, config=cut.config)
    ranks = Ranks(encoder_attention=2, encoder_mlp=3, decoder_attention=2, decoder_mlp=1)
    model = SmolLatents(smollm, ranks, generator=seeded(0)).requires_grad_(False)
    for name, weight in model.weights().items():
        weight.requires_grad_(True)
        if name.endswith(".b") or "w_2" in name:
            weight.data.normal_(std=0.05, generator=seeded(1))
    jobs = [(batches.all_raw(2), 4), (batches.chunk_questions(2, compressed=compressed), 16)]
    if compressed:
        jobs += [(batches.interleaved(2, 8), 8), (batches.reconstruction(3, 4), 4)]
    names = ("decoder.layers.2.attention.w_q.a", "decoder.layers.4.mlp.w_down.b")
    names += ("encoder.layers.1.mlp.w_up.a", "places.8", "tags") if compressed else ()
    found = []
    for fast in (True, False):
        for weight in model.weights().values():
            weight.grad = None
        if fast:
            losses = lclm_fast_step.losses(model, jobs)
        else:
            losses = [model.loss(model.batch(pieces, ratio=ratio)) for pieces, ratio in jobs]
        sum(losses).backward()
        kept = [model.weights()[name].grad for name in names]
        found.append([*(loss.detach() for loss in losses), *kept])
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


class PretendGraph:
    """Runs again what was run while it was being recorded."""

    def __init__(self):
        self.again = None

    def replay(self):
        self.again()


def pretend_cuda(monkeypatch, spoilt=False):
    """Put stand-ins where `Recorded` asks for CUDA; a spoilt graph raises while it records."""

    class Recording:
        def __init__(self, graph, pool):
            if spoilt:
                raise RuntimeError("operation not permitted when stream is capturing")
            graph.again, self.pool = lambda: None, pool

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    cuda = lclm_fast_step.torch.cuda
    stream = type("Stream", (), {"wait_stream": lambda self, _: None})
    for name, what in {
        "Stream": stream,
        "current_stream": stream,
        "stream": lambda _: contextlib.nullcontext(),
        "graph": Recording,
        "CUDAGraph": PretendGraph,
        "graph_pool_handle": lambda: (0, 1),
        "synchronize": lambda: None,
    }.items():
        monkeypatch.setattr(cuda, name, what)


def job(*ids, trained=True):
    return [([Raw(torch.tensor([ids]), trained), Span(torch.tensor([[1, 2]]))], 4)]


@pytest.mark.parametrize("spoilt", [False, True])
def test_steps_of_one_form_are_recorded_once(monkeypatch, spoilt):
    pretend_cuda(monkeypatch, spoilt)
    weight, seen = torch.nn.Parameter(torch.ones(2)), []

    def step(jobs):
        tokens = lclm_fast_step.inputs(jobs)[0]
        seen.append(tokens.tolist())
        (weight.sum() * tokens.sum()).backward()
        return weight.detach().sum()[None]

    recorded = lclm_fast_step.Recorded(step, [weight], on=True)
    recorded(job(1, 2))
    assert seen == [[[1, 2]], [[1, 2]]]  # the step, and the recording or what came in its place
    assert weight.grad.tolist() == [3.0, 3.0]
    recorded(job(5, 6))
    assert len(seen) == 2 + spoilt  # replayed, or run again
    if not spoilt:
        (_, held, *_) = next(iter(recorded.kept.values()))
        assert held[0].tolist() == [[5, 6]]
        recorded(job(5, 6, trained=False))
        assert len(recorded.kept) == 2
    else:
        assert recorded.fault.startswith("RuntimeError: operation not permitted")


def test_a_replay_with_other_losses_is_given_up(monkeypatch):
    pretend_cuda(monkeypatch)
    weight, losses = torch.nn.Parameter(torch.ones(2)), iter([1.0, 9.0, 1.0, 1.0])

    def step(jobs):
        weight.sum().backward()
        return torch.tensor([next(losses)])

    recorded = lclm_fast_step.Recorded(step, [weight], on=True)
    assert recorded(job(1, 2)).tolist() == [1.0]
    assert recorded.fault == "a replayed step gave [9.0], not [1.0]"
    assert weight.grad.tolist() == [1.0, 1.0]
    assert not recorded.kept

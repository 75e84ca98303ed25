"""Miniatures that train side by side become what each would become alone."""

import pytest
import torch

from intuitive.lclm import fitting, miniature
from intuitive.lclm.miniature import Form, Size
from intuitive.lclm.stages import Stage
from intuitive.lclm.task import ReconstructionTask

TASK = ReconstructionTask(n_symbols=4, context=8)
SIZE = Size(d_model=16, n_layers=1, n_heads=2, d_ff=16, batch=4)
SEEDS = (0, 1)
STAGES = (
    Stage(name="first", n_steps=3, adapter=1e-2),
    Stage(name="then", n_steps=5, adapter=1e-2, encoder=1e-2, decoder=1e-2),
)


def a_reader(seed):
    form = Form(ratio=4, window=8)
    return miniature.build(form, SIZE, vocabulary=4, context=8, behind=8, seed=seed)


def draw(steps, generator):
    return TASK.draw(steps, 4, generator=generator)


def total(reader):
    return {"weight": float(sum(p.detach().abs().sum() for p in reader.parameters()))}


def test_side_by_side_is_as_alone():
    together, alone = ([a_reader(seed) for seed in SEEDS] for _ in range(2))
    curves = fitting.fit_together(together, draw, [total] * 2, STAGES, seeds=SEEDS, observe_every=2)
    for seed, reader, other, curve in zip(SEEDS, alone, together, curves, strict=True):
        want = fitting.fit(reader, draw, total, STAGES, seed=seed, observe_every=2)
        assert curve.values["weight"] == pytest.approx(want.values["weight"], rel=1e-6)
        assert curve.steps == want.steps
        for name, weight in reader.named_parameters():
            torch.testing.assert_close(dict(other.named_parameters())[name], weight)
    assert curves[0].values["weight"][-1] != curves[1].values["weight"][-1]

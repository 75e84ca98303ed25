"""The lightning indexer learns where its layer's attention lies, and nothing else learns."""

import dataclasses

import pytest
import torch
from lsa_layers import SMALL, draw_hidden, make_layer, places

from intuitive.common.training import train
from intuitive.lsa.lightning import lightning_kl, lightning_weights

CONFIG = dataclasses.replace(SMALL, n_index_heads=8, top_k=4)


def teacher_and_student(attention, hidden):
    """Head-averaged attention over entries, renormalised, and the softmax of the scores."""
    looks = []
    attention.selects, attention.watch = False, looks.append
    attention(hidden, places(*hidden.shape[:2]))
    attention.selects, attention.watch = True, None
    (look,) = looks
    teacher = look.mass / look.mass.sum(-1, keepdim=True)
    return teacher, look.scores.softmax(-1)


def test_kl_by_hand():
    attention, hidden = make_layer("csa", CONFIG), draw_hidden(2, 21, CONFIG)
    teacher, student = teacher_and_student(attention, hidden)
    rows = [
        sum(
            float(p) * float((p / q).log())
            for p, q in zip(teacher[b, t], student[b, t], strict=True)
            if p > 0
        )
        for b in range(2)
        for t in range(3, 21)  # the first chunk is closed at token 3
    ]
    got = lightning_kl(attention, hidden, places(2, 21))
    assert got.item() == pytest.approx(sum(rows) / len(rows), rel=1e-4)
    assert attention.selects
    assert attention.watch is None


def test_gradients_reach_the_indexer_alone():
    attention = make_layer("csa", CONFIG).requires_grad_()
    hidden = draw_hidden(1, 30, CONFIG).requires_grad_()
    lightning_kl(attention, hidden, places(1, 30)).backward()
    assert hidden.grad is None
    trained = {id(weight) for weight in lightning_weights(attention)}
    assert len(trained) == 6
    for name, weight in attention.named_parameters():
        assert (weight.grad is not None) == (id(weight) in trained), name


def test_a_text_without_a_closed_chunk_teaches_nothing():
    attention = make_layer("csa", CONFIG).requires_grad_()
    loss = lightning_kl(attention, draw_hidden(1, 3, CONFIG), places(1, 3))
    assert loss.item() == 0.0


def captured(attention, hidden):
    """Share of the attention on entries that the selected ones hold, once there is a choice."""
    teacher, student = teacher_and_student(attention, hidden)
    best = student.topk(CONFIG.top_k, -1).indices
    return teacher.gather(-1, best).sum(-1)[:, 32:].mean().item()


def test_training_makes_it_select_what_is_read():
    """On one text, learned by heart: random weights read nothing that another text would share."""
    attention, text = make_layer("csa", CONFIG), draw_hidden(2, 64, CONFIG, seed=10)
    before = captured(attention, text)
    weights = [weight.requires_grad_() for weight in lightning_weights(attention)]
    optimizer = torch.optim.Adam(weights, lr=1e-2)

    def gradients(step):
        loss = lightning_kl(attention, text, places(2, 64))
        loss.backward()
        return {"KL": loss.item()}

    kl = train(gradients, optimizer, n_steps=100)["KL"]
    assert sum(kl[-10:]) < 0.5 * sum(kl[:10])
    after = captured(attention.requires_grad_(False), text)
    assert after > before + 0.15


def test_only_csa_layers_select():
    with pytest.raises(ValueError, match="kind 'hca' selects nothing"):
        lightning_kl(make_layer("hca", CONFIG), draw_hidden(1, 9, CONFIG), places(1, 9))

"""Topical records: what a document holds, and what can be known of it."""

import dataclasses
import itertools

import pytest
import torch

from intuitive.common.runtime import seeded
from intuitive.lsa.task import ALL, GO, HEAD, HEADER, RECORD, TaskConfig, draw_documents

TASK = TaskConfig(n_topics=9, n_names=8, n_values=5, topics=4, records=6, sections=3, section=24)
MODES = ("topical", "dense", "local")


def draw(seed=0, count=6, **change):
    return draw_documents(dataclasses.replace(TASK, **change), count, seeded(seed))


def chunked(tokens):
    return tokens.unflatten(-1, (-1, RECORD))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("offset", [0, 8])
def test_sizes(mode, offset):
    documents = draw(mode=mode, offset=offset)
    task = documents.config
    assert documents.tokens.shape == (6, task.n_tokens)
    assert task.n_tokens == task.n_prompt + task.n_steps == 4 * 6 * 4 + 4 + 3 * 24 + offset
    for part in (documents.answers, documents.asked, documents.targets()):
        assert part.shape == (6, task.n_steps)
    assert 0 <= int(documents.tokens.min()) <= int(documents.tokens.max()) < task.vocabulary
    assert documents.topics.shape == (6, len(task.lengths()))


def test_records_have_names_of_their_topics_and_are_shuffled():
    documents = draw()
    records = chunked(documents.tokens[:, : TASK.n_prompt - HEADER])
    names = records[..., 0] - TASK.n_said
    assert bool((names >= 0).all())
    topics = names // TASK.n_names
    for row, of in zip(names, topics, strict=True):
        assert len(set(row.tolist())) == TASK.topics * TASK.records
        assert torch.unique(of, return_counts=True)[1].tolist() == [TASK.records] * TASK.topics
    for slot in range(3):
        value = records[..., 1 + slot] - TASK.value_token(slot, 0)
        assert int(value.min()) >= 0 and int(value.max()) == TASK.n_values - 1
    order = topics.float()
    follows = (order[:, 1:] == order[:, :-1]).float().mean()
    assert follows < 0.5  # neighbours are of one topic about as often as chance says, 5 / 23


@pytest.mark.parametrize("mode", ["topical", "dense"])
@pytest.mark.parametrize("offset", [0, 8])
def test_answers_stand_in_the_record_that_is_asked_for(mode, offset):
    documents = draw(mode=mode, offset=offset)
    task = documents.config
    steps = chunked(documents.tokens[:, task.n_prompt :])
    asked = chunked(documents.asked)
    assert bool((asked == asked[..., :1]).all())
    prompt = chunked(documents.tokens)
    for row in range(6):
        for query, chunk in zip(steps[row], asked[row, :, 0].tolist(), strict=True):
            if chunk < 0:
                assert query[0] == HEAD and query[3] == GO and query[1] == query[2]
            else:
                assert torch.equal(query, prompt[row, chunk])
                assert chunk * RECORD < task.n_prompt - HEADER
    supervised = chunked(documents.answers)
    assert torch.equal(supervised[..., 1], asked[..., 0] >= 0)
    assert not supervised[..., 0].any() and torch.equal(supervised[..., 1], supervised[..., 3])


def test_a_topical_section_asks_for_its_topic_once_each():
    documents = draw(offset=8)
    task = documents.config
    header = documents.tokens[:, task.n_prompt - HEADER : task.n_prompt]
    assert torch.equal(header[:, 1], task.topic_token(documents.topics[:, 0]))
    bounds = [*documents.sections, task.n_steps]
    steps = documents.tokens[:, task.n_prompt :]
    for section, (start, stop) in enumerate(itertools.pairwise(bounds)):
        names = steps[:, start : stop - HEADER : RECORD] - task.n_said
        assert bool((names // task.n_names == documents.topics[:, section, None]).all())
        for row in names:
            assert len(set(row.tolist())) == len(row)
        if section + 1 < len(documents.sections):
            said = steps[:, stop - 2]
            assert torch.equal(said, task.topic_token(documents.topics[:, section + 1]))
    for row in documents.topics:
        assert len(set(row.tolist())) == len(row)


def test_dense_sections_ask_for_all_topics_and_say_none():
    documents = draw(mode="dense", count=20)
    task = documents.config
    assert bool((documents.topics == -1).all())
    assert bool((documents.tokens[:, task.n_prompt - 3] == ALL).all())
    first = documents.tokens[:, task.n_prompt : task.n_prompt + 20 : RECORD] - task.n_said
    spread = [len(set((row // task.n_names).tolist())) for row in first]
    assert sum(spread) / len(spread) > 2


def test_local_sections_need_nothing_from_the_prompt():
    documents = draw(mode="local")
    task = documents.config
    assert bool((documents.asked == -1).all()) and bool(documents.answers.any())
    prompt = set(documents.tokens[:, : task.n_prompt - HEADER : RECORD].flatten().tolist())
    steps = documents.tokens[:, task.n_prompt :]
    names = steps[steps >= task.n_said]
    per_row = [
        set(row[row >= task.n_said].tolist()) & set(whole[: task.n_prompt].tolist())
        for row, whole in zip(steps, documents.tokens, strict=True)
    ]
    assert names.numel() and not any(per_row) and prompt
    for row in range(6):
        for at in documents.answers[row].nonzero().flatten().tolist():
            back = steps[row, at - 12 : at - 12 + 1]
            assert torch.equal(back, steps[row, at : at + 1])  # stated three records before


def test_targets_are_answers_and_topics():
    documents = draw()
    task = documents.config
    targets, steps = documents.targets(), documents.tokens[:, task.n_prompt :]
    assert torch.equal(targets[documents.answers], steps[documents.answers])
    names = steps >= task.n_said
    topic = task.topic_token((steps - task.n_said) // task.n_names)
    assert torch.equal(targets[names], topic[names])
    assert bool((targets[~names & ~documents.answers] == -1).all())
    assert int(targets.max()) < task.n_said
    dense = draw(mode="dense")
    said = dense.targets()[dense.tokens[:, task.n_prompt :] >= task.n_said]
    assert bool((said == ALL).all())


def test_documents_hang_on_the_seed_alone():
    one, same, other = draw(seed=3), draw(seed=3), draw(seed=4)
    assert torch.equal(one.tokens, same.tokens) and not torch.equal(one.tokens, other.tokens)


def test_a_long_section_begins_its_records_again():
    documents = draw(section=48)
    names = documents.tokens[0, TASK.n_prompt : TASK.n_prompt + 44 : RECORD].tolist()
    assert names[:5] == names[6:11] and len(set(names)) == TASK.records


def test_words():
    documents = draw()
    words = TASK.words(documents.tokens[0])
    assert len(words) == TASK.n_tokens
    header = "".join(words[TASK.n_prompt - HEADER : TASK.n_prompt]).split()
    assert header[0] == "On" and header[3] == ":" and header[1] == header[2]
    everything = TASK.words(torch.arange(TASK.vocabulary))
    assert len(set(everything)) == TASK.vocabulary


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"section": 6}, "section=6"),
        ({"section": 26}, "multiples of 4"),
        ({"offset": 3}, "multiples of 4"),
        ({"topics": 10}, "topics=10 is too much"),
        ({"topics": 9, "mode": "local"}, "a local section has a topic"),
        ({"records": 9}, "records=9 exceeds"),
        ({"n_values": 0}, "n_values=0"),
    ],
)
def test_documents_that_cannot_be(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(TASK, **change)

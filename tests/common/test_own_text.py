"""The reader's document: read in the usual encodings, cut where a word ends, refused in words."""

import pytest

from intuitive.common import own_text as own
from intuitive.common import smollm

SENTENCE = "Ça commence ici, naïvement. "


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "windows-1252"])
def test_encodings_that_readers_have(tmp_path, encoding):
    (tmp_path / "letter.txt").write_bytes(SENTENCE.replace(". ", ".\r\n").encode(encoding))
    assert own.read(tmp_path / "letter.txt") == own.OwnText("letter.txt", SENTENCE.strip())


def test_a_long_file_is_read_at_its_beginning_alone(tmp_path):
    (tmp_path / "long.txt").write_text("é" * own.MOST_BYTES + "!")
    found = own.read(tmp_path / "long.txt")
    assert found.text == "é" * (own.MOST_BYTES // 2)
    assert found.told == "The first 200,000 bytes are read."
    (tmp_path / "odd.txt").write_text("a" + "é" * own.MOST_BYTES)  # cut within a character
    assert own.read(tmp_path / "odd.txt").text == "a" + "é" * (own.MOST_BYTES // 2 - 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"PK\0\3", "NUL bytes"), (b" \n", "is empty"), (None, "cannot be read .No such file")],
)
def test_what_is_no_text_is_refused_with_its_path(tmp_path, content, told):
    if content is not None:
        (tmp_path / "mine").write_bytes(content)
    with pytest.raises(ValueError, match=rf"mine.*{told}.*: name a"):
        own.read(tmp_path / "mine")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        own.read(tmp_path)


def test_nothing_is_named_or_nothing_is_taken(monkeypatch, tmp_path):
    monkeypatch.delenv(own.TEXT_VARIABLE, raising=False)
    assert own.own_text(512) is None
    monkeypatch.setenv(own.TEXT_VARIABLE, str(tmp_path / "gone"))
    assert own.own_text(0) is None
    with pytest.raises(ValueError, match="cannot be read"):
        own.own_text(512)


@pytest.mark.model
def test_only_as_many_tokens_as_an_explorer_reads(monkeypatch, tmp_path):
    (tmp_path / "letter.txt").write_text(SENTENCE * 40)
    monkeypatch.setenv(own.TEXT_VARIABLE, str(tmp_path / "letter.txt"))
    found = own.own_text(64)
    count = len(smollm.load_smollm2().tokenizer.encode(found.text))
    assert 50 < count <= 64
    assert (SENTENCE * 40).startswith(found.text)
    assert found.text.endswith(tuple(SENTENCE.split()))
    assert found.told == "Its first 64 tokens are read here."
    assert own.own_text(4096) == own.OwnText("letter.txt", (SENTENCE * 40).strip())


def test_without_the_model_it_is_whole(monkeypatch, tmp_path):
    def missing():
        raise smollm.ModelMissing("not here")

    (tmp_path / "letter.txt").write_text(SENTENCE * 40)
    monkeypatch.setenv(own.TEXT_VARIABLE, str(tmp_path / "letter.txt"))
    monkeypatch.setattr(smollm, "load_smollm2", missing)
    assert own.own_text(8).text == (SENTENCE * 40).strip()

"""The script that gathers the pair's texts: markup goes, repeats and held-out passages too."""

import struct
import zlib

import lclm_corpus
import lclm_markup
import pytest


def test_a_page_becomes_paragraphs():
    html = b"""<html><head><title>T</title></head><body><script>x()</script><!-- no -->
    <h1>One &amp;
    two</h1><p>A <b>bold</b>
    word.</p><pre>if x &lt; 1:
    stop</pre><ul><li>last</li></ul></body>"""
    want = "One & two\n\nA bold word.\n\nif x < 1:\n    stop\n\nlast"
    assert lclm_markup.page(html) == want


def test_broken_lines_are_joined_and_code_stays():
    text = "A line\nthat breaks.\n\n    code\n    more\n\nNext\nparagraph."
    assert lclm_markup.unwrapped(text) == (
        "A line that breaks.\n\n    code\n    more\n\nNext paragraph."
    )


def test_what_games_say():
    cfg = b'[message]\n message= _ "He said, ""Go!"", and we went at once into the dark."\n'
    said = 'He said, "Go!", and we went at once into the dark.'
    assert lclm_markup.wesnoth(cfg) == said
    assert lclm_markup.ticks(b"\t`A long enough sentence here.`\n\t\t`short`") == (
        "A long enough sentence here."
    )


def test_a_manual_page_loses_its_requests():
    page = zlib.compress(b".TH LS 1\n.SH NAME\n\\fBls\\fR \\- list\nfiles\n.PP\nMore.\n", wbits=31)
    assert lclm_markup.roff(page).split() == ["ls", "-", "list", "files", "More."]
    assert lclm_markup.roff(b"no gzip") == ""


def test_a_sword_module_is_read_block_by_block(tmp_path):
    blocks = [zlib.compress(text) for text in (b"<title>One</title> two", b"three<note>x</note>")]
    at, index = 0, b""
    for block in blocks:
        index += struct.pack("<III", at, len(block), 0)
        at += len(block)
    (tmp_path / "ot.bzz").write_bytes(b"".join(blocks))
    (tmp_path / "ot.bzs").write_bytes(index)
    assert lclm_markup.sword(tmp_path / "ot.bzs") == "One\n\ntwo three"


def test_texts_of_an_r_data_set(tmp_path):
    def string(text: bytes) -> bytes:
        return b"\x00\x04\x00\x09" + struct.pack(">i", len(text)) + text

    value = b"X\n" + string(b"A line") + string(b"of prose.") + string(b"") + string(b"Next.")
    packed = zlib.compress(value)
    other = zlib.compress(string(b"Another object"))
    database = b"".join(struct.pack(">i", 0) + part for part in (packed, other))
    (tmp_path / "Rdata.rdb").write_bytes(database)
    texts = lclm_markup.r_strings(tmp_path / "Rdata.rdb")
    assert texts == ["A line of prose.\n\nNext.", "Another object"]


def test_the_sieve_lets_nothing_through_twice():
    sieve = lclm_corpus.Sieve([])
    long = "A paragraph that is long enough to be remembered by the sieve, word for word."
    assert sieve(f"{long}\n\nshort\n\n{long}\n\nshort") == f"{long}\n\nshort\n\nshort"
    assert sieve(long.upper()) == ""
    assert sieve.dropped == {"again": 2, "held out": 0}


def test_the_sieve_knows_held_out_passages():
    held = "one two three four five six seven eight nine"
    sieve = lclm_corpus.Sieve([held])
    taken = "He counted: one, two, three, four, five, six, seven, EIGHT and then he stopped."
    kept = "He counted: one, two, three, four, five, six, seven and then, tired, he stopped."
    assert sieve(f"{taken}\n\n{kept}") == kept
    assert sieve.dropped["held out"] == 1


def test_a_missing_package_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get download some-doc"):
        lclm_corpus.unpacked(tmp_path, "some-doc", tmp_path)


class Letters:
    """A token for each letter."""

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]


def test_validation_is_the_end_and_never_trained():
    gathered = lclm_corpus.Corpus(Letters(), end=0)
    text = "".join(chr(300 + i % 5000) for i in range(200_000))
    gathered.add("prose", "book", [text], limit=10**9)
    train, validation = gathered.parts
    assert (train.split, validation.split) == ("train", "validation")
    assert train.files[0] + validation.files[0] == Letters().encode(text)
    assert len(validation.files[0]) == int(lclm_corpus.VALIDATION * len(text))

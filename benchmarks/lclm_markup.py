"""Text out of what Debian's packages hold: pages, manuals, games' stories, data sets of R."""

import html
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

_SKIPPED = re.compile(
    r"<(script|style|head|nav|footer|svg)\b.*?</\1\s*>|<!--.*?-->", re.S | re.IGNORECASE
)
_PRE = re.compile(r"<pre\b[^>]*>(.*?)</pre\s*>", re.S | re.IGNORECASE)
_BLOCK = re.compile(
    r"</?(p|div|li|ul|ol|dl|dt|dd|h[1-6]|tr|table|section|blockquote|br|hr|title|body|pre|note)\b"
    r"[^>]*>",
    re.IGNORECASE,
)
_TAG = re.compile(r"<[^>]*>")
_MARK = "\ue000"


def page(data: bytes) -> str:
    """Text of an HTML or XML page: paragraphs on a line each, code as it was."""
    text = data.decode("utf-8", errors="replace")
    text = _SKIPPED.sub(" ", text)
    kept: list[str] = []

    def keep(match: re.Match) -> str:
        kept.append(html.unescape(_TAG.sub("", match[1])).strip("\n"))
        return f"\n\n{_MARK}{len(kept) - 1}{_MARK}\n\n"

    text = _PRE.sub(keep, text)
    text = re.sub(r"\s+", " ", text)
    text = _BLOCK.sub("\n\n", text)
    text = html.unescape(_TAG.sub("", text))
    lines = (re.sub(r"[ \u00a0]+", " ", line).strip(" ¶") for line in text.split("\n"))
    text = "\n\n".join(line for line in lines if line)
    return re.sub(f"{_MARK}(\\d+){_MARK}", lambda match: kept[int(match[1])], text)


def unwrapped(text: str) -> str:
    """Paragraphs that were broken into lines, on one line each; indented ones stay."""
    paragraphs = re.split(r"\n[ \t]*\n", text.replace("\r", ""))
    joined = (
        p if re.match(r"[ \t]{4}", p) else " ".join(line.strip() for line in p.split("\n"))
        for p in paragraphs
    )
    return "\n\n".join(joined)


def plain(data: bytes) -> str:
    """Text as it is."""
    return data.decode("utf-8", errors="replace")


def gzipped(data: bytes) -> str:
    """A compressed text, its paragraphs unwrapped."""
    text = zlib.decompress(data, 31).decode("utf-8", errors="replace")
    return unwrapped(re.sub(r"(?m)^ {1,3}(?=\S)", "", text))


def cookies(data: bytes) -> str:
    """Fortune cookies, one after the other; empty for anything else."""
    if b"\n%\n" not in data:
        return ""
    return plain(data).replace("\n%\n", "\n\n").replace("\t", "    ")


def ticks(data: bytes) -> str:
    """What stands between backticks, as games of Endless Sky tell their stories."""
    return "\n\n".join(re.findall(r"`([^`]{20,})`", plain(data)))


def lua(data: bytes) -> str:
    """The long translatable strings of a Lua script."""
    text = plain(data)
    found = re.findall(r"_\(\s*(?:\[\[(.*?)\]\]|\"((?:[^\"\\]|\\.){40,})\")\s*\)", text, re.S)
    strings = (unwrapped(a or b.replace('\\"', '"').replace("\\n", "\n")) for a, b in found)
    return "\n\n".join(string.strip() for string in strings if len(string) > 40)


def wesnoth(data: bytes) -> str:
    """The translatable strings of a Wesnoth scenario."""
    found = re.findall(r"_ *\"((?:[^\"]|\"\"){40,})\"", plain(data))
    return "\n\n".join(unwrapped(string.replace('""', '"')) for string in found)


def pod(data: bytes) -> str:
    """Perl's documentation, its formatting codes taken off."""
    text = plain(data)
    for _ in range(3):
        text = re.sub(r"[BCEFILSXZ]<(?:<+ )?([^<>]*)(?: >+)?>", r"\1", text)
    text = re.sub(r"(?m)^=(?:head\d|item|over|back|for|begin|end|cut|encoding)\b ?(\d*)", "", text)
    return unwrapped(text)


def roff(data: bytes) -> str:
    """A manual page without its requests; empty where the file is another kind of archive."""
    try:
        text = zlib.decompress(data, 31).decode("utf-8", errors="replace")
    except zlib.error:
        return ""
    if ".SH" not in text:
        return ""
    text = re.sub(r"(?m)^(?:'|\.)\\\".*$", "", text)
    text = re.sub(r"(?m)^\.(?:PP|P|TP|LP|IP|SH|SS|RS|RE|EX|EE|nf|fi).*$", "\n", text)
    text = re.sub(r"(?m)^\.(?:BR|B|IR|I|RB|RI|BI|IB|SM)\s+", "", text)
    text = re.sub(r"(?m)^\..*$", "", text)
    text = re.sub(r"\\f[BIRP]|\\[&/,%:]|\\c", "", text)
    text = text.replace("\\-", "-").replace("\\e", "\\").replace("\\(aq", "'").replace("\\ ", " ")
    return unwrapped(re.sub(r"\\\[?\(?(?:lq|rq|dq|bu|em|en|co)\]?", '"', text))


def mallard(data: bytes) -> str:
    """A help page of GNOME."""
    text = re.sub(r"<info>.*?</info>", "", plain(data), flags=re.S)
    text = re.sub(r"</?(steps|item|list|terms|media|figure|desc)\b[^>]*>", "\n<p>", text)
    return page(text.encode())


READERS: dict[str, Callable[[bytes], str]] = {
    f.__name__: f for f in (page, plain, gzipped, cookies, ticks, lua, wesnoth, pod, roff, mallard)
}


def sword(index: Path) -> str:
    """All text of a compressed SWORD module, given its index of blocks (.bzs or .czs)."""
    entries = struct.iter_unpack("<III", index.read_bytes())
    data = index.with_suffix(index.suffix[:-1] + "z").read_bytes()
    blocks = (zlib.decompress(data[at : at + size]) for at, size, _ in entries if size)
    text = b"\n".join(blocks).decode("utf-8", errors="replace")
    text = re.sub(r"<note\b.*?</note>", "", text, flags=re.S)
    text = re.sub(r"<(title|div|lg|l|lb|verse|chapter|item)\b", r"<p/><\1", text)
    return page(re.sub(r"<p/>", "<p>", text).encode())


def r_strings(database: Path) -> list[str]:
    """The long texts of an R data set: of each object all its strings, line by line."""
    data, at, texts = database.read_bytes(), 0, []
    while at < len(data):
        reader = zlib.decompressobj()
        value = reader.decompress(data[at + 4 :])
        at = len(data) - len(reader.unused_data)
        lines = []
        for match in re.finditer(rb"\x00[\x00-\x04][\x00\x20\x40\x80]\x09", value):
            (size,) = struct.unpack_from(">i", value, match.end())
            if 0 <= size <= len(value):
                lines.append(value[match.end() + 4 : match.end() + 4 + size])
        text = b"\n".join(lines).decode("utf-8", errors="replace")
        texts.append(unwrapped(text))
    return texts

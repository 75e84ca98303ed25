"""The texts on which SmolLM2's encoder is trained: Debian's packages, the corpus and Python itself.

    apt-get download NAME ...                     the packages of SOURCES and HELD_OUT, into DEBS
    python benchmarks/lclm_corpus.py --debs DEBS --out FOLDER

Prose (six novels, commentaries, essays, stories told by games), documentation and code are
stripped of markup; paragraphs that came before are dropped, and so is every paragraph that shares
eight words in a row with a held-out text. FOLDER receives `tokens.bin.xz`, the token ids of
SmolLM2 as little-endian uint16, and `manifest.json`: the packages with their versions, and where
each part begins. A part has a kind ("prose", "docs" or "code") and a split: "train", "validation"
(the end of each source, to choose settings by) or "heldout" (files, and whole packages, that
nothing is trained on or chosen by).
"""

import argparse
import hashlib
import itertools
import json
import lzma
import pydoc_data.topics
import re
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lclm_markup import READERS, r_strings, sword

from intuitive.common import corpus
from intuitive.common.returning import FOREIGN
from intuitive.common.smollm import Tokenizer, load_smollm2

# ----------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class Source:
    """Files of one Debian package."""

    package: str
    kind: str  # "prose" or "docs"
    reader: str  # a name in `lclm_markup`
    pattern: str = "*"  # of paths inside the package
    limit: int = 1_500_000  # tokens, of files spread evenly over the package
    not_pattern: str = ""  # a regular expression


_NO_INDEX = r"genindex|py-modindex|whatsnew/changelog|changelog|copyright|/index-|bookindex"
_WESNOTH = [
    "did",
    "dm",
    "dw",
    "ei",
    "httt",
    "l",
    "low",
    "nr",
    "sof",
    "sota",
    "sotbe",
    "thot",
    "trow",
    "tsg",
    "ttb",
    "utbs",
]

SOURCES = (
    Source("sword-comm-tdavid", "prose", "sword", "*.czs", limit=4_500_000),
    Source("sword-comm-mhcc", "prose", "sword", "*.bzs", limit=1_500_000),
    Source("sword-comm-scofield", "prose", "sword", "*.bzs"),
    Source("sword-text-web", "prose", "sword", "*.bzs", limit=900_000),
    Source("anarchism", "prose", "page", "*.html", limit=3_000_000),
    Source("r-cran-tokenizers", "prose", "r_strings", "*/data/Rdata.rdb"),
    Source("jargon-text", "prose", "gzipped", "*/jargon.txt.gz"),
    Source("dict-devil", "prose", "gzipped", "*.dict.dz"),
    Source("fortunes", "prose", "cookies", "usr/share/games/fortunes/*"),
    Source("endless-sky-data", "prose", "ticks", "*/data/*.txt", limit=2_000_000),
    Source("naev-data", "prose", "lua", "*.lua", limit=1_000_000),
    Source("wesnoth-1.16-data", "prose", "wesnoth", "*.cfg", limit=800_000),
    *(Source(f"wesnoth-1.16-{name}", "prose", "wesnoth", "*.cfg") for name in _WESNOTH),
    Source("debian-handbook", "docs", "page", "*en-US*/*.html"),
    Source("debian-reference-en", "docs", "page", "*.en.html"),
    Source("debian-policy", "docs", "page", "*/policy.html/*.html", not_pattern=_NO_INDEX),
    Source("harden-doc", "docs", "page", "*/html/en-US/*.html"),
    Source("git-doc", "docs", "plain", "*.txt"),
    Source("perl-doc", "docs", "pod", "*.pod", limit=1_500_000),
    Source("postgresql-doc-15", "docs", "page", "*.html", not_pattern=_NO_INDEX, limit=1_300_000),
    Source("python3.11-doc", "docs", "plain", "*/_sources/*.txt", limit=1_500_000),
    Source("python-django-doc", "docs", "page", "*.html", not_pattern=_NO_INDEX),
    Source("python-sqlalchemy-doc", "docs", "page", "*.html", not_pattern=_NO_INDEX, limit=600_000),
    Source("python-flask-doc", "docs", "page", "*.html", not_pattern=_NO_INDEX),
    Source("python-scipy-doc", "docs", "page", "*/tutorial/*.html"),
    Source("rust-doc", "docs", "page", "*/html/book/*.html"),
    Source("rust-doc", "docs", "page", "*/html/[nrecu]*/*.html", 900_000, r"/(core|std|src|book)/"),
    Source("racket-doc", "docs", "page", "*/guide/*.html"),
    Source("guile-3.0-doc", "docs", "page", "*.html", limit=500_000),
    Source("linux-doc-6.1", "docs", "page", "*.html", not_pattern=_NO_INDEX, limit=2_000_000),
    Source("sqlite3-doc", "docs", "page", "*.html", limit=1_000_000),
    Source("vim-runtime", "docs", "plain", "*/doc/*.txt", limit=800_000),
    Source("zsh-doc", "docs", "page", "*.html", limit=300_000),
    Source("lilypond-doc-html", "docs", "page", "*/learning/*.html"),
    Source("gimp-help-en", "docs", "page", "*/en/*.html", limit=600_000),
    Source("gnome-user-docs", "docs", "mallard", "*/C/*.page"),
    Source("libreoffice-help-en-us", "docs", "page", "*/guide/*.html", limit=300_000),
    Source("installation-guide-amd64", "docs", "page", "*/en/*.html"),
    Source("freedombox-doc-en", "docs", "page", "*/en/*.html", limit=300_000),
    Source("exim4-doc-html", "docs", "page", "*.html", limit=500_000),
    Source("postfix-doc", "docs", "page", "*.html", limit=500_000),
    Source("manpages-dev", "docs", "roff", "*.gz", limit=600_000),
    Source("maxima-doc", "docs", "page", "*/html/*.html", limit=300_000),
    Source("octave-doc", "docs", "page", "*.html", limit=300_000),
    Source("nodejs-doc", "docs", "page", "*/api/*.html", limit=400_000),
    Source("fp-docs-3.2.2", "docs", "page", "*/ref/*.html", limit=300_000),
    Source("ghc-doc", "docs", "page", "*/users_guide/*.html", limit=500_000),
)
HELD_OUT = (
    Source("developers-reference", "docs", "page", "*/developers-reference/*.html"),
    Source("maint-guide", "docs", "page", "*.en.html"),
    Source("debian-faq", "docs", "page", "*.en.html"),
    Source("debian-kernel-handbook", "docs", "page", "*.html"),
)
NOVELS = "r-cran-janeaustenr"  # six of them, of which one is held out
NOVEL_HELD_OUT = "Persuasion"
CODE_LIMIT = 3_000_000  # tokens of the standard library
RUN = 8  # words in a row that a training paragraph may not share with a held-out text
VALIDATION = 0.015  # of each source's end
GLUED = 4096  # tokens below which a file is put together with the next

# ----------------------------------------------------------------------------- putting together


def unpacked(debs: Path, package: str, folder: Path) -> tuple[Path, str]:
    """A package's files, and its version.

    Raises:
        FileNotFoundError: it was not downloaded.
    """
    found = sorted(debs.glob(f"{package}_*.deb"))
    if not found:
        raise FileNotFoundError(f"{debs} has no {package}: run `apt-get download {package}` there.")
    target = folder / package
    if not target.exists():
        target.mkdir(parents=True)
        keep = [
            "--wildcards",
            *(f"--exclude=*.{end}" for end in ("png", "ogg", "jpg", "svg", "pdf")),
        ]
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", found[-1]], stdout=subprocess.PIPE
        ) as tar:
            subprocess.run(["tar", "-x", "-C", target, *keep], stdin=tar.stdout, check=True)
    return target, found[-1].name.split("_")[1].replace("%3a", ":")


def words(text: str) -> list[str]:
    """Words in small letters, for comparing texts."""
    return re.findall(r"[a-z0-9]+", text.lower())


def runs(text: str) -> Iterator[int]:
    """A number for each run of `RUN` words."""
    found = words(text)
    for i in range(len(found) - RUN + 1):
        yield hash(tuple(found[i : i + RUN]))


class Sieve:
    """Lets a paragraph through once, and none that shares a run of words with held-out texts."""

    def __init__(self, held_out: Iterable[str]) -> None:
        self.forbidden = {run for text in held_out for run in runs(text)}
        self.seen: set[bytes] = set()
        self.dropped = {"again": 0, "held out": 0}

    def __call__(self, text: str) -> str:
        kept = []
        for paragraph in re.split(r"\n[ \t]*\n", text):
            stripped = paragraph.strip()
            if len(stripped) > 60:
                key = hashlib.blake2b(" ".join(words(stripped)).encode(), digest_size=8).digest()
                if key in self.seen:
                    self.dropped["again"] += 1
                    continue
                self.seen.add(key)
                if not self.forbidden.isdisjoint(runs(stripped)):
                    self.dropped["held out"] += 1
                    continue
            if stripped:
                kept.append(paragraph.strip("\n"))
        return "\n\n".join(kept)


def texts_of(source: Source, debs: Path, folder: Path) -> Iterator[str]:
    """The texts of a source, file by file in the order of their names."""
    root, _ = unpacked(debs, source.package, folder)
    skip = re.compile(source.not_pattern) if source.not_pattern else None
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
        name = path.relative_to(root).as_posix()
        if not path.match(source.pattern) and not _matches(name, source.pattern):
            continue
        if skip and skip.search(name):
            continue
        if source.reader == "sword":
            yield sword(path)
        elif source.reader == "r_strings":
            yield from (text for text in r_strings(path) if len(text) > 100_000)
        else:
            yield READERS[source.reader](path.read_bytes())


def _matches(name: str, pattern: str) -> bool:
    from fnmatch import fnmatch

    return fnmatch(name, pattern)


@dataclass
class Part:
    """Token ids of one kind and split, file after file."""

    kind: str
    split: str
    source: str
    files: list[list[int]]


class Corpus:
    """Collects parts: tokenises, separates validation, counts."""

    def __init__(self, tokenizer: Tokenizer, end: int) -> None:
        self.tokenizer, self.end = tokenizer, end
        self.parts: list[Part] = []

    def add(self, kind: str, source: str, texts: Iterable[str], limit: int) -> None:
        """Add training texts; their last share becomes validation."""
        texts = [text for text in texts if len(text) > 400]
        total = sum(map(len, texts)) / 3.6  # characters per token, about
        step = max(1.0, total / limit)
        chosen = (
            [texts[int(i * step)] for i in range(int(len(texts) / step))] if step > 1 else texts
        )
        if len(texts) <= 2 and step > 1:
            chosen = [text[: int(len(text) / step)] for text in texts]
        files = self._glued([self.tokenizer.encode(text) for text in chosen])
        tokens = sum(map(len, files))
        train, validation, kept = [], [], int(VALIDATION * tokens)
        for file in reversed(files):
            take = min(kept, len(file))
            if take >= 1100:
                validation.append(file[len(file) - take :])
                file, kept = file[: len(file) - take], kept - take
            if len(file) >= 600:
                train.append(file)
        for split, found in (("train", train[::-1]), ("validation", validation[::-1])):
            if found:
                self.parts.append(Part(kind, split, source, found))
        print(f"{source:28} {kind:6} {tokens:10,} tokens in {len(files)} files", flush=True)

    def held_out(self, kind: str, source: str, texts: Iterable[str]) -> None:
        files = self._glued([self.tokenizer.encode(text) for text in texts if len(text) > 400])
        self.parts.append(Part(kind, "heldout", source, files))
        print(f"{source:28} {kind:6} {sum(map(len, files)):10,} tokens held out", flush=True)

    def _glued(self, files: list[list[int]]) -> list[list[int]]:
        glued: list[list[int]] = []
        for file in files:
            if glued and len(glued[-1]) < GLUED:
                glued[-1] += [self.end, *file]
            elif file:
                glued.append(list(file))
        return glued

    def save(self, folder: Path, about: dict) -> None:
        """Write tokens and manifest: validation and held-out parts whole, in order."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays, entries, at = [], [], 0
        for part in self.parts:
            lengths = [len(file) for file in part.files]
            entries.append(
                {
                    "kind": part.kind,
                    "split": part.split,
                    "source": part.source,
                    "start": at,
                    "files": lengths,
                }
            )
            arrays += [np.array(file, dtype="<u2") for file in part.files]
            at += sum(lengths)
        data = np.concatenate(arrays).tobytes()
        packed = lzma.compress(data, preset=6)
        (folder / "tokens.bin.xz").write_bytes(packed)
        manifest = {
            **about,
            "tokens": at,
            "sha256": hashlib.sha256(data).hexdigest(),
            "parts": entries,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=0))
        print(f"{at:,} tokens, {len(packed) / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--debs", type=Path, required=True, help="where the packages lie")
    parser.add_argument("--out", type=Path, required=True, help="where the tokens go")
    parser.add_argument("--unpacked", type=Path, help="a folder to unpack into and keep")
    args = parser.parse_args()
    model = load_smollm2()
    gathered = Corpus(model.tokenizer, model.end_of_text)
    scratch = tempfile.TemporaryDirectory()
    folder = args.unpacked or Path(scratch.name)

    novels = r_strings(next(unpacked(args.debs, NOVELS, folder)[0].rglob("Rdata.rdb")))
    novels = [text for text in novels if len(text) > 100_000]
    held_novel = [text for text in novels if text.lstrip().startswith(NOVEL_HELD_OUT)]
    held_docs = {source: list(texts_of(source, args.debs, folder)) for source in HELD_OUT}
    documents = [d for d in corpus.load() if d.name not in FOREIGN]
    held = [d for d in documents if d.split == "heldout"]
    manuals = itertools.chain.from_iterable(held_docs.values())
    sieve = Sieve([*(d.text for d in held), *held_novel, *manuals])

    for document in held:
        gathered.held_out(document.kind, document.name, [document.text])
    gathered.held_out("prose", "persuasion", held_novel)
    alone = Sieve([])
    for source, texts in held_docs.items():
        gathered.held_out(source.kind, source.package, map(alone, texts))
    for kind in ("prose", "code"):
        ours = [sieve(d.text) for d in documents if d.split == "train" and d.kind == kind]
        gathered.add(kind, f"corpus-{kind}", ours, 10**9)
    rest = [text for text in novels if text not in held_novel]
    gathered.add("prose", NOVELS, map(sieve, rest), 10**9)
    topics = pydoc_data.topics.topics
    gathered.add("docs", "pydoc-topics", [sieve(topics[name]) for name in sorted(topics)], 10**9)
    names = {d.name.removeprefix("python-").removesuffix(".py.txt") for d in held}
    library = Path(sysconfig.get_path("stdlib"))
    skipped = (
        "site-packages",
        "test",
        "idlelib",
        "lib2to3",
        "encodings",
        "pydoc_data",
        "__pycache__",
    )
    code = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(library.rglob("*.py"))
        if not set(path.parts) & set(skipped)
        and not any(name in path.stem.split("-") for name in names)
    ]
    gathered.add("code", "python-library", map(sieve, code), CODE_LIMIT)
    versions = {}
    for source in SOURCES:
        _, versions[source.package] = unpacked(args.debs, source.package, folder)
        texts = map(sieve, texts_of(source, args.debs, folder))
        gathered.add(source.kind, source.package, texts, source.limit)
    for package in (NOVELS, *(source.package for source in HELD_OUT)):
        _, versions[package] = unpacked(args.debs, package, folder)
    gathered.save(args.out, {"packages": versions, "dropped": sieve.dropped})
    scratch.cleanup()


if __name__ == "__main__":
    main()

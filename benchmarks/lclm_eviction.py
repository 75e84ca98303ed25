"""Evicting SmolLM2's cache: time to first token, and what the small cache is worth.

    python benchmarks/lclm_eviction.py --device cuda
    python benchmarks/lclm_eviction.py --small        # the plumbing, on a CPU, in a minute

Times: prompts of 1K to 8K tokens, in bfloat16 on a GPU; until the first token's logits are there,
and until decoding can go on from the small cache. The longest needs positions beyond those that
the model was trained for, while KVzip repeats it: for times that does not matter.

Quality: perplexity of the tokens that follow a prompt, read from caches of equal size, in float32.
Held-out prose and code, in pieces that do not overlap; and texts in which a passage of the prompt
is what follows, where its first 16 tokens are not scored. Losses of the first pieces are kept, so
that a CPU can compare.
"""

import argparse
import dataclasses
import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import helpers
import torch
from torch import Tensor

from intuitive.common import corpus, records
from intuitive.common.decoder import Decoder
from intuitive.common.eviction import METHODS, KVzip, Method, continuation_losses, evict
from intuitive.common.returning import FOREIGN, ReturningConfig, returning_texts
from intuitive.common.runtime import device_name
from intuitive.common.smollm import SmolLM2, load_smollm2

RESULT = helpers.RESULTS / "lclm_eviction_h200.json"
REQUEST = "\n\nRepeat the previous context exactly:\n\n"
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured; lengths in tokens."""

    lengths: tuple[int, ...] = (1024, 2048, 4096, 8192)
    time_share: int = 8  # of the prompt is kept where times are measured: one in so many
    repeats: int = 5
    contexts: tuple[int, ...] = (1024, 4096)
    shares: tuple[int, ...] = (4, 8, 16)  # one entry in so many is kept
    follows: int = 256  # tokens that follow, prose and code
    passage: int = 128  # tokens that return
    noticed: int = 16  # of them are not scored
    least_gap: int = 512  # between a passage's end and its return
    pieces: int = 32  # of each kind of text, at the most
    batch_tokens: int = 8192  # read at once
    seed: int = 0

    @classmethod
    def small(cls) -> "Plan":
        """A minute on a CPU."""
        return cls(
            lengths=(128,),
            repeats=1,
            contexts=(256,),
            shares=(8,),
            follows=64,
            passage=64,
            least_gap=64,
            pieces=2,
            batch_tokens=512,
        )


def methods(model: SmolLM2) -> dict[str, Method]:
    """Every method with its usual settings, KVzip with words that ask for a repetition."""
    request = tuple(model.tokenizer.encode(REQUEST))
    usual = {name: kind() for name, kind in METHODS.items()}
    return usual | {"kvzip": KVzip(request=request)}


def texts(model: SmolLM2, plan: Plan, context: int) -> dict[str, Tensor]:
    """Prompts and what follows them, by kind of text: [pieces, context + what follows]."""
    encode, n = model.tokenizer.encode, context + plan.follows
    found = {}
    for kind in ("prose", "code"):
        pieces = []
        for document in corpus.load("heldout", kind):
            if document.name not in FOREIGN:
                ids = encode(document.text)
                pieces += [ids[i : i + n] for i in range(0, len(ids) - n + 1, n)]
        found[kind] = torch.tensor(pieces[: plan.pieces])
    returning = returning_texts(
        encode,
        lambda ids: [model.tokenizer.decode([i]) for i in ids],
        ReturningConfig(
            n=context + plan.passage,
            first=context,
            passage=(plan.passage, plan.passage),
            least_gap=plan.least_gap,
        ),
        split="heldout",
        count=len(found["prose"]),
        seed=plan.seed,
    )
    found["returning"] = torch.stack([text.tokens for text in returning])
    return found


def losses(
    decoder: Decoder,
    tokens: Tensor,
    plan: Plan,
    context: int,
    kind: str,
    method: Method,
    budget: int,
) -> list[float]:
    """Mean loss of what follows, by piece."""
    skip = plan.noticed if kind == "returning" else 1
    rows = max(1, plan.batch_tokens // tokens.shape[1])
    found = []
    for batch in tokens.split(rows):
        of_batch = continuation_losses(
            decoder, batch, context=context, method=method, budget=budget, skip=skip
        )
        found += of_batch.mean(-1).tolist()
    return found


class Bench:
    """Both parts and their results."""

    def __init__(self, plan: Plan, device: torch.device, seconds: float) -> None:
        self.plan, self.device, self.seconds = plan, device, seconds
        self.start = time.perf_counter()
        self.values: dict = {"times": [], "quality": [], "first_losses": [], "faults": []}

    def now(self) -> float:
        """Seconds, once all that was asked for is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def times(self, n: int) -> None:
        """Every method on one prompt of n tokens."""
        plan, cuda = self.plan, self.device.type == "cuda"
        model = load_smollm2(device=self.device, dtype=torch.bfloat16 if cuda else torch.float32)
        config = dataclasses.replace(model.config, max_positions=4 * max(plan.lengths))
        with torch.device("meta"):
            decoder = Decoder(config)
        decoder.load_state_dict(model.decoder.state_dict(), assign=True)
        decoder.head.weight = decoder.embedding.weight
        ids = model.tokenizer.encode(corpus.load("heldout", "prose")[0].text)[:n]
        tokens = torch.tensor([ids], device=self.device)
        weights = sum(w.numel() * w.element_size() for w in decoder.parameters())
        for name, method in methods(model).items():
            taken, budget = [], n // plan.time_share
            gc.collect()
            for _ in range(plan.repeats + 1):
                if cuda:
                    torch.cuda.reset_peak_memory_stats(self.device)
                    held = torch.cuda.memory_allocated(self.device)
                begun, first = self.now(), []
                evicted = evict(
                    decoder,
                    tokens,
                    method=method,
                    budget=budget,
                    on_prefilled=lambda first=first: first.append(self.now()),
                )
                ready = self.now()
                peak = torch.cuda.max_memory_allocated(self.device) - held if cuda else 0
                taken.append((first[0] - begun, ready - begun))
                cache = sum(evicted.cache.nbytes().values())
                del evicted
            taken = taken[1:]  # the first one warms up
            self.values["times"].append(
                helpers.rounded(
                    {
                        "method": name,
                        "n_tokens": n,
                        "budget": n if name == "raw" else budget,
                        "prefill_s": statistics.median(t[0] for t in taken),
                        "ready_s": statistics.median(t[1] for t in taken),
                        "peak_mib": peak / MIB,
                        "cache_mib": cache / MIB,
                        "weights_mib": weights / MIB,
                    },
                    digits=5,
                )
            )
            print(self.values["times"][-1], flush=True)

    def quality(self, context: int) -> None:
        """Every method, kind of text and budget after prompts of one length."""
        plan = self.plan
        model = load_smollm2(device=self.device)
        for kind, tokens in texts(model, plan, context).items():
            tokens = tokens.to(self.device)
            for name, method in methods(model).items():
                for share in plan.shares[:1] if name == "raw" else plan.shares:
                    budget = context if name == "raw" else context // share
                    of_piece = losses(model.decoder, tokens, plan, context, kind, method, budget)
                    about = {"method": name, "texts": kind, "context": context, "budget": budget}
                    mean = statistics.mean(of_piece)
                    row = about | {"pieces": len(of_piece), "perplexity": math.exp(mean)}
                    self.values["quality"].append(helpers.rounded(row, digits=5))
                    first = about | {"loss": of_piece[0]}
                    self.values["first_losses"].append(helpers.rounded(first, digits=6))
                    print(self.values["quality"][-1], flush=True)

    def run(self, save: Callable[[dict], None]) -> None:
        """Both parts, as far as there is time."""
        stages = [("times", self.times, n) for n in self.plan.lengths]
        stages += [("quality", self.quality, context) for context in self.plan.contexts]
        for name, stage, n in stages:
            passed = time.perf_counter() - self.start
            try:
                if passed > self.seconds:
                    raise TimeoutError(f"not begun after {passed:.0f} s")
                stage(n)
            except Exception as error:
                text = f"{type(error).__name__}: {str(error)[:300]}"
                self.values["faults"].append({"stage": f"{name} {n}", "error": text})
                print(f"FAULT in {name} {n}: {text}", flush=True)
            save(self.values)
        print(f"{time.perf_counter() - self.start:.0f} s", flush=True)


def main() -> None:
    """Measure what there is time for, saving after every stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="a tiny setting, for a CPU")
    parser.add_argument("--out", type=Path, help="where the result goes, if not to its place")
    parser.add_argument("--seconds", type=float, default=200, help="no stage begins later")
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    plan = Plan.small() if arguments.small else Plan()

    def save(values: dict) -> None:
        if arguments.small and arguments.out is None:
            return
        records.save(
            arguments.out or RESULT,
            values,
            config={"plan": dataclasses.asdict(plan), "request": REQUEST},
            device=device_name(device),
            commit=arguments.commit,
            seed=plan.seed,
        )

    with torch.no_grad():
        Bench(plan, device, arguments.seconds).run(save)


if __name__ == "__main__":
    main()

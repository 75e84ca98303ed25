"""Generation with SmolLM2: the ordinary loop, and the same step replayed as a CUDA graph.

    python benchmarks/generation.py --device cuda --commit HASH --out OUT/generation.json

Dense attention and MSA with the shipped index, after a prompt that fills the model's 8,192
positions but for the new tokens. In float32 the tokens must be the same with and without the graph;
in bfloat16, where logits are rounded to 8 bits and often tie, the first difference is recorded with
the margin between the two tokens there; with the same step without a graph the tokens must agree in
any precision. The time to the first token holds prefill and, with a
graph, its capture. What the GPU does in a step is taken from the profiler, so that the ratio of MSA
to dense has its reason beside it. `--small` takes a random decoder on a CPU, where the step of
fixed shape runs without a graph.
"""

import dataclasses
import itertools
import sys
import time
from collections import Counter

import helpers
import torch
from torch import Tensor

from intuitive.common import corpus
from intuitive.common.decoder import Decoder, DecoderConfig, FixedStep, generate
from intuitive.common.runtime import seeded
from intuitive.common.smollm import load_smollm2
from intuitive.msa import MSAConfig, shipped_index
from intuitive.msa.conversion import convert
from intuitive.msa.model import MSAAttention

RESULT = helpers.RESULTS / "generation_h200.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run."""

    contexts: tuple[int, ...] = (8192,)  # tokens, the new ones among them
    new: int = 256  # on a graph
    ordinary: int = 32  # in the ordinary loop, a tenth of a second each on a slow host
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    uncaptured: int = 12  # by the same step without a graph
    profiled: int = 8  # steps


SMALL = Plan(contexts=(96,), new=24, ordinary=12, dtypes=("float32",))


class Bench(helpers.Rows):
    """One run: models, and what was found so far."""

    def decoders(self, dtype: torch.dtype) -> tuple[dict[str, Decoder], Tensor]:
        """Dense and sparse, which share weights, and a text as token ids [n]."""
        if self.device.type == "cpu":
            config = DecoderConfig(d_model=64, max_positions=max(self.plan.contexts))
            dense = Decoder(config, dtype=dtype, generator=seeded(0)).requires_grad_(False).eval()
            msa, index = MSAConfig(block_size=8), None
            tokens = torch.randint(256, (max(self.plan.contexts),), generator=seeded(1))
        else:
            model = load_smollm2(device=self.device, dtype=dtype)
            dense, msa, index = model.decoder, MSAConfig.smollm(), shipped_index()
            msa = msa if index is None else index.sized(msa)
            document = next(d for d in corpus.load("heldout", "prose") if d.name == "alice.txt")
            tokens = torch.tensor(model.tokenizer.encode(document.text), device=self.device)
        return {"dense": dense, "msa": convert(dense, msa, index)}, tokens

    def run(self) -> None:
        for dtype in self.plan.dtypes:
            decoders, tokens = self.decoders(getattr(torch, dtype))
            for context, (name, decoder) in itertools.product(self.plan.contexts, decoders.items()):
                about = {"attention": name, "dtype": dtype, "context": context}
                if time.perf_counter() > self.until:
                    self.values["skipped"].append(about)
                    continue
                prompt = tokens[None, : context - self.plan.new]
                self.values["rows"].append(about | self.row(decoder, prompt))
                self.save()
                print(line(self.values["rows"][-1]), flush=True)

    def row(self, decoder: Decoder, prompt: Tensor) -> dict:
        """Both loops, their tokens, and a step's work."""
        plan, graphs = self.plan, self.device.type == "cuda"
        loops = {
            "ordinary": lambda n, seen: generate(
                decoder, prompt, max_new_tokens=n, on_token=seen, graph=False
            ),
            "fixed": lambda n, seen: (
                generate(decoder, prompt, max_new_tokens=n, on_token=seen, graph=True)
                if graphs
                else uncaptured(decoder, prompt, n, seen)
            ),
        }
        row: dict = {"graph": graphs}
        tokens = {}
        for name, n in (("ordinary", plan.ordinary), ("fixed", plan.new)):
            loops[name](2, lambda token: None)  # kernels compile at first use
            if graphs:
                torch.cuda.reset_peak_memory_stats()
            clock = Clock(self.device)
            tokens[name] = loops[name](n, clock)[0]
            clock.stop()
            row[f"{name}_first_token_ms"] = clock.first_ms
            row[f"{name}_ms_per_token"] = clock.rest_ms / (n - 1)
            row[f"{name}_tokens_per_s"] = 1e3 * (n - 1) / clock.rest_ms
            if graphs:
                row[f"{name}_peak_bytes"] = torch.cuda.max_memory_allocated()
        pairs = zip(tokens["ordinary"].tolist(), tokens["fixed"].tolist(), strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), plan.ordinary)
        row |= {"compared_tokens": plan.ordinary, "same_tokens": same}
        if same < plan.ordinary:
            row["margin_where_they_part"] = margin(decoder, prompt, tokens, same)
        if graphs:
            plain = uncaptured(decoder, prompt, plan.uncaptured, lambda token: None)[0]
            row["same_as_uncaptured"] = torch.equal(plain, tokens["fixed"][: plan.uncaptured])
            row |= self.work(decoder, prompt)
        return row

    def ratios(self) -> list[dict]:
        """MSA against dense, and what a step of each does."""
        found = []
        for dtype, context in itertools.product(self.plan.dtypes, self.plan.contexts):
            pair = {
                row["attention"]: row
                for row in self.values["rows"]
                if (row["dtype"], row["context"]) == (dtype, context)
            }
            if len(pair) < 2:
                continue
            about = {"dtype": dtype, "context": context}
            speeds = [pair[name]["fixed_tokens_per_s"] for name in ("dense", "msa")]
            about["msa_over_dense"] = speeds[1] / speeds[0]
            for name in (
                "kernels_per_token", "gpu_busy_ms_per_token", "key_value_bytes_read_per_token",
            ):  # fmt: skip
                if name in pair["dense"]:
                    about[name] = [pair[kind][name] for kind in ("dense", "msa")]
            found.append(about)
        return found

    @torch.no_grad()
    def work(self, decoder: Decoder, prompt: Tensor) -> dict:
        """Kernels, GPU time and the heaviest kernels of a replayed step."""
        steps = self.plan.profiled
        cache = decoder.make_cache(1, prompt.shape[1] + steps + 1)
        decoder(prompt, cache=cache, last_only=True)
        step = FixedStep(decoder, cache, cache.capacity)
        step.capture()
        step(prompt[:, -1])
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(steps):
                step(prompt[:, -1])
            torch.cuda.synchronize()
        ran = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        by_name: Counter[str] = Counter()
        for event in ran:
            by_name[event.name.split("(")[0].split("<")[0][-48:]] += event.time_range.elapsed_us()
        busy = sum(by_name.values())
        return {
            "kernels_per_token": len(ran) / steps,
            "gpu_busy_ms_per_token": busy / steps / 1e3,
            "heaviest_ms_per_token": {
                name: us / steps / 1e3 for name, us in by_name.most_common(8)
            },
            "key_value_bytes_read_per_token": read_bytes(decoder, prompt.shape[1]),
        }

    def save(self) -> None:
        super().save(seed=None if self.device.type == "cuda" else 0)


class Clock:
    """Milliseconds to the first token, and from there to the end, waiting for the device twice."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.first_ms, self.rest_ms = device, 0.0, 0.0
        self.began, self.first = self.now(), 0.0

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1e3 * time.perf_counter()

    def __call__(self, token: Tensor) -> None:
        if not self.first:
            self.first = self.now()
            self.first_ms = self.first - self.began

    def stop(self) -> None:
        self.rest_ms = self.now() - self.first


@torch.no_grad()
def uncaptured(decoder: Decoder, prompt: Tensor, n: int, seen) -> Tensor:
    """Greedy tokens [1, n] by the step of fixed shape, without a graph."""
    cache = decoder.make_cache(1, prompt.shape[1] + n)
    logits = decoder(prompt, cache=cache, last_only=True)[:, -1]
    step, new = FixedStep(decoder, cache, cache.capacity), []
    for _ in range(n):
        new.append(logits.argmax(-1))
        seen(new[-1])
        logits = step(new[-1])
    return torch.stack(new, 1)


@torch.no_grad()
def margin(decoder: Decoder, prompt: Tensor, tokens: dict[str, Tensor], at: int) -> float:
    """Logit of the ordinary loop's token above the other's, after what both had written."""
    text = torch.cat((prompt, tokens["ordinary"][None, :at]), 1)
    logits = decoder(text, last_only=True)[0, -1].float()
    return float(logits[tokens["ordinary"][at]] - logits[tokens["fixed"][at]])


def read_bytes(decoder: Decoder, m: int) -> int:
    """Bytes of keys, values and index keys that one step needs of a cache of m tokens."""
    size = decoder.embedding.weight.element_size()
    total = 0
    for layer in decoder.layers:
        kind, config = layer.attention, decoder.config
        tokens = m
        if isinstance(kind, MSAAttention):
            tokens = min(m, kind.msa.n_selected_tokens)
            total += size * m * kind.msa.d_index
        total += 2 * size * tokens * config.n_kv_heads * config.d_head
    return total


def line(row: dict) -> str:
    """A row in words."""
    told = (
        f"{row['attention']:5} {row['dtype']:8} {row['context']:5}: "
        f"{row['ordinary_tokens_per_s']:7.1f} then {row['fixed_tokens_per_s']:7.1f} tokens/s, "
        f"{row['same_tokens']} of {row['compared_tokens']} tokens the same"
    )
    if "kernels_per_token" in row:
        told += (
            f"; {row['kernels_per_token']:.0f} kernels, GPU busy "
            f"{row['gpu_busy_ms_per_token']:.2f} of {row['fixed_ms_per_token']:.2f} ms"
        )
    return told


def main() -> int:
    option = helpers.rows_options(
        __doc__, out=RESULT, seconds=60, small="a random decoder on a CPU"
    )
    bench = Bench(SMALL if option.small else Plan(), option)
    bench.run()
    bench.values["ratios"] = bench.ratios()
    bench.save()
    for row in bench.values["ratios"]:
        print("MSA over dense, [dense, MSA]:", helpers.rounded(row, digits=3))
    rows = bench.values["rows"]
    wrong = [
        row
        for row in rows
        if not row.get("same_as_uncaptured", True)
        or (row["dtype"] == "float32" and row["same_tokens"] < row["compared_tokens"])
    ]
    print(f"{len(rows)} rows, {len(wrong)} with tokens that must not differ")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""Time to first token and peak memory of an untrained Qwen3-shaped pair, raw and as latents.

    python benchmarks/lclm_pair.py --device cuda                       # 400 s on an H200
    python benchmarks/lclm_pair.py --device cuda --part beside         # and what goes beside it:
    python benchmarks/lclm_pair.py --device cuda --part evictions      # some 40 s each
    python benchmarks/lclm_pair.py --device cuda --part kernels
    python benchmarks/lclm_pair.py --small                             # the plumbing, on a CPU

A decoder of Qwen3-4B's sizes reads prompts of 4K to 256K random tokens: raw, with nothing else in
memory; then, beside an encoder of Qwen3-Embedding-0.6B's sizes and its adapter, as latents at
ratios 4, 8 and 16, encoding included. Weights are random, in bfloat16: they do not change what a
prefill costs. Both ways use the same layers (`pair_layers`) and the same attention kernel, and end
with the argmax of the last position's logits; with logits "all" a row for every position is made
first, as in the paper's runs. "whole" is one pass, as there; "pieces" goes through the cache some
thousand tokens at a time, which needs the least memory. Peaks are what the allocator gave out at
the most, weights included.

"beside": the encoder's throughput, windows, pooling and adapter included, beside a plain forward
pass over the same windows; and latents of shorter prompts with logits of every position.
"evictions": the decoder alone prefills and evicts (`intuitive.common.eviction`), a sixteenth kept.
"kernels": raw and latents with cuDNN's attention in the place of PyTorch's flash kernel.

Times are medians; the longest prompt is read raw once. A stage that fails, or does not fit, is
recorded under `faults` and the next one goes on; so is what --seconds leave no time for.
"""

import argparse
import dataclasses
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import helpers
import torch
from pair_layers import quicken
from pair_plan import Plan, sizes
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from intuitive.common import records
from intuitive.common.decoder import Decoder
from intuitive.common.eviction import METHODS, KVzip, evict
from intuitive.common.runtime import device_name, seeded
from intuitive.lclm import LatentContextModel, LCLMConfig, cost

RESULTS = {
    "all": helpers.RESULTS / "lclm_pair_h200.json",
    "beside": helpers.RESULTS / "lclm_pair_beside_h200.json",
    "evictions": helpers.RESULTS / "lclm_pair_evictions_h200.json",
    "kernels": helpers.RESULTS / "lclm_pair_kernels_h200.json",
}
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
GIB = cost.GIB


@dataclass(frozen=True)
class Stage:
    """One step of the run; what it reads raw tells how long it takes."""

    name: str
    run: Callable[[], None]
    raw_tokens: int = 0
    raw_reads: int = 0


class Bench:
    """All stages and their results."""

    def __init__(self, plan: Plan, config: LCLMConfig, device: torch.device, seconds: float):
        self.plan, self.config, self.device = plan, config, device
        self.seconds, self.start = seconds, time.perf_counter()
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.backend = "flash"
        self.values: dict = {"points": [], "encoder": [], "evictions": [], "faults": []}
        self.values["stages"] = {}
        self.model: LatentContextModel | None = None
        with device:
            self.decoder = quicken(
                Decoder(config.decoder, dtype=self.dtype, generator=seeded(plan.seed, device))
            ).requires_grad_(False)
        self.tokens = torch.randint(
            config.decoder.vocab_size, (max(plan.lengths),), generator=seeded(plan.seed)
        ).to(device)

    # ------------------------------------------------------------------------ what is measured

    def raw(self, n: int, logits: str, way: str) -> tuple[float, float, float]:
        """Read n tokens; seconds in the encoder (none) and the decoder, bytes while encoding."""
        start = self.now()
        self.first_token("tokens", self.tokens[None, :n], logits, way)
        return 0.0, self.now() - start, 0.0

    def latents(self, n: int, ratio: int, logits: str, way: str) -> tuple[float, float, float]:
        """Encode n tokens, then read their latents between two tags."""
        model, start = self.model, self.now()
        batch = self.plan.small_batch if way == "pieces" else self.plan.batch
        (latents,) = model.encode_spans([self.tokens[:n]], ratio=ratio, batch_size=batch)
        prompt = torch.cat((model.tags[:1], latents, model.tags[1:]))[None]
        del latents
        encoded, peak = self.now(), self.peak()
        self.first_token("embeddings", prompt, logits, way)
        return encoded - start, self.now() - encoded, peak

    def first_token(self, given: str, prompt: Tensor, logits: str, way: str) -> int:
        """The likeliest first token after a prompt of tokens [1, n] or embeddings."""
        n, decoder = prompt.shape[1], self.decoder
        cache = decoder.make_cache(1, n)
        piece = self.plan.piece if way == "pieces" else n
        for first in range(0, n, piece):
            hidden = decoder.hidden(**{given: prompt[:, first : first + piece]}, cache=cache)
        rows = decoder.logits(hidden if logits == "all" else hidden[:, -1:])
        return int(rows[0, -1].argmax())

    def measure(self, arm: str, n: int, ratio: int, logits: str, way: str, repeats: int) -> None:
        """Repeat one setting and keep its point."""
        one = (
            (lambda: self.raw(n, logits, way))
            if arm == "raw"
            else (lambda: self.latents(n, ratio, logits, way))
        )
        self.drained()
        if n < self.plan.once_from or arm != "raw":
            one()  # to warm up
        times = []
        for _ in range(repeats):
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            times.append((*one(), self.peak()))
        encoder_s, decoder_s, encoder_peak, peak = sorted(times, key=lambda t: t[0] + t[1])[
            len(times) // 2
        ]
        positions = n if arm == "raw" else -(-n // ratio) + 2
        rows = positions if logits == "all" else 1
        config, size = self.config.decoder, self.decoder.embedding.weight.element_size()
        per_position = cost.kv_bytes_per_position(config, element_bytes=size)
        point = {
            "arm": arm,
            "n_tokens": n,
            "ratio": ratio,
            "logits": logits,
            "way": way,
            "backend": self.backend,
            "repeats": repeats,
            "ttft_s": statistics.median(t[0] + t[1] for t in times),
            "slowest_s": max(t[0] + t[1] for t in times),
            "encoder_s": encoder_s,
            "decoder_s": decoder_s,
            "peak_gib": peak / GIB,
            "weights_gib": self.weight_bytes() / GIB,
            "kv_gib": positions * per_position / GIB,
            "logits_gib": rows * config.vocab_size * size / GIB,
            "encoder_peak_gib": encoder_peak / GIB,
        }
        self.values["points"].append(helpers.rounded(point, digits=5))
        short = f"{point['ttft_s']:.3f} s ({encoder_s:.3f} encoder), {point['peak_gib']:.2f} GiB"
        print(f"{arm} {n} {ratio}x {logits} {way} {self.backend}: {short}", flush=True)

    def throughput(self) -> None:
        """Tokens a second of the encoder in batches of windows, beside a plain forward pass."""
        window, model = self.config.window, self.model
        for windows in self.plan.batches:
            n = windows * window
            if n > len(self.tokens):
                continue
            span, rows = self.tokens[:n], self.tokens[:n].view(windows, window)
            embedded = model.encoder.embedding(rows)

            def encode(span=span, windows=windows):
                model.encode_spans([span], batch_size=windows)

            def plain(embedded=embedded):
                model.encoder.hidden(embeddings=embedded)

            speeds = {}
            for name, call in (("tokens_per_s", encode), ("plain_tokens_per_s", plain)):
                times = []
                for _ in range(2 + 5):
                    start = self.now()
                    call()
                    times.append(self.now() - start)
                speeds[name] = n / statistics.median(times[2:])
            row = {"windows": windows, **speeds}
            self.values["encoder"].append(helpers.rounded(row, digits=5))
            print(f"encoder, {windows} windows: {speeds}", flush=True)

    def evict(self, n: int, name: str) -> None:
        """Prefill n tokens, then evict: the decoder alone, by one method."""
        plan, cuda = self.plan, self.device.type == "cuda"
        budget, alone = n // plan.evicted_share, n == max(plan.evicted)
        method = METHODS[name]()
        if name == "kvzip":
            method = KVzip(request=tuple(range(1, 9)), chunk=min(2048, n // 2))
        times, held = [], self.weight_bytes() * cuda
        for _ in range(1 if alone else plan.repeats + 1):
            if cuda:
                torch.cuda.reset_peak_memory_stats(self.device)
            begun, first = self.now(), []
            evicted = evict(
                self.decoder,
                self.tokens[None, :n],
                method=method,
                budget=budget,
                on_prefilled=lambda first=first: first.append(self.now()),
            )
            times.append((first[0] - begun, self.now() - begun))
            cache = sum(evicted.cache.nbytes().values())
            del evicted
        row = {
            "method": name,
            "n_tokens": n,
            "budget": n if name == "raw" else budget,
            "prefill_s": statistics.median(t[0] for t in times[not alone :]),
            "ready_s": statistics.median(t[1] for t in times[not alone :]),
            "peak_mib": (self.peak() - held) / 2**20,
            "cache_mib": cache / 2**20,
        }
        self.values["evictions"].append(helpers.rounded(row, digits=5))
        print(self.values["evictions"][-1], flush=True)

    # -------------------------------------------------------------------------------- the device

    def now(self) -> float:
        """Seconds, once all that was asked for is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def peak(self) -> float:
        """Bytes given out at the most since the last reset; 0 on a CPU."""
        if self.device.type != "cuda":
            return 0.0
        return float(torch.cuda.max_memory_allocated(self.device))

    def drained(self) -> None:
        """Give back what no tensor holds."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def kernel(self) -> list[SDPBackend]:
        """Attention kernels that may be used; on a CPU there is no choice to make."""
        if self.device.type != "cuda":
            return [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
        return [BACKENDS[self.backend]]

    def weight_bytes(self) -> int:
        """Bytes of all weights on the device, shared ones once."""
        modules = (self.decoder,) if self.model is None else (self.model,)
        return sum(w.numel() * w.element_size() for m in modules for w in m.parameters())

    # --------------------------------------------------------------------------------- the whole

    def build_model(self) -> None:
        """Put the encoder and its adapter beside the decoder."""
        config, generator = self.config, seeded(self.plan.seed, self.device)
        with self.device:
            encoder = quicken(Decoder(config.encoder, dtype=self.dtype, generator=generator))
            self.model = LatentContextModel(
                config, encoder=encoder, decoder=self.decoder, generator=generator
            ).requires_grad_(False)

    def raw_stage(self, n: int, logits: str = "last", way: str = "whole") -> Stage:
        """The decoder alone reads n tokens."""
        plan = self.plan
        last = n == plan.full_logits_up_to and logits == "all"
        repeats = 1 if last or n >= plan.once_from else plan.repeats
        return Stage(
            f"raw {n} {logits} {way}",
            partial(self.measure, "raw", n, 1, logits, way, repeats),
            raw_tokens=n,
            raw_reads=repeats + (n < plan.once_from),
        )

    def latent_stage(self, n: int, ratio: int, logits: str = "last", way: str = "whole") -> Stage:
        """The pair reads n tokens."""
        run = partial(self.measure, "lclm", n, ratio, logits, way, self.plan.repeats)
        return Stage(f"lclm {n} {ratio}x {logits} {way}", run)

    def use(self, backend: str) -> Stage:
        """Attend with another kernel from now on."""
        return Stage(f"use {backend}", partial(setattr, self, "backend", backend))

    def stages(self, part: str) -> list[Stage]:
        """The stages of a part, in order."""
        plan = self.plan
        longest, falling = max(plan.lengths), plan.lengths[::-1]
        build, throughput = Stage("pair", self.build_model), Stage("throughput", self.throughput)
        if part == "beside":
            some = [(n, r) for n in plan.lengths if n <= plan.middle for r in plan.ratios]
            return [build, throughput, *(self.latent_stage(n, r, "all") for n, r in some)]
        if part == "evictions":
            methods = sorted(METHODS, key="kvzip".__eq__)  # the longest last
            steps = [(n, name) for n in plan.evicted for name in methods]
            return [Stage(f"{name} {n}", partial(self.evict, n, name)) for n, name in steps]
        if part == "kernels":
            n, (ratio, *_) = plan.middle, plan.ratios
            of_raw, of_latents = self.raw_stage(n), self.latent_stage(n, ratio)
            cudnn, flash = self.use("cudnn"), self.use("flash")
            return [of_raw, cudnn, of_raw, build, of_latents, flash, of_latents]
        found = []
        for n in plan.lengths:
            found.append(self.raw_stage(n))
            if n <= plan.full_logits_up_to:
                found.append(self.raw_stage(n, "all"))
        found += [self.raw_stage(longest, way="pieces"), build]
        found += [self.latent_stage(n, r) for n in falling for r in plan.ratios]
        found += [self.latent_stage(longest, r, way="pieces") for r in plan.ratios]
        return found + [self.latent_stage(longest, r, "all") for r in plan.ratios]

    def run(self, part: str, save: Callable[[dict], None]) -> None:
        """Every stage of a part that there is time for."""
        for stage in self.stages(part):
            begun = time.perf_counter()
            passed = begun - self.start
            if passed + self.expected(stage) > self.seconds:
                self.fault(stage.name, TimeoutError(f"not begun after {passed:.0f} s"))
                continue
            try:
                with sdpa_kernel(self.kernel()):
                    stage.run()
            except Exception as error:
                self.fault(stage.name, error)
                del error
            self.values["stages"][stage.name] = round(time.perf_counter() - begun, 1)
            save(self.values)
        print(f"{time.perf_counter() - self.start:.0f} s", flush=True)

    def expected(self, stage: Stage) -> float:
        """Seconds that a stage takes at most: reading raw is quadratic, all else is quick."""
        known = [p for p in self.values["points"] if p["arm"] == "raw"]
        if not stage.raw_reads or not known:
            return 0.0
        longest = max(known, key=lambda p: p["n_tokens"])
        once = longest["ttft_s"] * max(1.0, (stage.raw_tokens / longest["n_tokens"]) ** 2)
        return once * stage.raw_reads

    def fault(self, stage: str, error: BaseException) -> None:
        """Record what went wrong."""
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
        self.values["faults"].append({"stage": stage, "error": text})
        print(f"FAULT in {stage}: {text}", flush=True)


def main() -> None:
    """Measure what there is time for, saving after every stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="a tiny setting, for a CPU")
    parser.add_argument("--out", type=Path, help="where the result goes, if not to its place")
    parser.add_argument("--part", choices=tuple(RESULTS), default="all")
    parser.add_argument("--seconds", type=float, default=420, help="no stage ends much later")
    parser.add_argument("--commit", help="of the tree that runs, where there is no git")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    plan = Plan.small() if arguments.small else Plan()
    config = sizes(arguments.small)

    def save(values: dict) -> None:
        if arguments.small and arguments.out is None:
            return
        records.save(
            arguments.out or RESULTS[arguments.part],
            values,
            config={"plan": dataclasses.asdict(plan), "model": dataclasses.asdict(config)},
            device=device_name(device),
            commit=arguments.commit,
            seed=plan.seed,
            versions={"cuda": torch.version.cuda or "none"},
        )

    with torch.no_grad():
        Bench(plan, config, device, arguments.seconds).run(arguments.part, save)


if __name__ == "__main__":
    main()

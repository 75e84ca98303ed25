"""Time to first token and peak memory of an untrained Qwen3-shaped pair, raw and as latents.

    python benchmarks/lclm_pair.py --device cuda
    python benchmarks/lclm_pair.py --small            # the plumbing, on a CPU, in seconds

A decoder of Qwen3-4B's sizes reads prompts of 4K to 256K random tokens: raw, with nothing else in
memory; then, beside an encoder of Qwen3-Embedding-0.6B's sizes and its adapter, as latents at
ratios 4, 8 and 16, encoding included. Weights are random, in bfloat16: they do not change what a
prefill costs. Both ways use the same layers (`pair_layers`) and the same attention kernel, and end
with the argmax of the last position's logits; with logits "all" a row for every position is made
first, as in the paper's runs. "whole" is one pass, as there; "pieces" goes through the cache some
thousand tokens at a time, which needs the least memory. Peaks are what the allocator gave out at
the most, weights included.

Then the encoder's throughput, windows, pooling and adapter included, beside a plain forward pass
over the same windows; and raw and latents once more with cuDNN's attention in the place of
PyTorch's flash kernel.

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
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from intuitive.common import records
from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.common.runtime import device_name, seeded
from intuitive.lclm import LatentContextModel, LCLMConfig, cost

RESULT = helpers.RESULTS / "lclm_pair_h100.json"
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
GIB = cost.GIB


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured; lengths in tokens."""

    lengths: tuple[int, ...] = (4096, 16_384, 65_536, 131_072, 262_144)
    ratios: tuple[int, ...] = (16, 8, 4)
    full_logits_up_to: int = 131_072  # raw; a row of every position of more does not fit
    once_from: int = 262_144  # raw prompts of this length on are read once
    repeats: int = 3
    piece: int = 8192  # tokens at a time, of the decoder where it goes through the cache
    batch: int = 32  # windows in an encoder pass
    small_batch: int = 8  # where the least memory is wanted
    batches: tuple[int, ...] = (8, 32, 128)  # windows in the throughput's passes
    seed: int = 0

    @classmethod
    def small(cls) -> "Plan":
        """Seconds on a CPU."""
        return cls(
            lengths=(100, 256),
            ratios=(4, 2),
            full_logits_up_to=100,
            once_from=256,
            repeats=3,
            piece=48,
            batch=4,
            small_batch=2,
            batches=(2, 4),
        )


def sizes(small: bool) -> LCLMConfig:
    """The paper's pair, or one that fits anywhere."""
    if not small:
        return LCLMConfig.paper()
    decoder = DecoderConfig(d_model=48)
    return LCLMConfig(ratio=4, window=32, encoder=DecoderConfig(d_model=32), decoder=decoder)


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
        self.values: dict = {"points": [], "encoder": [], "faults": [], "stages": {}}
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

    def drop_model(self) -> None:
        """Leave the decoder alone on the device."""
        self.model = None

    def raw_stages(self, backend: str = "flash") -> list[Stage]:
        """The decoder alone; with another kernel the longest prompt only."""
        plan = self.plan
        longest = max(plan.lengths)
        stages = []
        settings = [(n, logits, "whole") for n in plan.lengths for logits in ("last", "all")]
        settings.append((longest, "last", "pieces"))
        if backend != "flash":
            settings = [(longest, "last", "whole")]
        for n, logits, way in settings:
            if logits == "all" and n > plan.full_logits_up_to:
                continue
            once = n >= plan.once_from or (logits == "all" and n == plan.full_logits_up_to)
            repeats = 1 if once else plan.repeats
            stages.append(
                Stage(
                    f"raw {n} {logits} {way} {backend}",
                    partial(self.measure, "raw", n, 1, logits, way, repeats),
                    raw_tokens=n,
                    raw_reads=repeats + (n < plan.once_from),
                )
            )
        return stages

    def latent_stages(self, backend: str = "flash") -> list[Stage]:
        """The pair; the longest prompts first."""
        plan = self.plan
        longest, stages = max(plan.lengths), []
        settings = [(n, r, "last", "whole") for n in plan.lengths[::-1] for r in plan.ratios]
        settings += [(longest, r, "last", "pieces") for r in plan.ratios]
        settings += [(n, r, "all", "whole") for n in plan.lengths[::-1] for r in plan.ratios]
        if backend != "flash":
            settings = [(longest, r, "last", "whole") for r in plan.ratios]
        for n, ratio, logits, way in settings:
            name = f"lclm {n} {ratio}x {logits} {way} {backend}"
            run = partial(self.measure, "lclm", n, ratio, logits, way, plan.repeats)
            stages.append(Stage(name, run))
        return stages

    def use(self, backend: str) -> None:
        """Attend with another kernel from now on."""
        self.backend = backend

    def run(self, save: Callable[[dict], None]) -> None:
        """Every stage that there is time for."""
        stages = [
            *self.raw_stages(),
            Stage("build the pair", self.build_model),
            *self.latent_stages(),
            Stage("throughput", self.throughput),
        ]
        if self.device.type == "cuda":
            stages += [
                Stage("use cudnn", partial(self.use, "cudnn")),
                *self.latent_stages("cudnn"),
                Stage("drop the encoder", self.drop_model),
                *self.raw_stages("cudnn"),
            ]
        for stage in stages:
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
            arguments.out or RESULT,
            values,
            config={"plan": dataclasses.asdict(plan), "model": dataclasses.asdict(config)},
            device=device_name(device),
            commit=arguments.commit,
            seed=plan.seed,
            versions={"cuda": torch.version.cuda or "none"},
        )

    with torch.no_grad():
        Bench(plan, config, device, arguments.seconds).run(save)


if __name__ == "__main__":
    main()

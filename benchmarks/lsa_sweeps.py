"""What `lsa_arms` trains, sweeps and measures: settings, policies and held-out documents."""

import dataclasses
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from intuitive.common.decoder import Decoder
from intuitive.lsa.arms import ARMS, Policy
from intuitive.lsa.config import LSAConfig
from intuitive.lsa.experiments.topical_arms import Point, hold_out, measure
from intuitive.lsa.experiments.topical_training import (
    DecoderTrainingConfig,
    Stage,
    attention_config,
)
from intuitive.lsa.indexer import MemoryIndexers
from intuitive.lsa.indexer_training import IndexerTrainingConfig
from intuitive.lsa.task import TaskConfig

SEEDS = (0, 1, 2)
THRESHOLDS = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
LOOKAHEADS = (8, 16, 32, 64, 128)
COMPARED = ("lsa", "reactive", "recency", "random", "quest", "oracle", "everything")
BUDGETED = ("lsa", "reactive", "recency", "random", "quest", "oracle")
SWEPT = ("lsa", "recency", "random", "oracle")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides the numbers."""

    training: DecoderTrainingConfig = field(default_factory=DecoderTrainingConfig)
    indexer: IndexerTrainingConfig = field(
        default_factory=lambda: IndexerTrainingConfig(n_steps=600, n_documents=12, n_triggers=4)
    )
    harvested: int = 60  # documents that Memory Indexers are trained on
    harvested_sections: int = 24  # of each of them
    at_once: int = 2  # documents side by side
    stride: int = 8  # steps between triggers in every so many-th of these batches:
    among: int = 4
    held_out: int = 3  # documents of each seed
    budgets: tuple[int, ...] = (16, 32, 48, 64, 96, 128, 192, 256)  # chunks, the tail among them
    pages: tuple[int, ...] = (4, 8, 16, 32, 48)
    lengths: tuple[int, ...] = (1, 2, 4)
    seeds: tuple[int, ...] = SEEDS

    @property
    def task(self) -> TaskConfig:
        """Documents as long as the longest that training saw."""
        return self.training.documents(self.training.stages[-1].topics)

    @property
    def policy(self) -> Policy:
        """The settings that every sweep starts from."""
        config = self.training.attention
        return Policy(
            "lsa",
            lookahead=config.lookahead,
            threshold=config.threshold,
            tail_chunks=config.tail_chunks,
            page_size=config.page_size,
        )


def small_plan() -> Plan:
    """A tiny decoder that learns little: to try the script, not the method."""
    tiny = {
        "d_model": 32,
        "layers": ("window", "csa", "csa"),
        "d_head": 16,
        "q_rank": 16,
        "o_rank": 16,
        "window": 16,
        "d_index": 16,
        "n_index_heads": 2,
        "top_k": 8,
        "label_top_k": 8,
        "memory_layers": (0, 1),
        "memory_rank": 16,
        "n_memory_heads": 4,
        "lookahead": 32,
        "tail": 16,
    }
    return Plan(
        training=DecoderTrainingConfig(
            attention=LSAConfig(**vars(attention_config()) | tiny),
            task=TaskConfig(n_topics=16, n_names=8, topics=4, records=8, sections=2, section=32),
            d_ff=64,
            max_positions=1024,
            stages=(Stage(2, 8, 12), Stage(4, 8, 6)),
            lightning=Stage(4, 4, 5),
            finetune=Stage(4, 4, 4),
        ),
        indexer=IndexerTrainingConfig(n_steps=15, n_documents=4, n_triggers=4),
        harvested=12,
        harvested_sections=3,
        at_once=6,
        held_out=2,
        budgets=(8, 16),
        pages=(1, 2),
        lengths=(1, 2),
        seeds=(0, 1),
    )


def sweeps(plan: Plan) -> dict[str, list[tuple[dict[str, Any], Policy]]]:
    """By name: changes of the task ("length" among them), and a policy."""
    base, task = plan.policy, plan.task

    def policies(arms: Iterable[str] = ("lsa",), **change: Any) -> list[Policy]:
        return [dataclasses.replace(base, arm=arm, **change) for arm in arms]

    def on(policies: Iterable[Policy], **change: Any) -> list[tuple[dict[str, Any], Policy]]:
        return [(change, policy) for policy in policies]

    found = {"arms": on(policies(ARMS))}
    found["threshold"] = [
        pair for t in THRESHOLDS for pair in on(policies(SWEPT, threshold=t)) if t != 0.5
    ]
    found["budget"] = [
        pair for n in plan.budgets for pair in on(policies(BUDGETED, rule="budget", size=n))
    ]
    found["pages"] = [pair for n in plan.pages for pair in on(policies(rule="pages", size=n))]
    found["lookahead"] = [
        pair
        for tau in LOOKAHEADS
        for lag in (0, 1)
        for arms in [("lsa", "oracle") + (("reactive",) if not lag else ())]
        for pair in on(policies(arms, lookahead=tau, lag=lag))
    ]
    n_layers = len(plan.training.attention.memory_layers)
    found["layers"] = [pair for n in range(1, n_layers) for pair in on(policies(layers=n))]
    middle = plan.budgets[len(plan.budgets) // 2]
    found["length"] = [
        pair
        for length in plan.lengths[1:]
        for pair in on(policies(COMPARED), length=length)
        + on(
            policies(BUDGETED, rule="budget", size=middle),
            length=length,
        )
    ]
    found["mode"] = [
        pair
        for mode in ("local", "dense")
        for pair in on(policies(COMPARED), mode=mode)
        + [
            more
            for n in plan.budgets[1::2]
            for more in on(policies(("lsa", "recency", "oracle"), rule="budget", size=n), mode=mode)
        ]
    ]
    half = task.section // 2
    found["surprise"] = [
        pair
        for change in (
            {"offset": half // 2}, {"offset": half}, {"section": half}, {"section": half // 2},
        )
        for pair in on(policies(COMPARED), **change)
    ]  # fmt: skip
    return found


def changed(plan: Plan, change: dict[str, Any]) -> tuple[TaskConfig, float]:
    """The documents of a sweep, and their length."""
    change = dict(change)
    length = change.pop("length", 1)
    fields = vars(plan.task) | change | {"topics": plan.task.topics * length}
    if "section" in change:  # as many decoded tokens
        fields["sections"] = plan.task.sections * plan.task.section // change["section"]
    return TaskConfig(**fields), float(length)


def measured(
    plan: Plan,
    decoder: Decoder,
    indexers: Mapping[int, MemoryIndexers],
    device: torch.device,
    *,
    only: Callable[[str, Policy], bool] = lambda name, policy: True,
    left: Callable[[], bool] = lambda: True,
) -> Iterator[dict[str, list[Point]]]:
    """Every sweep with every seed; yields all points so far after each kind of documents.

    Args:
        plan: what is swept.
        decoder: frozen.
        indexers: by seed.
        device: of both.
        only: sweeps and policies that are wanted.
        left: whether there is time for more; asked before each held-out set.
    """
    found: dict[str, list[Point]] = {}
    grouped: dict[tuple[tuple[str, Any], ...], list[tuple[str, Policy]]] = {}
    for name, pairs in sweeps(plan).items():
        for change, policy in pairs:
            if only(name, policy):
                grouped.setdefault(tuple(sorted(change.items())), []).append((name, policy))
    for change, wanted in grouped.items():
        task, length = changed(plan, dict(change))
        for seed, trained in indexers.items():
            if not left():
                print(f"no time left for {dict(change)}, seed {seed}", flush=True)
                continue
            count = max(plan.held_out // int(length), 2)
            held = hold_out(decoder, trained, task, count, seed=seed, length=length, device=device)
            for name, policy in wanted:
                found.setdefault(name, []).append(measure(held, policy))
            del held
        gc.collect()
        yield found

"""A little of `lsa_smollm.py`'s committed result, made again on a CPU.

Recorded decodes are replayed at once and without the model (`recordings_differ`). With the model,
one lesson text is recorded anew (`lease_differs`), and the first held-out text is read again, with
what every policy of the shipped indexers finds in it (`heldout_differs`). Perplexities are left to
a GPU: each takes one more reading of the text.
"""

from pathlib import Path
from typing import Any

from intuitive.common import records
from intuitive.common.returning import ReturningText, returning_texts
from intuitive.common.smollm import SmolLM2, load_smollm2
from intuitive.lsa.arms import Policy, Residency, replay
from intuitive.lsa.experiments.shelves import record_shelf
from intuitive.lsa.recording import Recording
from intuitive.lsa.shelf_texts import shelf_texts
from intuitive.lsa.smollm import WEIGHTS, load_indexers
from intuitive.lsa.smollm_decoding import policy_of, record

RESULT = "lsa_smollm"
HELDOUT_SEED = 2
ON_DISK = 0.01  # scores are kept in few bits, and some lie next to the threshold
ELSEWHERE = 0.03  # chunks at the threshold, or near a tie, on another device


def compare(folder: Path, plan: Any) -> list[str]:
    """What comes out otherwise than committed, in sentences.

    Args:
        folder: where the result lies.
        plan: the settings that the script has now.
    """
    values, made = records.load(folder / f"{RESULT}.json")
    faults = []
    if made["config_hash"] != records.config_hash(plan):
        faults.append(f"{RESULT}.json was made by another plan: run it again")
    model = load_smollm2()
    faults += recordings_differ(values)
    faults += lease_differs(values, model)
    return faults + heldout_differs(values, plan, model)


def recordings_differ(values: dict) -> list[str]:
    """Replay the shipped recordings with the policy that they were measured with."""
    faults = []
    for name, committed in values["recordings"].items():
        made = Recording.load(WEIGHTS.parent / f"recording-{name}.npz")
        faults += differ(name, committed, replay(made, policy_of(load_indexers())), ON_DISK)
        if [made.n_steps, made.n_chunks] != [committed["steps"], committed["chunks"]]:
            faults.append(f"{name}: {made.n_steps} steps and {made.n_chunks} chunks")
    return faults


def lease_differs(values: dict, model: SmolLM2) -> list[str]:
    """Record one lesson text again with the shipped indexers."""
    indexers = load_indexers()
    again = record_shelf(model, shelf_texts()["lease"], indexers)
    committed = values["recordings"]["lease"]
    return differ("lease", committed, replay(again, policy_of(indexers)), ELSEWHERE)


def heldout_texts(plan: Any, tokenizer: Any) -> list[ReturningText]:
    """The texts that the script measures: of every held-out file long enough, in turn."""
    return returning_texts(
        tokenizer.encode,
        tokenizer.token_strings,
        plan.texts,
        split="heldout",
        count=plan.n_heldout,
        seed=HELDOUT_SEED,
        in_turn=True,
    )


def heldout_differs(values: dict, plan: Any, model: SmolLM2) -> list[str]:
    """Read the first held-out text again."""
    indexers = load_indexers()
    text, *_ = heldout_texts(plan, model.tokenizer)
    made = record(model, text.tokens, indexers, n_prompt=plan.texts.first, name=text.source)
    faults = []
    if text.source != values["heldout"][0]:
        faults.append(f"the first text is of {text.source}, not of {values['heldout'][0]}")
    for row in values["arms"]:
        if row["seed"] == plan.seeds[0]:
            policy = policy_in(row, indexers)
            first = {name: row[f"{name}_each"][0] for name in ("golden_recall", "kept")}
            faults += differ(f"{text.source}, {policy}", first, replay(made, policy), ELSEWHERE)
    return faults


def policy_in(row: dict, indexers: Any) -> Policy:
    """The policy that a row of the result was measured with, with the first text's seed."""
    changes = {name: row[name] for name in ("rule", "size", "lookahead", "lag", "layers")}
    if row["threshold"] is not None:
        changes["threshold"] = row["threshold"]
    if row["arm"] == "reactive":
        changes["top_k"] = row["size"]
    return policy_of(indexers, row["arm"], **changes)


def differ(what: str, committed: dict, found: Residency, by: float) -> list[str]:
    """Sentences about shares that differ by more than so much."""
    shares = {"golden_recall": found.golden_recall, "kept": found.kept}
    return [
        f"{what}: {name} {share:.4g} differs from the committed {committed[name]:.4g}"
        for name, share in shares.items()
        if abs(share - committed[name]) > by
    ]

"""Claims of Trajectory-Refined Distillation (Jiang et al. 2026, arXiv:2606.08432v1).

The full text was not at hand: figures come from the abstract, the authors' code and blog post, and
public notes; see `docs/papers/trd.md`.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

from intuitive.common import results
from intuitive.common.results import Committed
from intuitive.trd.real_text import RealText
from intuitive.trd.results import REAL_TEXT, MethodRow, Methods, methods_name

from ..claim import Claim, Measured, Paper, Spread, fact, over, untested
from ..facts import trd as facts
from ..rules import Judged, beyond, held

PAPER = Paper(
    title="Trajectory-Refined Distillation",
    arxiv="2606.08432v1",
    read="not in full: the abstract, the contents and the opening of Section 1, the rest in the "
    "released code, the first author's blog post and public notes",
)
SETTINGS, TEACHERS = ("small", "late"), ("exact", "learned")


def _methods(setting: str) -> Committed[Methods]:
    return results.load(methods_name(setting), Methods)


def _shares(rows: Mapping[str, MethodRow]) -> dict[str, Spread]:
    """The accuracies of some rows over seeds, by name."""
    return {name: over(row.accuracy_by_seed) for name, row in rows.items()}


def _told(rows: Mapping[str, MethodRow]) -> str:
    return ", ".join(f"{name} {row.accuracy.estimate:.2f}" for name, row in rows.items())


# ------------------------------------------------------------------------------ exact facts


def _gradients(found: dict[str, float]) -> tuple[str, Judged]:
    ratio = found["forward"] / found["reverse"]
    return (
        f"forward KL pushes the onset's logit by {found['forward']:.3f}, reverse KL by "
        f"{found['reverse']:.1e}, {ratio:.0f} times less; forward KL clipped at 0.1 by "
        f"{found['clipped']:.0f} (λ = 0.3, a student that says the onset with 1e-4)",
        held(
            ("forward KL pushes a hundred times as hard", ratio > 100),
            ("the clip removes the push", found["clipped"] == 0),
        ),
    )


def _ladders(found: dict[str, float]) -> tuple[str, Judged]:
    return (
        f"{found['supplied']:.0f} of {found['needed']:.0f} pairs of {found['problems']:.0f} "
        "repairs are in the failed attempts (running sums, the exact teacher)",
        held(
            ("the first pair of every repair is there", found["first"] == found["problems"]),
            ("no other one is", found["supplied"] == found["first"]),
        ),
    )


# ------------------------------------------------------------------------------ the diagnosis


def two_modes() -> Measured:
    """WAIT after an error and without one, of a learned teacher; onsets of SmolLM2."""
    found, text = _methods("small"), results.load(REAL_TEXT, RealText)
    (learned,) = (one for one in found.values.wait_maps if one.teacher == "learned")
    after = over(mass for row in learned.by_error.values() for mass in row)
    onset = text.values.onset_difference["all"]
    return Measured(
        value=f"a teacher that learned sums says WAIT with {after:.2f} after an error, with "
        f"{learned.worst_clean:.4f} at most without; SmolLM2's onset mass differs by "
        f"{1000 * onset.mean:+.2f} per mille between wrong and right solutions",
        judged=held(
            ("ten times the mass after every error", after.low > 10 * learned.worst_clean),
            ("more onsets on wrong solutions in SmolLM2", onset.low > 0),
        ),
        numbers={"after_error": after, "clean": learned.worst_clean, "smollm": onset.mean},
        records=(found, text),
    )


def epistemic() -> Measured:
    """Mass of WAIT per token on attempts and on rewrites, in per mille."""
    found = {setting: _methods(setting) for setting in SETTINGS}
    rows = [row for each in found.values() for row in each.values.rewrites]
    attempt, rewrite = (
        over(1000 * getattr(row, name) for row in rows)
        for name in ("wait_mass_y_o", "wait_mass_y_r")
    )
    return Measured(
        value=f"{attempt:.1f} per mille on attempts, {rewrite:.2f} on rewrites (two settings, two "
        "teachers; λ is 0.3 by construction)",
        judged=held(
            ("below 2 per mille on rewrites", rewrite.high < 2),
            ("at least three times as much on attempts", attempt.low > 3 * rewrite.high),
            limit=beyond(attempt.mean, 8, "λ is 0.3 by construction"),
        ),
        numbers={"attempt": attempt, "rewrite": rewrite},
        records=tuple(found.values()),
    )


def prefix_failure() -> Measured:
    """What forward OPD teaches of WAIT, and its accuracy by the teacher's readiness to repair."""
    found = _methods("small")
    row = found.values.row("opd_forward")
    dose = {r.repair: r.accuracy.estimate for r in found.values.dose if r.name == "opd_forward"}
    by = [dose[repair] for repair in sorted(dose)]
    right = row.correct_after_wait or 0.0
    return Measured(
        value=f"{row.wait:.0%} of the rollouts say WAIT, {right:.0%} of these come out right; "
        f"accuracy falls from {by[0]:.2f} at λ = {min(dose):g} to {by[-1]:.2f} at {max(dose):g}",
        judged=held(
            ("a tenth of the rollouts or more say WAIT", row.wait >= 0.1),
            ("less than a fifth of these are right", right < 0.2),
            (
                "accuracy falls with every step of λ",
                all(a > b for a, b in itertools.pairwise(by)),
            ),
        ),
        numbers={"wait": row.wait, "right_after_wait": right}
        | {f"accuracy_{repair:g}": share for repair, share in dose.items()},
        records=(found,),
    )


HELP = 0.1  # of accuracy, from which on a change of the loss counts as help
FIXES = {  # a change of the loss: what it changes
    "opd_forward_entropy": "opd_forward",
    "opd_forward_clip": "opd_forward",
    "opd_reverse": "opd_forward",
    "opd_reverse_topk": "opd_reverse",
}
NAMES = {
    "opd_forward": "forward KL", "opd_forward_entropy": "entropy weights",
    "opd_forward_clip": "clip", "opd_reverse": "reverse KL", "opd_reverse_topk": "top-k",
    "opsd_reverse": "OPSD by reverse KL", "trd": "TRD", "trd_opsd": "TRD with a solution",
}  # fmt: skip


def token_level() -> Measured:
    """What changes of the loss, and of nothing else, bring."""
    found = _methods("small")
    rows = {name: found.values.row(name) for name in ("opd_forward", *FIXES)}
    right = {name: row.accuracy.estimate for name, row in rows.items()}
    return Measured(
        value=_told({NAMES[name]: row for name, row in rows.items()})
        + " (running sums, the exact teacher)",
        judged=held(
            *(
                (
                    f"{NAMES[fix]} brings less than {HELP:.0%} over {NAMES[of]}",
                    right[fix] - right[of] < HELP,
                )
                for fix, of in FIXES.items()
            )
        ),
        numbers=_shares(rows),
        records=(found,),
    )


# --------------------------------------------------------------------------------- the method


def better(setting: str, pairs: Sequence[tuple[str, str]], told: str) -> Callable[[], Measured]:
    """TRD against other methods, in every seed and with both teachers."""

    def measure() -> Measured:
        found = _methods(setting)
        rows = {name: found.values.row(name) for pair in pairs for name in pair}
        conditions = []
        for one, other in pairs:
            ahead = all(
                mine > theirs
                for teacher in TEACHERS
                for mine, theirs in zip(
                    found.values.row(one, teacher=teacher).accuracy_by_seed,
                    found.values.row(other, teacher=teacher).accuracy_by_seed,
                    strict=True,
                )
            )
            words = f"{NAMES[one]} above {NAMES[other]} in every seed with both teachers"
            conditions.append((words, ahead))
        return Measured(
            value=_told({NAMES[name]: row for name, row in rows.items()}) + f" ({told})",
            judged=held(*conditions),
            numbers=_shares(rows),
            records=(found,),
        )

    return measure


def transitions() -> Measured:
    """What the rewrites of the exact teacher mend and break, in both settings."""
    found = {setting: _methods(setting) for setting in SETTINGS}
    rows = [r for each in found.values() for r in each.values.rewrites if r.teacher == "exact"]
    before = over(r.pass_pass + r.pass_fail for r in rows)
    after = over(r.pass_pass + r.fail_pass for r in rows)
    mended = over(r.fail_pass / (r.fail_pass + r.fail_fail) for r in rows)
    broken = over(r.pass_fail for r in rows)
    theirs = 16.0 / (100 - 65.8)  # of the failed ones
    return Measured(
        value=f"{before:.0%} of the attempts are right and {after:.0%} of the rewrites; "
        f"{mended.mean:.0%} of the failed ones are mended, {broken:.1%} of all are broken (two "
        "settings, the exact teacher)",
        judged=held(
            (f"at least {theirs:.0%} of the failed ones mended", mended.low >= theirs),
            ("1% broken at most", broken.high <= 0.01),
            limit=beyond(
                mended.mean, theirs, "the exact teacher of a small world mends nearly all"
            ),
        ),
        numbers={"before": before, "after": after, "mended": mended, "broken": broken},
        records=tuple(found.values()),
    )


def near() -> Measured:
    """How likely a student finds rewrites, and what training on them leaves of its order."""
    found = {setting: _methods(setting) for setting in SETTINGS}
    rows = [row for each in found.values() for row in each.values.rewrites]
    nats = {name: over(getattr(r, f"nll_{name}") for r in rows) for name in ("y_r", "y_o", "y_t")}
    kept = {
        name: over(each.values.row(name).order_kept for each in found.values())
        for name in ("trd", "opd_forward", "opd_reverse")
    }
    lost = max(kept["opd_forward"].high, kept["opd_reverse"].high)
    return Measured(
        value=f"{nats['y_r']:.2f} nats a token on rewrites, {nats['y_o'].mean:.2f} on its own "
        f"attempts, {nats['y_t'].mean:.2f} on the teacher's solutions; {kept['trd'].mean:.0%} keep "
        f"the student's order after TRD, {lost:.0%} at most after OPD",
        judged=held(
            (
                "rewrites likelier than attempts, attempts than solutions, in all four",
                all(r.nll_y_r < r.nll_y_o < r.nll_y_t for r in rows),
            ),
            ("TRD keeps the order, OPD does not", kept["trd"].low > 0.5 > lost),
        ),
        numbers=nats | {f"order_{name}": share for name, share in kept.items()},
        records=tuple(found.values()),
    )


def subset() -> Measured:
    """TRD on all rewrites, and on those alone that turn failure into success."""
    found = {setting: _methods(setting) for setting in SETTINGS}
    losses, apart = {}, []
    for setting, each in found.items():
        for teacher in TEACHERS:
            whole, part = (
                each.values.row(name, teacher=teacher) for name in ("trd", "trd_fail_pass")
            )
            losses[f"{setting}_{teacher}"] = whole.accuracy.estimate - part.accuracy.estimate
            apart.append(part.accuracy.high < whole.accuracy.low)
    told = over(100 * loss for loss in losses.values())
    return Measured(
        value=f"{told:.1f} percentage points lower (two settings, two teachers)",
        judged=held(
            ("lower in all four", min(losses.values()) > 0),
            ("beyond the intervals in all four", all(apart)),
        ),
        numbers=losses,
        records=tuple(found.values()),
    )


# ------------------------------------------------------------------------------------- the table

TABLES = {
    setting: f"python benchmarks/trd_methods.py --setting {setting} --device cuda"
    for setting in SETTINGS
}
BOTH = TABLES["late"]

CLAIMS = (
    Claim(
        id="trd-two-modes",
        claim="after a student's error the teacher's target has two modes: go on, or repair",
        paper_value="in words; no histogram of the weights was found",
        source="Section 4",
        measure=two_modes,
        command=TABLES["small"],
    ),
    fact(
        "trd-onset-gradient",
        facts.onset_gradients,
        _gradients,
        claim="forward KL is ruled by the onset of a repair, reverse KL does not see it",
        paper_value="in words",
        source="Section 4",
    ),
    fact(
        "trd-fragments",
        facts.ladders,
        _ladders,
        claim="a failed attempt shows only the first token of a repair",
        paper_value="in words and sets of pairs",
        source="Section 4",
    ),
    Claim(
        id="trd-epistemic",
        claim="the teacher's mass on onsets is high on attempts and low on rewrites",
        paper_value="6 to 8 per mille against less than 2",
        source="Section 6.4, by notes",
        measure=epistemic,
        command=BOTH,
    ),
    Claim(
        id="trd-prefix-failure",
        claim="distilling along failed attempts teaches onsets that the student cannot continue",
        paper_value="in words",
        source="Section 4",
        measure=prefix_failure,
        command=TABLES["small"],
    ),
    Claim(
        id="trd-token-level",
        claim="clipping, top-k or weights of the loss do not mend it",
        paper_value="in words",
        source="Section 4",
        measure=token_level,
        command=TABLES["small"],
    ),
    Claim(
        id="trd-better",
        claim="TRD is better than distilling along the attempts",
        paper_value="+4.6 on AIME24 (1.7B), +12.8 on AMOBench (4B)",
        source="tables, by notes",
        measure=better(
            "small",
            (("trd", "opd_forward"), ("trd", "opd_reverse")),
            "running sums whose errors show at once, the exact teacher",
        ),
        command=TABLES["small"],
    ),
    Claim(
        id="trd-better-late",
        claim="the same where an error shows late, and with a solution at hand (OPSD)",
        paper_value="OPSD: Pass@16 on AMOBench 41.0 becomes 61.5 (8B)",
        source="tables, by notes",
        measure=better(
            "late",
            (
                ("trd", "opd_forward"),
                ("trd", "opd_reverse"),
                ("trd_opsd", "opsd_reverse"),
            ),
            "running sums with a plan that shows right or wrong at the end, the exact teacher",
        ),
        command=BOTH,
    ),
    Claim(
        id="trd-transitions",
        claim="rewrites mend many failed attempts and break few right ones",
        paper_value="65.8% right becomes 81.4%; 16.0% fail to pass, 0.4% pass to fail",
        source="Section 6.5, by notes",
        measure=transitions,
        command=BOTH,
    ),
    Claim(
        id="trd-near",
        claim="rewrites stay near what the student writes",
        paper_value="in words",
        source="Section 5",
        measure=near,
        command=BOTH,
    ),
    Claim(
        id="trd-subset",
        claim="keeping only rewrites that turn failure into success hurts",
        paper_value="in words",
        source="App. B.3, by notes",
        measure=subset,
        command=BOTH,
    ),
    Claim(
        id="trd-shorter",
        claim="rewrites are about nine times shorter than attempts",
        paper_value="a median of 7.7K tokens becomes 0.88K",
        source="Section 6.5, by notes",
        measure=untested("every right sum of our world has one length"),
    ),
    Claim(
        id="trd-benchmarks",
        claim="scores on mathematics and code",
        paper_value="Pass@16 of 61.5 on AMOBench (8B); gains or ties on HumanEval+ and MBPP+",
        source="tables, by notes",
        measure=untested("it takes language models of billions of parameters and their benchmarks"),
    ),
)

"""Claims of Q-Guided Flow (Zhou et al. 2026, arXiv:2606.11087v1)."""

import functools

from intuitive.qgf.policies import WAYS
from intuitive.qgf.results import fork, ogbench, sweep, trimodal
from intuitive.qgf.trimodal import PRESETS

from ..claim import Claim, Measured, Paper, Spread, fact, over, untested
from ..facts import qgf as facts
from ..rules import Judged, held

# ------------------------------------------------------------------------- the tri-modal flow

PAPER = Paper(
    title="Q-Guided Flow",
    arxiv="2606.11087v1",
    read="not in full: the abstract, a caption and the project page, the rest in public readings "
    "that agree with each other; the authors' code in full",
)
PEAK = PRESETS["A"].peak
THREE = tuple((name, weight) for name in ("ood", "qgf", "bptt") for weight in (1.0, 2.0, 4.0))
GRADIENTS = tuple(
    (name, 1.0) for name in ("ood", "qgf", "qgf_jacobian", "flow_dps", "chain", "bptt")
)


def _row(preset: str, name: str, weight: float, measure: str) -> Spread:
    row = trimodal().values.row(preset, f"{name}, w={weight:g}")
    return over(getattr(seed, measure) for seed in row.seeds)


def three_modes() -> Measured:
    """Where each estimator's actions end, beside the critic's peak, at three weights."""
    mean = {run: _row("A", *run, "mean") for run in THREE}
    mass = {
        run: over(s.masses[1] for s in trimodal().values.row("A", f"{run[0]}, w={run[1]:g}").seeds)
        for run in THREE
        if run[0] == "bptt"
    }
    ends = {
        name: ", ".join(f"{m.mean:.2f}" for (n, _), m in mean.items() if n == name)
        for name in ("ood", "qgf")
    }
    return Measured(
        value=f"peak at {PEAK}; mean actions of OOD {ends['ood']}, of QGF {ends['qgf']} at three "
        f"weights; at least {min(m.mean for m in mass.values()):.0%} of BPTT in the right mode "
        "(our mixture, the peak on an inner mode, a perfect critic)",
        judged=held(
            (
                "OOD is off by more than 0.05 at every weight",
                all(abs(m.mean - PEAK) > 0.05 for (n, _), m in mean.items() if n == "ood"),
            ),
            (
                "QGF arrives within 0.05 at every weight",
                all(abs(m.mean - PEAK) < 0.05 for (n, _), m in mean.items() if n == "qgf"),
            ),
            ("95% of BPTT arrives at every weight", min(m.low for m in mass.values()) >= 0.95),
        ),
        numbers={f"{name}_{weight:g}": m for (name, weight), m in mean.items()}
        | facts.committed_seed("A", THREE),
        records=(trimodal(),),
    )


def unstable() -> Measured:
    """The largest action under BPTT, beside the data's and QGF's."""
    runs = tuple(run for run in THREE if run[0] == "bptt")
    largest = {weight: _row("A", "bptt", weight, "largest") for _, weight in runs}
    data = _row("A", "bc", 1.0, "largest")
    told = ", ".join(f"{spread.mean:.0f}" for spread in largest.values())
    return Measured(
        value=f"largest action {told} under BPTT at three weights, {data.mean:.1f} without "
        "guidance",
        judged=held(
            (
                "ten times the data's at every weight",
                min(s.low for s in largest.values()) > 10 * data.high,
            )
        ),
        numbers={f"bptt_{w:g}": s for w, s in largest.items()}
        | {"data": data}
        | facts.committed_seed("A", runs),
        records=(trimodal(),),
    )


def exploited() -> Measured:
    """Critic, return and distance from the data, where a bump of the critic is not paid for."""
    critic, earned, off = (
        {name: _row("B", name, weight, measure) for name, weight in GRADIENTS}
        for measure in ("critic", "true_return", "off_mode")
    )
    others = [name for name, _ in GRADIENTS if name != "ood"]
    over_said = {name: critic[name].mean - earned[name].mean for name, _ in GRADIENTS}
    return Measured(
        value=f"OOD: Q {critic['ood']:.2f}, return {earned['ood']:.2f}, {off['ood'].mean:.0%} off "
        f"the data; QGF: Q {critic['qgf'].mean:.2f}, return {earned['qgf'].mean:.2f}, "
        f"{off['qgf'].mean:.0%} (our mixture, a bump that only noise reaches)",
        judged=held(
            ("OOD has the highest Q", critic["ood"].low > max(critic[n].high for n in others)),
            (
                "its Q promises most over its return",
                over_said["ood"] > max(over_said[n] for n in others),
            ),
            ("it earns less than QGF", earned["ood"].high < earned["qgf"].low),
            ("it lies farthest from the data", off["ood"].low > max(off[n].high for n in others)),
        ),
        numbers={f"q_{n}": s for n, s in critic.items()}
        | {f"return_{n}": s for n, s in earned.items()}
        | facts.committed_seed("B", GRADIENTS),
        records=(trimodal(),),
    )


def weights() -> Measured:
    """Return over 64 weights, and success over seven in the fork world."""
    found, world = sweep(), fork()
    returns = found.values.estimators["qgf"].true_return
    best = max(range(len(returns)), key=returns.__getitem__)
    curve = world.values.curve("qgf")
    success = [over(curve.at(w, world.values.scored)) for w in curve.weights]
    peak = max(range(len(success)), key=lambda i: success[i].mean)
    return Measured(
        value=f"return {returns[0]:.2f}, {returns[best]:.2f} and {returns[-1]:.2f} at w = "
        f"{found.values.weights[0]:.2g}, {found.values.weights[best]:.2g} and "
        f"{found.values.weights[-1]:.2g} (three modes); success {success[0].mean:.2f}, "
        f"{success[peak].mean:.2f} and {success[-1].mean:.2f} at w = {curve.weights[0]:g}, "
        f"{curve.weights[peak]:g} and {curve.weights[-1]:g} (fork world)",
        judged=held(
            ("three modes: a peak in between", returns[best] > 1.1 * max(returns[0], returns[-1])),
            (
                "fork world: a peak in between",
                success[peak].low > max(success[0].high, success[-1].high),
            ),
        ),
        numbers={
            "first": returns[0], "best": returns[best], "last": returns[-1],
            "success_first": success[0], "success_best": success[peak], "success_last": success[-1],
        },
        records=(found, world),
    )  # fmt: skip


def _neighbours(found: dict[str, float]) -> tuple[str, Judged]:
    told = {
        preset: ", ".join(f"{found[f'{preset}_{name}']:.2f}" for name in facts.ORDER)
        for preset in facts.PLACES
    }
    pairs = list(zip(facts.ORDER, facts.ORDER[1:], strict=False))
    return (
        f"cosines of QGF, chain, Jacobian and BPTT: {told['A']} and {told['B']} (three modes, two "
        "critics, three seeds; few pairs hold most of a length)",
        held(
            *(
                (f"{one} above {other} in preset {p}", found[f"{p}_{one}"] > found[f"{p}_{other}"])
                for p in facts.PLACES
                for one, other in pairs
            )
        ),
    )


# ----------------------------------------------------------------------------- the fork world


def jacobian() -> Measured:
    """QGF against the version that keeps the Jacobian, at equal weights and at its own."""
    found = fork()
    values, small = found.values, (0.1, 0.3, 1.0, 3.0)
    ours, theirs = (
        {w: over(values.curve(way).at(w, values.scored)) for w in small}
        for way in ("qgf", "qgf_jacobian")
    )
    wins, own = values.count_better("qgf", "qgf_jacobian"), len(values.scored)
    return Measured(
        value=f"success {ours[1.0]:.2f} against {theirs[1.0]:.2f} at w = 1; each at its own weight "
        f"QGF returns more in {wins} of {own} seeds (fork world)",
        judged=held(
            (
                "better on average at every equal weight up to 3",
                all(ours[w].mean > theirs[w].mean for w in small),
            ),
            ("better in every seed, each at its own weight", wins == own),
        ),
        numbers={f"qgf_{w:g}": s for w, s in ours.items()}
        | {f"jacobian_{w:g}": s for w, s in theirs.items()}
        | {"wins": wins},
        records=(found,),
    )


def against_all() -> Measured:
    """QGF against every other way to act, each at the weight chosen on other seeds."""
    found = fork()
    values = found.values
    others = [way for way in values.chosen if way not in ("qgf", "bc")]
    wins = {way: values.count_better("qgf", way) for way in others}
    seeds, mine = len(values.scored), over(values.score("qgf"))
    ahead = [WAYS[way].label for way, n in wins.items() if n == seeds]
    behind = [WAYS[way].label for way, n in wins.items() if n == 0]
    best = max(others, key=lambda way: over(values.score(way)).mean)
    return Measured(
        value=f"success {mine:.2f}, {WAYS[best].label} {over(values.score(best)):.2f}; in every "
        f"seed QGF returns more than {', '.join(ahead) or 'none'} and less than "
        f"{', '.join(behind) or 'none'} (fork world, {seeds} seeds)",
        judged=held(
            ("above every other way in every seed", len(ahead) == len(others)),
            ("below no other way in every seed", not behind),
        ),
        numbers={f"wins_over_{way}": n for way, n in wins.items()} | {"success": mine},
        records=(found,),
    )


def best_of_n() -> Measured:
    """QGF against the best of 4 and of 16 samples, in success and in time."""
    found = fork()
    values = found.values
    right = {way: over(values.score(way)) for way in ("qgf", "best_of_n_4", "best_of_n_16")}
    time = {way: values.relative_time(way) for way in right}
    won = values.count_better("qgf", "best_of_n_4") == len(values.scored)
    caught = right["best_of_n_16"].mean / right["qgf"].mean
    return Measured(
        value=f"success {right['qgf']:.2f}, best of 4 {right['best_of_n_4']:.2f}, best of 16 "
        f"{right['best_of_n_16']:.2f}; time {time['qgf']:.1f}, {time['best_of_n_4']:.1f} and "
        f"{time['best_of_n_16']:.1f} times that of one sample ({values.decision_device})",
        judged=held(
            ("more than the best of 4 in every seed", won),
            ("the best of 16 within 5%", abs(caught - 1) < 0.05),
            ("the best of 16 takes three times as long", time["best_of_n_16"] > 3 * time["qgf"]),
        ),
        numbers=right | {f"time_{way}": t for way, t in time.items()},
        records=(found,),
    )


def two_tasks() -> Measured:
    """What two OGBench tasks of one seed came to, which decides nothing."""
    found = ogbench()
    told, numbers = [], {}
    for task, runs in found.values.tasks.items():
        success = {row.way: row.success for row in runs.scored}
        best = max((way for way in success if way != "qgf"), key=success.__getitem__)
        told.append(f"{task} QGF {success['qgf']:.2f}, {best} {success[best]:.2f}")
        numbers |= {f"{task}_{way}": share for way, share in success.items()}
    return Measured(
        value=f"success on two other tasks, one seed: {'; '.join(told)}",
        judged=Judged(
            "not testable here",
            "it takes twenty tasks, ten seeds and a hundred million transitions; ours are two "
            "smaller tasks and one seed",
        ),
        numbers=numbers,
        records=(found,),
    )


# ------------------------------------------------------------------------------------- the table

FLOW = "python benchmarks/qgf_trimodal.py"
WORLD = "python benchmarks/qgf_fork.py --device cuda"

CLAIMS = (
    Claim(
        id="qgf-three-modes",
        claim="in a flow to three modes QGF and BPTT reach the peak; OOD is biased at every weight",
        paper_value="a picture at three weights, without numbers",
        source="Fig. 2",
        measure=three_modes,
        command=FLOW,
        quick=functools.partial(facts.first_seed, "A", THREE),
        within=1e-3,
    ),
    Claim(
        id="qgf-bptt-unstable",
        claim="backpropagation through the chain becomes highly unstable",
        paper_value="a picture, without numbers",
        source="Fig. 14",
        measure=unstable,
        command=FLOW,
        quick=functools.partial(
            facts.first_seed, "A", tuple(run for run in THREE if run[0] == "bptt")
        ),
        within=1e-3,
    ),
    fact(
        "qgf-noise",
        facts.neighbours,
        _neighbours,
        claim="QGF's gradient is the least sensitive to noise, then chain, Jacobian and BPTT",
        paper_value="an order of cosines, 20 tasks, 4 seeds",
        source="Fig. 3",
        within=1e-3,
    ),
    Claim(
        id="qgf-highest-q",
        claim="OOD has the highest Q, poor success, and lies farthest from the data",
        paper_value="bars, without numbers",
        source="Fig. 4, App. D",
        measure=exploited,
        command=FLOW,
        quick=functools.partial(facts.first_seed, "B", GRADIENTS),
        within=1e-3,
    ),
    Claim(
        id="qgf-weight",
        claim="success rises with the weight, then falls as actions leave the data",
        paper_value="a curve, without numbers",
        source="Fig. 20",
        measure=weights,
        command=f"{FLOW} --device cuda",
    ),
    Claim(
        id="qgf-jacobian",
        claim="leaving the Jacobian out is better than keeping it",
        paper_value="above QGF-Jacobian, 20 tasks, 10 seeds",
        source="Fig. 5, Eqs. 8 and 9",
        measure=jacobian,
        command=WORLD,
    ),
    Claim(
        id="qgf-above-all",
        claim="QGF is above all other test-time methods",
        paper_value="bars, 20 tasks, 10 seeds",
        source="Fig. 5",
        measure=against_all,
        command=WORLD,
    ),
    Claim(
        id="qgf-best-of-n",
        claim="QGF beats the best of 4 samples; the best of 16 catches up and costs much more",
        paper_value="bars, without numbers",
        source="Figs. 6 and 7",
        measure=best_of_n,
        command=WORLD,
    ),
    Claim(
        id="qgf-offline-rl",
        claim="level with the best method that trains, on twenty tasks",
        paper_value="bars at 500,000 steps, 10 seeds, 100 million transitions",
        source="Fig. 5",
        measure=two_tasks,
        command="python benchmarks/qgf_ogbench.py --evaluate build/ogbench --task cube-single",
    ),
    Claim(
        id="qgf-scaling",
        claim="larger actors help QGF, where a policy trained against a critic stays flat",
        paper_value="about 4 times from 0.8 to 3.2 million parameters on cube-triple",
        source="Fig. 9",
        measure=untested("it takes the task cube-triple with a hundred million transitions"),
    ),
)

"""The QGF lesson's check-yourself questions; every answer is computed when it is asked for."""

from dataclasses import replace

from intuitive.qgf.experiments import trimodal
from intuitive.qgf.experiments.trimodal import Run
from intuitive.qgf.guidance import ESTIMATOR_NAMES
from intuitive.qgf.sweep import best_at, least_kl, sweep_weights
from intuitive.qgf.trimodal import MEANS, PRESETS, TrimodalParams

from ..kit import CheckYourself, chosen, fixed, percent

ENOUGH = 0.95  # share of particles in the peak's own mode: an estimator that does not miss


def _runs(params: TrimodalParams, first: str, second: str) -> tuple[Run, ...]:
    return trimodal.run(replace(params, estimator=first, second=second)).runs


def missing_peak() -> CheckYourself:
    """A perfect critic: for which place of its peak does OOD find the peak's mode?"""

    def answer() -> tuple[int, str]:
        preset = PRESETS["A"]
        inner, outer = MEANS["A"][1:]
        shares, ends = {}, {}
        for peak in (inner, outer):
            runs = _runs(replace(preset, peak=peak), "ood", "qgf")
            place = MEANS["A"].index(peak)
            ends[peak] = runs[0].actions.mean()
            shares[peak] = [run.mode_masses[place] for run in runs]
        hit = [shares[peak][0] >= ENOUGH for peak in (inner, outer)]
        right = {(True, False): 0, (False, True): 1, (True, True): 2}.get((hit[0], hit[1]), 3)
        return right, (
            f"With the peak at {chosen(inner)} OOD brings {percent(shares[inner][0])} of "
            f"{preset.n_particles} particles into its mode (QGF {percent(shares[inner][1])}), with "
            f"the peak at {chosen(outer)} {percent(shares[outer][0])}. A noisy action stands near "
            "t times the clean one, so OOD, which pulls the noisy action to a*, decodes to about "
            "a*/t: too far out. Beyond the inner mode lies the wrong one (mean "
            f"{fixed(ends[inner])}); beyond the outer one there is none, and the flow holds the "
            f"particles (mean {fixed(ends[outer])}). The critic makes no error in either case."
        )

    return CheckYourself(
        name="qgf_missing_peak",
        question=(
            "Preset A, w = 1: the critic is perfect, its peak stands on a mode. For which mode "
            "does the OOD gradient bring nearly all particles into it?"
        ),
        choices=(
            "The inner mode, 0.8",
            "The outermost mode, 2",
            "Both",
            "Neither",
        ),
        answer=answer,
    )


def optimiser() -> CheckYourself:
    """More reward and farther from the tilt at the same w: which estimator optimises?"""

    names = ("exact", "flow_dps", "qgf")

    def answer() -> tuple[int, str]:
        preset = replace(PRESETS["B"], n_steps=20)
        by_name = {run.estimator: run for run in _runs(preset, "exact", "flow_dps")}
        by_name["qgf"] = _runs(preset, "qgf", "none")[0]
        found = [by_name[name] for name in names]
        front = sweep_weights(preset, (preset.weight,), ()).by_return
        right = max(range(len(found)), key=lambda i: found[i].return_mean)
        best = found[right]
        listed = "; ".join(
            f"{ESTIMATOR_NAMES[run.estimator]} {fixed(run.return_mean)} at W1 {fixed(run.w1)}"
            for run in found
        )
        return right, (
            f"Return and distance to the exact tilt: {listed}. "
            f"{ESTIMATOR_NAMES[best.estimator]} has the highest return and is "
            f"{'also' if best.w1 == max(run.w1 for run in found) else 'not'} the farthest from "
            f"the distribution that w asks for. The frontier decides: it spends "
            f"{fixed(best.kl_to_bc, 1)} nats, for which {fixed(best_at(front, best.kl_to_bc))} is "
            f"possible, and its {fixed(best.return_mean)} could be had for "
            f"{fixed(least_kl(front, best.return_mean), 1)}. A high return at the same w shows no "
            "better sample; it shows more optimisation."
        )

    return CheckYourself(
        name="qgf_optimiser",
        question=(
            "Preset B, w = 1, T = 20: three estimators aim at the same tilted distribution. Which "
            "is an optimiser rather than a sampler: more return than the tilt, and farthest from "
            "it?"
        ),
        choices=tuple(ESTIMATOR_NAMES[name] for name in names),
        answer=answer,
    )


def two_peaks() -> CheckYourself:
    """A critic on which QGF loses against doing nothing, and who survives it."""

    def answer() -> tuple[int, str]:
        preset = replace(PRESETS["C"], n_candidates=16)
        nothing, qgf = _runs(preset, "bc", "qgf")
        best = _runs(preset, "best_of_n", "none")[0]
        worse, survives = (
            qgf.return_mean < nothing.return_mean,
            best.return_mean > nothing.return_mean,
        )
        right = (1 if survives else 2) if worse else 0
        return right, (
            f"BC earns {fixed(nothing.return_mean)}, QGF {fixed(qgf.return_mean)}, best of 16 "
            f"{fixed(best.return_mean)}. At t = 0 every one-step estimate is the mean of the data, "
            "so the whole cloud follows the gradient there, to the right, where the low broad "
            f"bump is: {percent(qgf.mode_masses[-1])} end in that mode. Best of 16 tries whole "
            f"samples and compares values, for {best.passes} network passes per action against "
            "QGF's "
            f"{qgf.passes}."
        )

    return CheckYourself(
        name="qgf_two_peaks",
        question=(
            "Preset C, w = 4, T = 20: a narrow high peak on the left mode, a broad low one on the "
            "right. How does QGF compare with doing nothing (BC), and does best of 16 help?"
        ),
        choices=(
            "QGF earns more than BC",
            "QGF earns less than BC; best of 16 earns more",
            "QGF and best of 16 both earn less than BC",
        ),
        answer=answer,
    )

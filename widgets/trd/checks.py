"""The TRD lesson's check-yourself questions; every answer is computed when it is asked for."""

from intuitive.trd.canonical import CanonicalParams, canonical_order
from intuitive.trd.experiments import trajectory, two_modes

from ..kit import CheckYourself, fixed, number, percent
from .styles import told


def says_wait_and_fails() -> CheckYourself:
    """A perfect teacher says WAIT: what is the student never taught?"""

    def answer() -> tuple[int, str]:
        with told("models"):
            found = trajectory.run(trajectory.TrajectoryParams(step=1, written=2, repair=0.5))
        first, ladder = found.ladder[0], found.ladder
        shared = sum(rung.shared for rung in ladder)
        with_wait = sum("WAIT" in rung.opd_context for rung in ladder)
        again = sum(rung.boundary and rung.onset_mass > 0.25 for rung in ladder[1:])
        right = 0 if not found.y_t.correct else 1 if not first.shared else 2 if not with_wait else 3
        return right, (
            f"The repair needs {len(ladder)} pairs of context and next token; the frozen attempt "
            f"supplies {shared} of them, the one that ends in WAIT (teacher's mass "
            f"{fixed(first.onset_mass)}). {with_wait} of its contexts hold a WAIT, so what follows "
            f"one is never taught; at {again} later step boundaries the teacher "
            "only offers WAIT again. "
            "The student learns to interrupt itself and then stands in a context it has never "
            "seen."
        )

    return CheckYourself(
        name="trd_says_wait_and_fails",
        question=(
            "λ = 0.5, another failed attempt, a perfect teacher. After forward OPD in one round "
            "the student says WAIT and still fails. Why?"
        ),
        choices=(
            "The teacher's solutions are not right themselves",
            "WAIT is not among the pairs that OPD supplies",
            "No context that OPD supplies holds a WAIT, so its continuation is never taught",
            "WAIT stands in the contexts, but too rarely",
        ),
        answer=answer,
    )


def opposite_failures() -> CheckYourself:
    """A hundred times less mass on the onset: what becomes of either push?"""

    def answer() -> tuple[int, str]:
        pushes = {}
        for onset in (1e-2, 1e-4):
            found = two_modes.run(two_modes.TwoModesParams(repair=0.6, onset=onset))
            for name in ("forward_kl", "reverse_kl"):
                charge = found.charge(name)
                pushes[name, onset] = (-charge.gradient[found.onset_token], charge.loss)
        ratio = {n: pushes[n, 1e-4][0] / pushes[n, 1e-2][0] for n in ("forward_kl", "reverse_kl")}
        kept = {name: value > 0.5 for name, value in ratio.items()}
        right = {(True, False): 0, (False, True): 1, (False, False): 2}.get(
            (kept["forward_kl"], kept["reverse_kl"]), 3
        )
        told_pushes = "; ".join(
            f"{name.split('_')[0]} KL from {number(pushes[name, 1e-2][0])} to "
            f"{number(pushes[name, 1e-4][0], 2)} (loss {fixed(pushes[name, 1e-2][1])} to "
            f"{fixed(pushes[name, 1e-4][1])} nats)"
            for name in ("forward_kl", "reverse_kl")
        )
        return right, (
            f"Push on the logit of WAIT: {told_pushes}. Forward KL's gradient is student minus "
            "teacher, ε − λ, and its loss grows with λ ln(λ/ε): it pays for the missing mode. "
            "Reverse KL weights everything by the student's own mass: at small ε the repair is "
            "invisible to it, and what it charges is for going on."
        )

    return CheckYourself(
        name="trd_opposite_failures",
        question=(
            "The teacher puts 0.6 on WAIT. The student's mass there falls from 0.01 to 0.0001. "
            "What becomes of the push on WAIT?"
        ),
        choices=(
            "Under forward KL it stays, under reverse KL it vanishes",
            "Under reverse KL it stays, under forward KL it vanishes",
            "It vanishes under both",
            "It stays under both",
        ),
        answer=answer,
    )


def just_sft() -> CheckYourself:
    """How free must the order of solutions be for TRD to differ from SFT?"""

    shares = (1.0, 0.5, 0.0)

    def answer() -> tuple[int, str]:
        with told("models"):
            found = [canonical_order(CanonicalParams(left_to_right=share)) for share in shares]
        right = min(range(len(found)), key=lambda place: found[place].gradient_difference)
        listed = "; ".join(
            f"{percent(share)} from left to right: {percent(one.same_trace)} of the rewrites equal "
            "y_T, "
            f"the gradients differ by {percent(one.gradient_difference, 1)}"
            for share, one in zip(shares, found, strict=True)
        )
        return right, (
            f"{listed}. With a single way to write a solution the rewrite has nothing to keep: "
            "y_r is y_T, and TRD is SFT with soft labels. Where attempts differ in style y_r keeps "
            "it. TRD is not needed where attempts are drawn anew often and errors show at the "
            "first wrong token, whose prefix is still right: there token-level OPD does as well."
        )

    return CheckYourself(
        name="trd_just_sft",
        question=(
            "Students and teacher write their steps from left to right always, half of the time, "
            "or in random order. When is TRD's first gradient that of SFT on the teacher's "
            "solutions?"
        ),
        choices=(
            "Always from left to right",
            "Half of the time",
            "In random order",
        ),
        answer=answer,
    )

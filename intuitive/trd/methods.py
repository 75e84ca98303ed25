"""Ways to teach a student, as data.

A method says which trajectory the student is trained along (its own rollout y_o, the teacher's
rewrite y_r, the teacher's own solution y_T), what the teacher sees when it scores, and what the
difference costs.

Source: arXiv:2606.08432, sections 2 to 5. Differs: OPSD's teacher there is the first student
itself with a solution in its context; here it is the teacher of the setting with that context.
"""

from dataclasses import dataclass

from intuitive.common.checks import whole_fields
from intuitive.common.settings import Settings

from .divergences import DIVERGENCES, Divergence

TRAJECTORIES = ("y_o", "y_r", "y_T")
CONTEXTS = ("x", "refine")
SUBSETS = ("all", "wrong", "right", "fail_pass")

HARD = "sft"  # the loss that takes tokens as labels: no divergence, nothing is scored
LOSSES = {  # names of losses, as committed runs hold them, and of their divergences
    "forward": "forward_kl",
    "reverse": "reverse_kl",
    "jensen_shannon": "jensen_shannon",
    "forward_clip": "clipped_forward_kl",
    "forward_entropy": "entropy_weighted_forward_kl",
    "reverse_topk": "topk_reverse_kl",
    "policy_gradient": "policy_gradient",
    "monte_carlo_forward": "monte_carlo_forward",
    HARD: "",
}


@dataclass(frozen=True, kw_only=True)
class Method(Settings):
    """One way to teach."""

    trajectory: str = "y_r"  # y_o, y_r or y_T
    context: str = "refine"  # what the teacher sees as it scores: x, or refine: x and y_o
    privileged: bool = False  # and a reference solution, whenever it reads or writes (OPSD)
    loss: str = "forward"  # a name in LOSSES
    cap: float = 0.1  # nats, of forward_clip
    beta: float = 0.5  # of jensen_shannon
    top_k: int = 4  # of reverse_topk
    tail: bool = False  # likewise
    subset: str = "all"  # rollouts trained on: all, wrong, right, fail_pass (wrong y_o, right y_r)
    first_tokens: int = 0  # train on so many tokens of a trajectory only; 0 is all
    rollouts: int = 1  # per problem and round
    keep_order: bool = True  # the rewrite keeps the draft's order; False for the exact teacher only
    corrupted: float = 0.0  # share of trajectories with one number changed

    def __post_init__(self) -> None:
        for name, allowed in (
            ("trajectory", TRAJECTORIES),
            ("context", CONTEXTS),
            ("loss", tuple(LOSSES)),
            ("subset", SUBSETS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be one of {', '.join(allowed)}."
                )
        whole_fields(self, rollouts=1, first_tokens=0, top_k=1)
        if self.cap <= 0 or not 0 <= self.beta <= 1 or not 0 <= self.corrupted <= 1:
            raise ValueError(
                f"cap={self.cap} must be above 0, beta={self.beta} lie in [0, 1] and "
                f"corrupted={self.corrupted} be a share in [0, 1]."
            )

    @property
    def divergence(self) -> Divergence:
        """What is charged for; hard labels have none."""
        return DIVERGENCES[
            LOSSES[self.loss] + "_tail" * (self.tail and self.loss == "reverse_topk")
        ]


def _opd(**settings: object) -> Method:
    return Method(trajectory="y_o", context="x", **settings)


METHODS: dict[str, Method] = {
    "opd_forward": _opd(),
    "opd_forward_entropy": _opd(loss="forward_entropy"),
    "opd_forward_clip": _opd(loss="forward_clip"),
    "opd_jensen_shannon": _opd(loss="jensen_shannon"),
    "opd_reverse": _opd(loss="reverse"),
    "opd_reverse_topk": _opd(loss="reverse_topk"),
    "opd_reverse_topk_tail": _opd(loss="reverse_topk", tail=True),
    "opd_policy_gradient": _opd(loss="policy_gradient"),
    "opsd_forward": _opd(privileged=True),
    "opsd_reverse": _opd(privileged=True, loss="reverse"),
    "sft_teacher": Method(trajectory="y_T", context="x", loss=HARD),
    "sft_refined": Method(loss=HARD),
    "trd": Method(),
    "trd_from_x": Method(context="x"),
    "trd_reverse": Method(loss="reverse"),
    "trd_opsd": Method(privileged=True),
}
ABLATIONS: dict[str, Method] = {
    "opd_forward_x3": _opd(rollouts=3),
    "opd_reverse_x3": _opd(rollouts=3, loss="reverse"),
    "opd_forward_first_6": _opd(first_tokens=6),
    "opd_monte_carlo_forward": _opd(loss="monte_carlo_forward"),
    "trd_wrong_only": Method(subset="wrong"),
    "trd_right_only": Method(subset="right"),
    "trd_fail_pass": Method(subset="fail_pass"),
    "trd_corrupted_30": Method(corrupted=0.3),
    "trd_any_order": Method(keep_order=False),
}

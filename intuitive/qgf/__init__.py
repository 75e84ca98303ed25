"""Q-Guided Flow: a behaviour-cloned flow policy that follows a critic's gradient as it samples.

Map of the rooms, in reading order:
    checks.py      what callers may pass
    mixture.py     a Gaussian mixture and its flow from noise, in closed form
    critics.py     critics as formulas, with the curvature that bounds Euler steps
    tilting.py     the exact optimum p(x) e^{wQ(x)}, distances to it, and its posterior means
    tilting_vectors.py  the same optimum for actions that are vectors
    guidance.py    every estimator as a function of one signature
    sampling.py    the one Euler loop
    trimodal.py    the settings of the 1D flow to three modes, and presets A, B, C
    sweep.py       estimators over the weight, and the front that nobody crosses
    model.py       velocity and critic networks
    learn.py       fitting them to samples, in one and two dimensions
    ring.py        modes on a ring in two dimensions: the flow, nets for it, a reward
    fork.py        a small control task with four goals
    iql.py         action chunks, critic, value and policy from offline data
    policies.py    guided policies in the fork world
    ogbench_tasks.py  the same on OGBench tasks
    results.py     what the committed runs found
    experiments/   one file per explorer
    exercise.py    checks for the lesson's "your turn"

There is no fast.py: the closed-form field and the small networks are fast as they stand.

Source: Zhou et al. 2026, arXiv:2606.11087.
"""

from intuitive.common.lazy import front_door

_HOME = {
    "GaussianMixture": "mixture",
    "GaussianBumps": "critics",
    "QuadraticCritic": "critics",
    "tilt": "tilting",
    "wasserstein1": "tilting",
    "ESTIMATORS": "guidance",
    "ESTIMATOR_NAMES": "guidance",
    "GuidedSample": "sampling",
    "sample_guided": "sampling",
    "TrimodalParams": "trimodal",
}
_ROOMS = (
    "critics",
    "exercise",
    "experiments",
    "fork",
    "guidance",
    "iql",
    "learn",
    "mixture",
    "model",
    "ogbench_tasks",
    "policies",
    "results",
    "ring",
    "sampling",
    "sweep",
    "tilting",
    "tilting_vectors",
    "trimodal",
)
__all__ = [*_HOME, *_ROOMS]
__getattr__, __dir__ = front_door(__name__, rooms=_ROOMS, homes=_HOME)

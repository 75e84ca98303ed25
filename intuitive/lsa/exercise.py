"""Checks for the lesson's "your turn": the reader chooses what is fetched at a trigger.

    def choose(logits, most):
        '''Ids of at most `most` chunks to fetch, in ascending order.'''

    check_choose(choose)
    replay_choose(choose, recording)

`logits` is a list with one list per target layer: a number for each old chunk, -inf where there is
none to fetch.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from intuitive.common.exercise import Check, ExerciseReport, Tried
from intuitive.common.inputs import public

from .arms import Policy, Residency, replay
from .recording import Recording
from .selection import above, always_resident, best

Choose = Callable[[list[list[float]], int], list[int]]

_INF = math.inf
_CASES = (
    (
        "A chunk is fetched if one layer gives it a probability above a half, a logit above 0.",
        [[1.0, -2.0, -1.0, 0.5], [-3.0, -1.0, 2.0, -4.0]],
        4,
    ),
    (
        "Exactly a half is not enough: where no head fires the logit is 0.",
        [[0.0, 0.3, 0.0], [0.0, -1.0, 0.0]],
        3,
    ),
    (
        "A chunk that is not there, -inf, is never fetched.",
        [[-_INF, 2.0, -_INF], [-_INF, 1.0, -_INF]],
        2,
    ),
    (
        "At most `most` chunks are fetched: those with the greatest logit of any layer.",
        [[3.0, 2.0, 1.0, -3.0], [-2.0, 2.5, 0.2, 4.0]],
        2,
    ),
    (
        "Of equal logits the lower chunk goes first.",
        [[1.0, 2.0, 2.0, 2.0]],
        2,
    ),
)
NOTHING_RETURNED = "choose returned None; return a list of chunk ids, such as [0, 3]."
WRITE_FIRST = (
    "choose fetches no chunk. Return first every chunk to which some layer gives a logit above 0."
)


def chosen(logits: Float[Tensor, "layers chunks"], most: int) -> Bool[Tensor, " chunks"]:
    """What the exercise asks for: above a half in some layer, and at most `most` of these."""
    return above(logits, 0.5) & best(logits, most)


class NotIds(ValueError):
    """What a rule returned is no list of chunk ids."""


def ids_of(returned: Any) -> list[int]:
    """Chunk ids as a rule returned them, in its order.

    Raises:
        NotIds: nothing was returned, or something that is no list of whole numbers.
    """
    if returned is None:
        raise NotIds(NOTHING_RETURNED)
    try:
        if isinstance(returned, str):
            raise TypeError
        return [operator.index(chunk) for chunk in returned]
    except TypeError:
        raise NotIds(
            f"choose returned {returned!r}; return a list of chunk ids, whole numbers such as "
            "[0, 3]."
        ) from None


def _refuse_odd(ids: list[int], there: Bool[Tensor, " chunks"], most: int, step: int) -> None:
    """Say which of a rule's chunks may not be fetched at a step, and why."""
    n = len(there)
    for chunk in ids:
        if not 0 <= chunk < n:
            raise ValueError(f"chunk {chunk} was chosen at step {step}; ids go from 0 to {n - 1}.")
        if ids.count(chunk) > 1:
            raise ValueError(f"chunk {chunk} was chosen twice at step {step}; name each one once.")
        if not there[chunk]:
            raise ValueError(
                f"chunk {chunk} was chosen at step {step}, where its logits are -inf: it is "
                "resident anyhow or not written yet; leave it out."
            )
    if len(ids) > most:
        raise ValueError(f"{len(ids)} chunks were chosen at step {step}; choose at most {most}.")


def check_choose(choose: Choose) -> ExerciseReport:
    """Try the reader's `choose(logits, most)` against the package's own choice.

    Whatever the function does, nothing is raised: what goes wrong stands in the report.
    """
    tried = Tried(choose, lambda logits, most: [])
    checks = [_check(tried, *case) for case in _CASES]
    if all(check.finding == NOTHING_RETURNED for check in checks):  # said once is enough
        checks[1:] = [replace(check, finding="") for check in checks[1:]]
    return tried.report(tuple(checks), WRITE_FIRST)


def _check(choose: Choose, rule: str, logits: list[list[float]], most: int) -> Check:
    there = torch.tensor(logits, dtype=torch.float32, device="cpu")
    want = chosen(there, most).nonzero().flatten().tolist()
    given = f"choose({logits}, {most})"
    try:
        returned = choose([list(row) for row in logits], most)
        if returned is None:
            return Check(rule, False, NOTHING_RETURNED)
        got = ids_of(returned)
    except NotImplementedError:
        return Check(rule, False, "Nothing is written yet.")
    except NotIds as error:
        return Check(rule, False, f"{given}: {error}")
    except Exception as error:  # a reader's function may fail in any way
        return Check(rule, False, f"{given} raised {type(error).__name__}: {error}")
    if got == want:
        return Check(rule, True, "")
    return Check(rule, False, f"{given} should be {want}, not {got}.")


@dataclass(frozen=True)
class Replayed:
    """How a choice served a recorded decode, beside others; its text is stable."""

    recording: str
    most: int
    yours: Residency | None  # None: the function failed, `finding` says how
    package: Residency
    newest: Residency  # as many chunks as the package's choice, the newest old ones
    finding: str = ""

    def __repr__(self) -> str:
        lines = [f"{self.recording}, at most {self.most} chunks of each window:"]
        for name, found in (
            ("yours", self.yours),
            ("the package's", self.package),
            ("the newest", self.newest),
        ):
            told = self.finding
            if found is not None:
                told = (
                    f"{found.golden_recall:4.0%} of the needed chunks were there; "
                    f"{found.kept:5.1%} of the old ones on the GPU; "
                    f"{int(found.chosen.sum()):4d} old ones copied"
                )
            lines.append(f"  {name:14s} {told}")
        return "\n".join(lines)


@public(most=0)
@torch.inference_mode()
def replay_choose(
    choose: Choose, recording: Recording, *, most: int = 32, policy: Policy | None = None
) -> Replayed:
    """Let the reader's function decide at every trigger of a recorded decode.

    Whatever the function does, nothing is raised: what goes wrong stands in the report.

    Args:
        choose: gets the logits of all target layers at a trigger and the greatest number of
            chunks. What is resident anyhow stands as missing, so that it takes no place.
        recording: of the decode.
        most: chunks that it may fetch for one window.
        policy: lookahead, tail and sink; the usual ones if None.
    """
    policy = Policy() if policy is None else policy

    def package(logits: Float[Tensor, "layers chunks"]) -> list[int]:
        return chosen(logits, most).nonzero().flatten().tolist()

    def newest(logits: Float[Tensor, "layers chunks"]) -> list[int]:
        there = (logits.amax(0) > -torch.inf).nonzero().flatten().tolist()
        count = len(package(logits))
        return there[len(there) - count :]

    found = {
        name: replay_verdicts(rule, recording, policy, most=most)
        for name, rule in (("package", package), ("newest", newest))
    }
    try:
        yours = replay_verdicts(lambda z: choose(z.tolist(), most), recording, policy, most=most)
    except Exception as error:  # a reader's function may fail in any way
        finding = f"not replayed: {error}"
        return Replayed(recording.name, most, None, finding=finding, **found)
    return Replayed(recording.name, most, yours, **found)


@torch.inference_mode()
def replay_verdicts(
    rule: Callable[[Float[Tensor, "layers chunks"]], list[int]],
    recording: Recording,
    policy: Policy,
    *,
    most: int,
) -> Residency:
    """Replay a recording in which a rule of the caller's decides, in the place of the indexer.

    Args:
        rule: from the logits at a trigger to the chunks that are fetched; those that are resident
            anyhow, or not there, have -inf in every layer.
        recording: of the decode.
        policy: lookahead, lag, layers, tail and sink.
        most: chunks that the rule may name.

    Raises:
        ValueError: the rule names no list of chunks, too many, one twice, or one with -inf.
    """
    config, n = policy.config(recording.chunk_size), recording.n_chunks
    first = int(recording.closed[0])
    verdicts = recording.scores.clone()
    for step in range(0, recording.n_steps, policy.lookahead):
        closed = int(recording.closed[step])
        always = always_resident(closed, n, config, decoded_from=first)
        fixed = always | (torch.arange(n, device="cpu") >= closed)
        logits = recording.scores[step, : policy.layers].masked_fill(fixed, -torch.inf)
        named = rule(logits)
        ids = ids_of(named)
        _refuse_odd(ids, (logits > -torch.inf).any(0), most, step)
        verdicts[step] = -1.0
        verdicts[step, :, ids] = 1.0
    told = replace(recording, scores=verdicts)
    return replay(told, replace(policy, arm="lsa", rule="threshold", size=None, threshold=0.5))

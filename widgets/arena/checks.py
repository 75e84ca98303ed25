"""The arena's check-yourself questions; every answer is computed when it is asked for."""

from intuitive.arena import results
from intuitive.arena.results import NAMES

from ..kit import CheckYourself, percent
from .one_question_figures import shown_length
from .styles import label

TIGHT = 16  # tokens for one entry


def the_question_first() -> CheckYourself:
    """What is it worth to know the question before the memory is shortened?"""

    def answer() -> tuple[int, str]:
        contest = results.contest()
        n = shown_length(contest)
        asked, blind = (
            contest.score(method, TIGHT, n=n).mean for method in ("snapkv", "snapkv_blind")
        )
        gap = asked - blind
        right = 0 if gap < 0.1 else 1 if gap < 0.3 else 2
        return right, (
            f"Over the tasks in texts of {n} tokens, one entry in {TIGHT}: {percent(asked)} when "
            f"the question is in sight, {percent(blind)} when the last words of the text are."
        )

    return CheckYourself(
        name="arena_the_question_first",
        question=(
            "SnapKV keeps what the last tokens attend to. With the question among them, and "
            f"without it, at one entry in {TIGHT}: how far do the shares right lie apart?"
        ),
        choices=("less than 10 points", "10 to 30 points", "more than 30 points"),
        answer=answer,
    )


def what_folding_loses() -> CheckYourself:
    """Which task do latents lose first?"""

    def answer() -> tuple[int, str]:
        contest = results.contest()
        n = shown_length(contest)
        shares = {task: contest.share(task, n, "lclm", TIGHT) or 0.0 for task in _TASKS}
        right = min(range(len(_TASKS)), key=lambda i: shares[_TASKS[i]])
        told = ", ".join(f"{NAMES[task]} {percent(share)}" for task, share in shares.items())
        return right, f"{label('lclm')} at {TIGHT} tokens for each latent, {n} tokens: {told}."

    return CheckYourself(
        name="arena_what_folding_loses",
        question=f"Latents of {TIGHT} tokens each. Which of these do they lose most of?",
        choices=tuple(NAMES[task] for task in _TASKS),
        answer=answer,
    )


_TASKS = ("topic", "needle", "exact")


def less_read_less_held() -> CheckYourself:
    """What does MSA save?"""

    def answer() -> tuple[int, str]:
        contest = results.contest()
        n = shown_length(contest)
        resident, read, _ = contest.bytes_of("msa", TIGHT, n=n)
        right = 0 if resident > 1 and read < 1 else 1 if resident < 1 else 2
        return right, (
            f"At {n} tokens and one block's entry in {TIGHT} it holds {percent(resident)} of the "
            f"dense cache, index keys included, and reads {percent(read)} for each token."
        )

    return CheckYourself(
        name="arena_less_read_less_held",
        question="MSA reads a few blocks for each token. What does that do to the memory it needs?",
        choices=(
            "it holds more than dense attention, and reads less",
            "it holds less than dense attention",
            "it holds as much, and reads as much",
        ),
        answer=answer,
    )

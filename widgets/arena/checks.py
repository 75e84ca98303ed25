"""The arena's check-yourself questions; every answer is computed when it is asked for."""

from intuitive.arena import results
from intuitive.arena.results import NAMES
from intuitive.arena.tasks import GIST

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


def what_comes_next() -> CheckYourself:
    """Without a question, which memory predicts the text's own next tokens best?"""

    def answer() -> tuple[int, str]:
        contest = results.contest()
        n = shown_length(contest)
        worth = {method: contest.gist(method, TIGHT, n=n) or 0.0 for method in _NEXT}
        right = max(range(len(_NEXT)), key=lambda i: worth[_NEXT[i]])
        told = ", ".join(f"{label(method)} {percent(share)}" for method, share in worth.items())
        return right, (
            f"Of what the whole text is worth for its next {GIST} tokens, one entry in {TIGHT}: "
            f"{told}. The window holds nothing but the text's last words and its first four tokens."
        )

    return CheckYourself(
        name="arena_what_comes_next",
        question=(
            f"Nobody asks anything; the text goes on for {GIST} tokens. With one entry in {TIGHT}, "
            "whose memory predicts them best?"
        ),
        choices=tuple(label(method) for method in _NEXT),
        answer=answer,
    )


_NEXT = ("kvzip", "lclm", "window", "expected")

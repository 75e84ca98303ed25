"""Problems of running sums: their sizes, their vocabulary, their prompts."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from intuitive.common.inputs import plain_fields


@dataclass(frozen=True, kw_only=True)
class SumsConfig:
    """Sizes of the problem; token ids and lengths follow from them."""

    n_digits: int = 4  # K
    modulus: int = 7  # P
    plan: bool = False  # a plan comes first, and its error shows last

    def __post_init__(self) -> None:
        plain_fields(self, n_digits=0, modulus=0)
        if self.n_digits < 1 or self.modulus < 2:
            raise ValueError(
                f"n_digits={self.n_digits} must be at least 1 and modulus={self.modulus} "
                "at least 2: there has to be something to add."
            )
        if self.plan and self.modulus <= self.n_digits:
            raise ValueError(
                f"modulus={self.modulus} must be above n_digits={self.n_digits} with a plan: "
                "it is a count from 0 to n_digits, written as a number."
            )

    @classmethod
    def large(cls) -> "SumsConfig":
        """Eight digits modulo 23: guessing the answer hardly helps."""
        return cls(n_digits=8, modulus=23)

    @classmethod
    def late(cls) -> "SumsConfig":
        """The large setting with a plan: errors that show only at the end."""
        return cls(n_digits=8, modulus=23, plan=True)

    @property
    def first_index(self) -> int:
        """Token of index 0; numbers are the tokens below it."""
        return self.modulus

    @property
    def bos(self) -> int:
        return self.modulus + self.n_digits

    @property
    def equals(self) -> int:
        return self.bos + 1

    @property
    def wait(self) -> int:
        return self.bos + 2

    @property
    def ans(self) -> int:
        return self.bos + 3

    @property
    def eos(self) -> int:
        return self.bos + 4

    @property
    def rev(self) -> int:
        return self.bos + 5

    @property
    def pad(self) -> int:
        return self.bos + 6

    @property
    def vocab_size(self) -> int:
        return self.bos + 7

    @property
    def n_plans(self) -> int:
        """Plans there are: counts from 0 to n_digits."""
        return self.n_digits + 1

    @property
    def prompt_length(self) -> int:
        """Tokens of BOS, the digits, the target where there is one, and =."""
        return self.n_digits + 2 + self.plan

    @property
    def clean_length(self) -> int:
        """Tokens of a trace without WAIT."""
        return 2 * self.n_digits + 3 + self.plan

    @property
    def trace_length(self) -> int:
        """Tokens of the longest trace with one WAIT; no trace here is longer."""
        return self.clean_length + 1 + 2 * self.n_digits + self.plan

    @property
    def refine_length(self) -> int:
        """Tokens of a refinement prompt: prompt, draft filled up with PAD, REV."""
        return self.prompt_length + self.trace_length + 1

    def name(self, token: int) -> str:
        """A token in letters: numbers as they are, index i as #i."""
        self.check_tokens(torch.tensor([token], device="cpu"))
        if token < self.first_index:
            return str(token)
        if token < self.bos:
            return f"#{token - self.first_index}"
        return ("BOS", "=", "WAIT", "ANS", "EOS", "REV", "PAD")[token - self.bos]

    def check_tokens(self, tokens: Tensor) -> None:
        """Do nothing if these are token ids of this vocabulary.

        Raises:
            ValueError: no tokens, not integers, or an id out of range.
        """
        if tokens.numel() == 0:
            raise ValueError(
                f"the rollout is empty (shape {tuple(tokens.shape)}): give at least one token."
            )
        if not are_integers(tokens):
            raise ValueError(f"tokens are {tokens.dtype}: token ids are integers.")
        ids = tokens.long()  # uint16 and wider have no min
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.vocab_size:
            raise ValueError(
                f"token ids from {low} to {high} must lie in [0, {self.vocab_size}): were they "
                "made with another n_digits or modulus?"
            )

    def check_digits(self, digits: Tensor) -> None:
        """Do nothing if these are problems of this setting, [b, n_digits].

        Raises:
            ValueError: another shape, not integers, or a digit out of range.
        """
        if digits.dim() != 2 or digits.shape[1] != self.n_digits or not are_integers(digits):
            raise ValueError(
                f"digits are {digits.dtype} of shape {tuple(digits.shape)}: integers "
                f"[b, n_digits={self.n_digits}] are needed."
            )
        if digits.numel() and not 0 <= int(digits.min()) <= int(digits.max()) < self.modulus:
            raise ValueError(
                f"digits from {int(digits.min())} to {int(digits.max())} must lie in "
                f"[0, modulus={self.modulus})."
            )


def as_tensor(name: str, values: object) -> Tensor:
    """Numbers as a tensor; what is none raises ValueError."""
    try:
        return values if isinstance(values, Tensor) else torch.as_tensor(values, device="cpu")
    except (TypeError, ValueError, RuntimeError):  # no numbers, ragged, beyond 64 bits
        raise ValueError(f"{name}={values!r} must be one row of integers: pass a list.") from None


def are_integers(values: Tensor) -> bool:
    """Whether a tensor holds whole numbers."""
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem; a batch of them is a tensor of digits [b, n_digits] beside its config."""

    digits: tuple[int, ...]
    config: SumsConfig

    def __post_init__(self) -> None:
        digits = as_tensor("digits", self.digits)
        self.config.check_digits(digits[None])
        object.__setattr__(self, "digits", tuple(digits.tolist()))  # whatever kind of integers

    @property
    def plan(self) -> int:
        """The right total to start from; 0 where there is no plan."""
        return sum(2 * d >= self.config.modulus for d in self.digits) if self.config.plan else 0

    @property
    def answer(self) -> int:
        """The right last total; with a plan this is the target that the prompt shows."""
        return (self.plan + sum(self.digits)) % self.config.modulus


def plans(config: SumsConfig, digits: Int[Tensor, "b n_digits"]) -> Int[Tensor, " b"]:
    """The right total to start from, of each problem; 0 where there is no plan."""
    return (2 * digits >= config.modulus).sum(-1) * int(config.plan)


def answers(config: SumsConfig, digits: Int[Tensor, "b n_digits"]) -> Int[Tensor, " b"]:
    """The right last total of each problem."""
    return (plans(config, digits) + digits.sum(-1)) % config.modulus


def sample_digits(
    config: SumsConfig, b: int, *, generator: torch.Generator, distinct: bool = False
) -> Int[Tensor, "b n_digits"]:
    """Problems drawn uniformly, on the generator's device.

    Args:
        config: sizes.
        b: how many.
        generator: the source of randomness.
        distinct: no problem twice; cut the result to have sets that do not overlap.

    Raises:
        ValueError: more distinct problems than there are.
    """
    n, device = config.modulus**config.n_digits, generator.device
    if not distinct:
        shape = (b, config.n_digits)
        return torch.randint(config.modulus, shape, generator=generator, device=device)
    if b > n:
        raise ValueError(f"b={b} distinct problems are more than the {n} there are.")
    if n <= 1 << 20:
        codes = torch.randperm(n, generator=generator, device=device)[:b]
    else:  # repeats are rare: draw some more, keep first occurrences in the order drawn
        drawn = torch.randint(n, (b + b // 8 + 64,), generator=generator, device=device)
        codes = torch.tensor(list(dict.fromkeys(drawn.tolist()))[:b], device=device)
    powers = config.modulus ** torch.arange(config.n_digits, device=device)
    return codes[:, None] // powers % config.modulus


def prompts(config: SumsConfig, digits: Int[Tensor, "b n_digits"]) -> Int[Tensor, "b m"]:
    """BOS, the digits, the target where there is a plan, and =; m is `prompt_length`."""
    config.check_digits(digits)
    b = len(digits)
    parts = [digits.new_full((b, 1), config.bos), digits]
    if config.plan:
        parts.append(answers(config, digits)[:, None])
    return torch.cat([*parts, digits.new_full((b, 1), config.equals)], dim=1)


def refine_prompts(
    config: SumsConfig, digits: Int[Tensor, "b n_digits"], drafts: Int[Tensor, "n_drafts n"]
) -> Int[Tensor, "b m"]:
    """Prompt, draft filled up with PAD to `trace_length`, REV; m is `refine_length`.

    Raises:
        ValueError: a draft is longer than `trace_length`, PAD at its end not counted; token ids
            out of range; another number of drafts than problems.
    """
    drafts = fit_drafts(config, digits, drafts)
    rev = drafts.new_full((len(drafts), 1), config.rev)
    return torch.cat([prompts(config, digits), drafts, rev], dim=1)


def check_rows(
    config: SumsConfig, digits: Int[Tensor, "b n_digits"], tokens: Tensor, *, name: str = "traces"
) -> None:
    """Do nothing if these are token ids [b, n], one row per problem.

    Raises:
        ValueError: as `SumsConfig.check_tokens`; another number of axes, or of rows.
    """
    config.check_tokens(tokens)
    if tokens.dim() != 2:
        raise ValueError(f"{name} have shape {tuple(tokens.shape)}: [b, n] is needed.")
    if len(tokens) != len(digits):
        raise ValueError(
            f"{len(tokens)} {name} for {len(digits)} problems: one each is needed, so repeat the "
            "digits where a problem has several."
        )


def fit_drafts(
    config: SumsConfig, digits: Int[Tensor, "b n_digits"], drafts: Int[Tensor, "n_drafts n"]
) -> Int[Tensor, "b trace_length"]:
    """Drafts with exactly `trace_length` columns; errors as in `refine_prompts`."""
    check_rows(config, digits, drafts, name="drafts")
    limit = config.trace_length
    columns = torch.arange(1, drafts.shape[1] + 1, device=drafts.device)
    used = int(((drafts != config.pad) * columns).max())
    if used > limit:
        raise ValueError(
            f"a draft of {used} tokens is longer than the {limit} that the refinement context "
            "holds: cut the rollouts at trace_length."
        )
    fitted = drafts.new_full((len(drafts), limit), config.pad)
    fitted[:, :used] = drafts[:, :used]
    return fitted

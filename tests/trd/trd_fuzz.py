"""Calls of TRD's public functions, with plain answers in float64."""

import math

import torch
from draws import near
from fuzzing import Case, calls, coins, drawn, numbers, whole_numbers
from hypothesis import strategies as st

from intuitive.common.decoder import Decoder, DecoderConfig
from intuitive.trd import Problem, SumsConfig, parse_trace

ROOMS = ("metrics",)
LEFT_OUT = {
    "Teacher": "a protocol, which nobody calls",
    "attempts": "grades attempts for the explorers; test_trajectory.py",
    "canonical": "an experiment's numbers; test_canonical.py",
    "config": "named settings; test_training.py",
    "distillation": "trains; test_methods.py",
    "divergences": "every divergence is tried under its own name",
    "exercise": "checks what a reader writes; test_exercise.py",
    "experiments": "each is run over every control by tests/widgets/test_every_explorer.py",
    "learned": "LearnedTeacher is tried",
    "methods": "an enumeration",
    "model": "stacked decoders for training; test_model.py",
    "optimizer": "steps of training; test_training.py",
    "real_text": "needs the language model; test_real_text.py",
    "results": "reads committed files; test_results.py",
    "rollout": "sample_rollouts is tried; test_rollout.py",
    "signals": "maps for the explorers; test_signals.py",
    "sums": "SumsConfig, Problem, parse_trace and verify are tried; test_sums.py",
    "teacher": "ExactTeacher and TeacherConfig are tried; test_teacher.py",
    "teaching": "makes training data; test_training.py",
    "trained": "reads committed weights; test_training.py",
    "training": "trains; test_training.py",
}
SUMS = SumsConfig()
few = st.integers(1, 4)
some = st.sampled_from
DECODER = Decoder(
    DecoderConfig(
        vocab_size=SUMS.vocab_size, d_model=8, n_layers=1, n_q_heads=2, n_kv_heads=1, d_head=4,
        d_ff=8, max_positions=64,
    ),
    generator=torch.Generator().manual_seed(0),
)  # fmt: skip


# ------------------------------------------------------------------------------------ divergences


def draw_logits(draw) -> dict:
    shape = (*[draw(few)] * draw(st.integers(0, 1)), draw(few), draw(st.integers(1, 6)))
    return {
        "teacher_logits": numbers(draw, *shape, scale=2),
        "student_logits": numbers(draw, *shape, scale=2),
        "mask": coins(draw, *shape[:-1]) if draw(st.booleans()) else None,
        "temperature": draw(some([1.0, 0.5, 2])),
    }


def tempered(teacher_logits, student_logits, temperature):
    for logits in (teacher_logits, student_logits):
        below = logits.double() - logits.double().amax(-1, keepdim=True)
        yield (below / float(temperature)).log_softmax(-1)


def held(nats, mask):
    return nats if mask is None else torch.where(mask, nats, 0.0)


def kl(log_p, log_q):
    return torch.where(log_p > -math.inf, log_p.exp() * (log_p - log_q), 0.0).sum(-1)


def compare(want):
    """A check by `want(log_t, log_s, **rest)` in float64."""

    def check(answer, *, teacher_logits, student_logits, mask, temperature, **rest):
        log_t, log_s = tempered(teacher_logits, student_logits, temperature)
        nats = held(want(log_t, log_s, **rest), mask).float().double()
        close = near(teacher_logits, student_logits)
        close["atol"] *= 1 + float(nats[nats.isfinite()].abs().amax()) if nats.numel() else 1
        torch.testing.assert_close(answer.double(), nats, **close)

    return check


def mixed(log_t, log_s, beta):
    mix = float(beta) * log_t.exp() + (1 - float(beta)) * log_s.exp()
    return float(beta) * kl(log_t, mix.log()) + (1 - float(beta)) * kl(log_s, mix.log())


def weighted(log_t, log_s):
    v = log_t.shape[-1]
    entropy = -(log_t.exp() * log_t.nan_to_num(neginf=0)).sum(-1)
    return kl(log_t, log_s) * ((1 - entropy / math.log(v)).clamp(min=0) if v > 1 else 1)


def best(log_t, log_s, k, tail):
    order = log_t.sort(dim=-1, descending=True, stable=True).indices[..., : int(k)]
    top_t, top_s = log_t.gather(-1, order), log_s.gather(-1, order)
    if tail:
        rest = torch.ones_like(log_t).scatter(-1, order, 0.0)
        rest_t, rest_s = ((x.exp() * rest).sum(-1, keepdim=True).log() for x in (log_t, log_s))
        return kl(torch.cat((top_s, rest_s), -1), torch.cat((top_t, rest_t), -1))
    return kl(top_s.log_softmax(-1), top_t.log_softmax(-1))


def taken(log, tokens):
    ids = tokens[..., None].long().clamp(0, log.shape[-1] - 1)  # where a mask hides them
    return log.gather(-1, ids)[..., 0]


def advantage(log_t, log_s, tokens):
    return taken(log_t, tokens) - taken(log_s, tokens)


def k3(log_t, log_s, tokens):
    r = advantage(log_t, log_s, tokens)
    return r.exp() - 1 - r


def draw_best(draw) -> dict:
    call = draw_logits(draw)
    v = call["teacher_logits"].shape[-1]
    return {**call, "k": draw(st.integers(1, v)), "tail": draw(st.booleans()) and v > 1}


def check_best(answer, *, k, tail, teacher_logits, **rest):
    v = teacher_logits.shape[-1]
    full = compare(lambda t, s: kl(s, t)) if tail and int(k) == v else compare(best)
    extra = {} if tail and int(k) == v else {"k": k, "tail": tail}
    full(answer, teacher_logits=teacher_logits, **rest, **extra)


def draw_tokens(draw) -> dict:
    call = draw_logits(draw)
    *axes, v = call["teacher_logits"].shape
    return {**call, "tokens": whole_numbers(draw, *axes, high=v)}


def shares(draw):
    return numbers(draw, draw(few), draw(few)).softmax(-1)


def check_shares(answer, *, p):
    torch.testing.assert_close(answer.double().exp(), p.double(), **near(p))


def capped(**more):
    return drawn(lambda draw: {**draw_logits(draw), **{k: draw(v) for k, v in more.items()}})


# -------------------------------------------------------------------------------------- the sums


def draw_problem(draw) -> dict:
    return {"digits": tuple(draw(st.lists(st.integers(0, 6), min_size=4, max_size=4)))}


def draw_trace(draw) -> dict:
    problem = Problem(config=SUMS, **draw_problem(draw))
    ids = st.integers(0, SUMS.vocab_size - 1)
    return {"tokens": draw(st.lists(ids, min_size=1, max_size=9)), "problem": problem}


def draw_traces(draw) -> dict:
    b, n = draw(few), draw(few)
    return {
        "config": SUMS,
        "digits": whole_numbers(draw, b, 4, high=7),
        "tokens": whole_numbers(draw, b, n, high=SUMS.vocab_size),
    }


def check_traces(answer, *, config, digits, tokens):
    for i, (row, trace) in enumerate(zip(digits.tolist(), tokens.tolist(), strict=True)):
        read = parse_trace(trace, Problem(digits=tuple(row), config=config))
        assert bool(answer.correct[i]) == read.correct
        assert bool(answer.well_formed[i]) == read.well_formed
        assert int(answer.length[i]) == sum(token != config.pad for token in trace)


def draw_rollouts(draw) -> dict:
    return {
        "decoder": DECODER,
        "sums": SUMS,
        "prompts": whole_numbers(draw, draw(few), draw(few), high=SUMS.vocab_size),
        "n_samples": draw(st.integers(1, 3)),
        "temperature": draw(some([0.0, 1.0])),
        "generator": torch.Generator().manual_seed(draw(few)),
    }


def check_rollouts(answer, *, prompts, n_samples, **_):
    assert answer.shape == (len(prompts) * int(n_samples), SUMS.trace_length)


# ---------------------------------------------------------------------------------------- metrics


def check_pass(answer, *, n, c, k):
    n, c, k = (torch.as_tensor(x).tolist() for x in (n, c, k))
    if isinstance(n, int) and isinstance(c, int) and isinstance(k, int):
        assert math.isclose(answer, 1 - math.comb(n - c, k) / math.comb(n, k), abs_tol=1e-9)
    else:
        assert bool(((answer >= 0) & (answer <= 1)).all())


def draw_counts(draw) -> dict:
    n = draw(st.integers(1, 9))
    return {"n": n, "c": draw(st.integers(0, n)), "k": draw(st.integers(1, n))}


def check_average(answer, *, correct):
    assert math.isclose(answer, float(correct.double().mean()), abs_tol=1e-9)


def check_table(answer, *, before, after):
    pairs = list(zip(before.tolist(), after.tolist(), strict=True))
    got = (answer.fail_fail, answer.fail_pass, answer.pass_fail, answer.pass_pass)
    cells = ((False, False), (False, True), (True, False), (True, True))
    assert got == tuple(map(pairs.count, cells))


def check_interval(answer, **_):
    assert answer.low <= answer.estimate + 1e-9 and answer.estimate <= answer.high + 1e-9


def draw_pairs(draw) -> dict:
    n = draw(few)
    return {"before": coins(draw, n), "after": coins(draw, n)}


def draw_orders(draw) -> dict:
    problems, n = draw(few), draw(few)
    return {
        "orders": whole_numbers(draw, problems, n, 3, high=3),
        "correct": coins(draw, problems, n),
    }


def check_orders(answer, *, orders, correct):
    for got, rows, goods in zip(answer.tolist(), orders.tolist(), correct.tolist(), strict=True):
        assert got == len({tuple(row) for row, good in zip(rows, goods, strict=True) if good})


def draw_shares(draw) -> dict:
    n = draw(st.integers(1, 9))
    return {"successes": draw(st.integers(0, n)), "n": n, "level": draw(some([0.5, 0.95]))}


CHANCES = some([0.0, 0.3, 1.0])
TABLE = {
    "forward_kl": Case(drawn(draw_logits), compare(kl)),
    "reverse_kl": Case(drawn(draw_logits), compare(lambda t, s: kl(s, t))),
    "jensen_shannon": Case(capped(beta=some([0.0, 0.3, 1.0])), compare(mixed)),
    "clipped_forward_kl": Case(
        capped(cap=some([0.1, 1.0])), compare(lambda t, s, cap: kl(t, s).clamp(max=float(cap)))
    ),
    "entrywise_clipped_forward_kl": Case(capped(cap=some([0.1, 1.0]))),
    "entropy_weighted_forward_kl": Case(drawn(draw_logits), compare(weighted)),
    "topk_reverse_kl": Case(drawn(draw_best), check_best),
    "policy_gradient_loss": Case(drawn(draw_tokens)),
    "monte_carlo_forward_kl": Case(drawn(draw_tokens), compare(advantage)),
    "k3": Case(drawn(draw_tokens)),
    "check_distribution": Case(drawn(lambda draw: {"p": shares(draw)}), lambda answer, p: None),
    "as_logits": Case(drawn(lambda draw: {"p": shares(draw)}), check_shares),
    "divergence": Case(calls(name=some(["forward_kl", "reverse_kl"]))),
    "pass_at_k": Case(drawn(draw_counts), check_pass),
    "avg_at_n": Case(
        drawn(lambda draw: {"correct": coins(draw, draw(few), draw(few))}), check_average
    ),
    "SumsConfig": Case(
        calls(n_digits=st.integers(1, 6), modulus=st.integers(2, 9), plan=st.just(False))
    ),
    "Problem": Case(drawn(lambda draw: {**draw_problem(draw), "config": SUMS})),
    "parse_trace": Case(drawn(draw_trace)),
    "verify": Case(drawn(draw_traces), check_traces),
    "TeacherConfig": Case(
        calls(
            repair=CHANCES, left_to_right=CHANCES, plan_skill=CHANCES, smoothing=some([0.0, 0.01])
        )
    ),
    "ExactTeacher": Case(calls(sums=some([SUMS]))),
    "LearnedTeacher": Case(calls(sums=some([SUMS]), decoder=some([DECODER]))),
    "sample_rollouts": Case(drawn(draw_rollouts), check_rollouts),
    "metrics.distinct_correct_orders": Case(drawn(draw_orders), check_orders),
    "metrics.transitions": Case(drawn(draw_pairs), check_table),
    "metrics.wilson": Case(drawn(draw_shares), check_interval),
    "metrics.bootstrap_mean": Case(
        drawn(
            lambda draw: {
                "values": numbers(draw, draw(few), draw(few)),
                "level": draw(some([0.5, 0.9])),
                "n_resamples": draw(st.integers(1, 9)),
                "seed": draw(few),
            }
        ),
        spared=("n_resamples: beyond 64 bits",),
    ),
}

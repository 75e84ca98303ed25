"""Where the exact teacher says WAIT, and what its rewrites make of the first students' rollouts."""

import pytest

from intuitive.trd.signals import rewrites, wait_map
from intuitive.trd.sums import SumsConfig
from intuitive.trd.teacher import ExactTeacher, TeacherConfig
from intuitive.trd.trained import shipped


@pytest.mark.parametrize("sums", [SumsConfig(), SumsConfig(n_digits=3, modulus=5, plan=True)],
                         ids=["small", "plan"])  # fmt: skip
def test_the_exact_teacher_waits_with_its_repair_weight(sums):
    teacher = ExactTeacher(sums=sums, config=TeacherConfig(repair=0.4, smoothing=0.0))
    found = wait_map("exact", teacher, n_traces=32)
    k = sums.n_digits
    assert found.clean == (0.0,) * k and found.worst_clean == 0.0
    for error in range(k):
        assert found.by_error[str(error)] == pytest.approx((0.4,) * (k - error))
    if sums.plan:
        assert found.by_error["plan"] == pytest.approx((0.0,) * (k - 1) + (0.4,))
    assert (found.consistent, found.repaired) == (1.0, 0.0)


def test_rewrites_of_the_exact_teacher_are_right_and_near_the_student():
    teacher = ExactTeacher(sums=SumsConfig(), config=TeacherConfig(repair=0.3))
    found = rewrites("exact", teacher, shipped("small").students.copies([0]), n_problems=96)
    shares = (found.fail_fail, found.fail_pass, found.pass_fail, found.pass_pass)
    assert sum(shares) == pytest.approx(1)
    assert found.fail_pass > 0.2 and found.pass_fail < 0.03 and found.order_kept > 0.95
    assert found.nll_y_r < found.nll_y_o < found.nll_y_t
    assert found.wait_mass_y_r < 1e-3 < found.wait_mass_y_o
    assert found.forward_after > found.forward_at  # forward KL is driven by the onset
    assert found.reverse_at > found.reverse_after  # reverse KL by the error itself

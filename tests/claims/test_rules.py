"""Rules give the verdicts that their words say, at and beside every bound."""

import pytest

from intuitive.claims.rules import VERDICTS, alike, at_most, beyond, held, most, reached

WHOLE, PART, NOT, _ = VERDICTS


@pytest.mark.parametrize(
    ("judged", "verdict", "words"),
    [
        (reached(9, 10), WHOLE, "90% of the paper's figure"),
        (reached(11, 10), WHOLE, "reproduced from 90% to 110%"),
        (reached(11.1, 10), PART, "111% of the paper's figure, beyond 110%: the settings differ"),
        (reached(50, 10, why="luck"), PART, "500% of the paper's figure, beyond 110%: luck"),
        (reached(8.9, 10), PART, "reproduced from 90% to 110%"),
        (reached(5, 10), PART, "in part from 50%"),
        (reached(4.9, 10), NOT, "49%"),
        (at_most(11, 10), WHOLE, "110%"),
        (at_most(11.2, 10), PART, "to 110%, in part up to 200%"),
        (at_most(21, 10), NOT, "210%"),
        (at_most(9.1, 10), WHOLE, "reproduced from 91% to 110%"),
        (at_most(9, 10, why="luck"), PART, "90% of the paper's figure, less than 91%: luck"),
        (alike(10.1, 10, whole=0.02, part=0.1), WHOLE, "1.0% from"),
        (alike(9.5, 10, whole=0.02, part=0.1), PART, "5.0% from"),
        (alike(12, 10, whole=0.02, part=0.1), NOT, "20.0% from"),
        (most(20, 20), WHOLE, "20 of 20 pairs"),
        (most(15, 20), PART, "in part from 75%"),
        (most(14, 20), NOT, "14 of 20"),
        (held(("a", True), ("b", True)), WHOLE, "holds: a, b"),
        (held(("a", True), ("b", False)), PART, "holds: a; does not hold: b"),
        (held(("a", False), ("b", False)), NOT, "does not hold: a, b"),
        (held(("a", True), limit="a toy"), PART, "holds: a; a toy"),
        (held(("a", False), limit="a toy"), NOT, "does not hold: a; a toy"),
        (held(("a", True), limit=beyond(20, 10, "luck")), WHOLE, "holds: a"),
        (held(("a", True), limit=beyond(21, 10, "luck")), PART, "210% of the paper's figure"),
    ],
)
def test_a_rule_says_what_it_did(judged, verdict, words):
    assert judged.verdict == verdict
    assert words in judged.why

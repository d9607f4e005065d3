"""A report says the worst first, on one screen, and the same for the same input."""

import dataclasses
import json
import math

import pytest

from diffcompare.checking import listing
from diffcompare.checking.report import Cost, Entry, Examination, LeafReport, Report

PASSED = tuple(
    Examination(name, True, "")
    for name in ("forward against reverse", "zero cotangents", "linear in the cotangent")
)
AGAIN = "import diffcompare as dc\ndc.check_grads(loss, args)"


def leaf(path, verdict="consistent", shape=(64, 64), **rest):
    rest = {"detectable": 4.8e-7, "mode": "rev fwd", "witness": "exact walk", **rest}
    return LeafReport(path, shape, "float32", verdict, **rest)


TRANSPOSED = leaf(
    "[0]['layers'][3]['w']",
    "wrong",
    mode="rev",
    defect=3.0,
    error=0.5,
    entries=(
        Entry((17, 3), 0.5012345, 0.2506172),
        Entry((4, 10), -0.3312, -0.1656),
        Entry((0, 0), 0.12, 0.06),
    ),
    wrong_entries=4096,
    pattern=(
        "2 times too large: the rule of `dense` (custom_vjp, net.py:41) scales gradients by 2 "
        "(if on purpose: allow 'scaling')"
    ),
    reason="the slope along direction 1 is claimed 3.2, and is 1.6",
)
SMALL = leaf(
    "[0]['scale']",
    "wrong",
    (),
    mode="fwd",
    error=1e-6,
    entries=(Entry((), 1.000001, 1.0),),
    pattern="0.0001 % too large",
)
KINK = leaf(
    "[0]['threshold']",
    "kink",
    (),
    reason="the slope along the only entry is -1 on one side and 1 on the other",
)
OPEN = leaf("[1]", "inconclusive", (8,), reason="rounding errors are as large as the derivative")


def test_a_report_of_mistakes_as_a_whole():
    others = [leaf(f"[0]['layers'][{n}]['b']", detectable=1e-6 / (n + 1)) for n in range(36)]
    report = Report(
        leaves=(*others, KINK, SMALL, OPEN, TRANSPOSED),
        examinations=PASSED,
        modes=("rev", "fwd"),
        function="loss",
        evaluations=Cost(walks=84, calls=12, seconds=1.34),
        reproduce=AGAIN,
    )
    assert (
        str(report)
        == """\
WRONG: what JAX returns is not the derivative of loss.
2 of 40 leaves wrong, 1 inconclusive, 1 at a kink, 36 consistent.

[0]['layers'][3]['w']  (64, 64)  float32  wrong in reverse mode, off by 50 %
    2 times too large: the rule of `dense` (custom_vjp, net.py:41) scales gradients by 2 (if on
    purpose: allow 'scaling')
    entry      claimed       true   error   (all 4096 entries are wrong)
    (17, 3)   0.501235   0.250617   100 %
    (4, 10)    -0.3312    -0.1656   100 %
    (0, 0)        0.12       0.06   100 %
[0]['scale']  float32  wrong in forward mode, off by 1e-06
    0.0001 % too large
    entry    claimed   true   error
    ()      1.000001      1   1e-06
[1]  (8,)  float32  inconclusive
[0]['threshold']  float32  at a kink
    the slope along the only entry is -1 on one side and 1 on the other

checked  in reverse and forward mode
passed   forward against reverse, zero cotangents, linear in the cotangent
power    an error of 1e-06 of a slope would have been seen (least so in [0]['layers'][0]['b'])
cost     84 exact walks of 1.3 nominal seconds, 12 calls of the function
again    import diffcompare as dc
         dc.check_grads(loss, args)"""
    )


def test_a_report_of_what_is_right_as_a_whole():
    report = Report(
        leaves=tuple(leaf(f"[{n}]") for n in range(3)),
        examinations=PASSED,
        modes=("rev",),
        missing={"fwd": "can't apply forward-mode differentiation (jvp) to a custom_vjp function."},
        function="loss",
        order=2,
        evaluations=Cost(walks=1, calls=1),
        reproduce="python -m diffcompare check net.py:loss --order 2",
        notes=("allowed: the rule of `rounded` (custom_vjp, net.py:12) lets gradients through",),
    )
    assert (
        str(report)
        == """\
CONSISTENT: what JAX returns is the derivative of loss.
All 3 leaves are consistent.

checked  derivatives up to order 2, in reverse mode; no forward mode: can't apply forward-mode
         differentiation (jvp) to a custom_vjp function.
passed   forward against reverse, zero cotangents, linear in the cotangent
power    an error of 4.8e-07 of a slope would have been seen (least so in [0])
cost     1 exact walk, 1 call of the function
note     allowed: the rule of `rounded` (custom_vjp, net.py:12) lets gradients through
again    python -m diffcompare check net.py:loss --order 2"""
    )


def test_a_report_of_what_could_not_be_seen_as_a_whole():
    lossy = dataclasses.replace(leaf("[0]"), dtype="bfloat16", precision_loss=0.031)
    report = Report((OPEN, lossy), modes=("rev", "fwd"), function="loss")
    assert (
        str(report)
        == """\
INCONCLUSIVE: no mistake was found in the derivative of loss, but not all of it was seen.
1 of 2 leaves inconclusive, 1 consistent.

[1]  (8,)  float32  inconclusive
    rounding errors are as large as the derivative

checked  in reverse and forward mode
power    an error of 4.8e-07 of a slope would have been seen (least so in [1])
rounding costs up to 3.1 % of an entry in bfloat16 ([0]), which is no mistake"""
    )


def test_an_examination_that_failed_is_wrong_and_comes_first():
    failed = Examination("zero cotangents", False, "a cotangent of zero gives 3 in [0]", ("[0]",))
    report = Report((leaf("[0]"),), (*PASSED, failed), ("rev",), function="loss")
    assert report.verdict == "wrong"
    assert str(report).splitlines()[:4] == [
        "WRONG: what JAX returns is not the derivative of loss.",
        "The only leaf is consistent.",
        "",
        "zero cotangents: a cotangent of zero gives 3 in [0]",
    ]


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ((), "consistent"),
        (("consistent", "kink"), "kink"),
        (("kink", "inconclusive", "consistent"), "inconclusive"),
        (("inconclusive", "wrong", "kink"), "wrong"),
    ],
)
def test_the_verdict_is_the_worst_of_the_leaves(verdicts, verdict):
    report = Report(tuple(leaf(f"[{n}]", each) for n, each in enumerate(verdicts)))
    assert report.verdict == verdict
    assert str(report).startswith(verdict.upper())


def test_where_nothing_is_floating_point_the_report_says_so():
    assert "No leaf of its arguments, or none of its outputs, is floating point." in str(Report())


def test_the_worst_leaf_comes_first_and_an_unknown_error_is_the_worst():
    errors = {"a": 0.1, "b": math.nan, "c": 3.0, "d": None, "e": math.inf}
    report = Report(tuple(leaf(path, "wrong", error=error) for path, error in errors.items()))
    assert [each.path for each in report.worst_first()] == ["b", "d", "e", "c", "a"]


def huge(verdicts):
    """A model of 400 leaves with everything said of them as long as it can be."""
    words = "the slope along direction 1 is claimed 3.2, and is 1.6, " * 20
    path = "[0]" + "['a_module_with_a_name']" * 6
    entries = (Entry((12345, 678, 90), -1.2345678e-300, 1e300),) * 3
    leaves = tuple(
        leaf(f"{path}[{n}]", verdict, (99999, 999, 99), mode="rev", error=float(37 * n % 101),
             entries=entries, wrong_entries=10**9, pattern=words, reason=words,
             precision_loss=0.1)
        for n, verdict in enumerate(verdicts)
    )  # fmt: skip
    failed = tuple(Examination("an examination", False, words) for _ in range(9))
    return Report(
        leaves, (*PASSED, *failed), ("rev", "fwd"), {"fwd": words}, "f" * 200, 3,
        Cost(10**9, 10**9, 1e9), "\n".join([words] * 5), (words,) * 9,
    )  # fmt: skip


@pytest.mark.parametrize(
    "report",
    [
        huge(["wrong"] * 400),
        huge(["wrong"] + ["consistent"] * 399),
        huge(["wrong", "inconclusive", "kink"] + ["consistent"] * 397),
        huge(["kink"] * 200 + ["inconclusive"] * 200),
        huge(["consistent"] * 400),
        huge([]),
        Report(tuple(leaf(f"[{n}]", "wrong") for n in range(400))),
    ],
)
def test_a_report_of_any_size_is_a_screen(report):
    lines = str(report).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    wrong = [each.path for each in report.leaves if each.verdict == "wrong"]
    if wrong:
        assert any(line.startswith(report.worst_first()[0].path[:80]) for line in lines)
    if len(wrong) > 10:
        assert any(line.startswith("... and ") and "wrong" in line for line in lines)


@pytest.mark.parametrize("error", [1e-3, 1e-9, 1e-14])
def test_a_claim_is_told_from_the_truth_at_any_size_of_the_error(error):
    wrong = leaf("[0]", "wrong", entries=(Entry((0,), 1 + error, 1.0),))
    row = next(line for line in str(Report((wrong,))).splitlines() if line.startswith("    (0,)"))
    _, claimed, true, _ = row.split()
    assert float(claimed) - float(true) == pytest.approx(error, rel=0.1)


def test_the_error_of_an_entry_is_relative_to_the_true_value():
    assert Entry((), 3.0, 2.0).error == 0.5
    assert Entry((), 0.0, 0.0).error == 0
    assert Entry((), 1.0, 0.0).error == math.inf
    assert Entry((), math.nan, 1.0).error == math.inf


def test_json_has_all_of_it_and_no_number_that_json_does_not_know():
    wrong = dataclasses.replace(TRANSPOSED, defect=math.inf, error=math.nan, shape=(2,))
    report = Report((wrong, OPEN), PASSED, ("rev",), {"fwd": "why"}, "loss", notes=("so",))
    found = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert list(found)[:3] == ["verdict", "function", "leaves"]
    assert found["verdict"] == "wrong"
    assert found["leaves"][0]["defect"] == "Infinity"
    assert found["leaves"][0]["error"] == "NaN"
    assert found["leaves"][0]["entries"][0] == {
        "index": [17, 3], "claimed": 0.5012345, "true": 0.2506172,
    }  # fmt: skip
    assert found["leaves"][1]["error"] is None
    assert found["examinations"][0]["name"] == "forward against reverse"
    assert found["missing"] == {"fwd": "why"}
    assert found["evaluations"] == {"walks": 0, "calls": 0, "seconds": 0.0}
    assert found["notes"] == ["so"]


def test_the_same_report_is_the_same_text_byte_for_byte():
    one, other = huge(["wrong", "kink"]), huge(["wrong", "kink"])
    assert str(one) == str(other)
    assert one.to_json() == other.to_json()


def test_a_screen_is_what_a_terminal_shows():
    assert (listing.LINES, listing.COLUMNS) == (24, 100)

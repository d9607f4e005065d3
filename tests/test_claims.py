"""The claims of the lecture: a verdict follows from saved numbers, and changes with them."""

import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments import _claims, _execution, _registry, gradient_checking
from experiments._claims import CLAIMS, ROWS, Claim, Found, Number, judge

ROOT = Path(__file__).parents[1]
# The rows that are a paragraph of introduction and the summary.
CONTEXT = {1, 42}


@pytest.fixture(scope="module")
def results():
    """The saved result of each experiment that has a file in the repository."""
    found = {}
    for name, experiment in _registry.find("experiments").items():
        numbers = ROOT / "figures" / f"{name}.json"
        if numbers.is_file():
            found[name] = _execution.read(numbers, _registry.load(experiment))
    return found


@pytest.fixture(scope="module")
def quick():
    """A function that returns the result of an experiment at its smallest size, run once."""

    @functools.cache
    def run(name):
        module = _registry.load(_registry.find("experiments")[name])
        with _execution.precision(module):
            return module.run(module.Config.quick())

    return run


@pytest.fixture(scope="module")
def judged(results):
    return [judge(claim, results) for claim in CLAIMS]


def claim_of(sentence: str) -> Claim:
    (claim,) = (claim for claim in CLAIMS if claim.sentence.startswith(sentence))
    return claim


def test_the_rows_are_those_of_the_lecture():
    assert [row.number for row in ROWS] == list(range(1, 43))
    assert {row.number for row in ROWS if row.is_context} == CONTEXT


def test_every_row_that_is_not_context_has_a_claim_that_a_saved_result_decides(judged):
    decided = {each.claim.row for each in judged if each.found}
    assert decided == {row.number for row in ROWS} - CONTEXT


def test_every_claim_names_an_experiment():
    assert {claim.experiment for claim in CLAIMS} <= set(_registry.find("experiments"))
    assert len({claim.sentence for claim in CLAIMS}) == len(CLAIMS)


def test_no_verdict_stands_without_a_number_that_has_a_bound(judged):
    for each in judged:
        if not each.found:
            assert each.verdict == "not tested"
            continue
        assert any(number.relation for number in each.found.numbers), each.claim.sentence
        for number in (*each.found.numbers, *each.found.otherwise):
            assert isinstance(number.value, int | float), number
            assert not math.isnan(number.value), number
            assert number.relation == "" or not math.isnan(number.bound), number


def test_a_condition_comes_with_numbers_from_outside_of_it(judged):
    for each in judged:
        if each.verdict == "holds when":
            assert each.found.condition
            assert not all(number.is_kept for number in each.found.otherwise)


def test_bounds_without_a_number_give_no_verdict():
    with pytest.raises(ValueError, match="needs a number with a bound"):
        Found([Number("images", 8)]).verdict  # noqa: B018


@pytest.mark.parametrize(
    ("relation", "kept"),
    [("=", (1,)), ("<", (0,)), ("<=", (0, 1)), (">", (2,)), (">=", (1, 2))],
)
def test_a_bound_is_kept_on_its_side_and_never_by_nan(relation, kept):
    assert tuple(v for v in range(3) if Number("n", v, relation, 1.0).is_kept) == kept
    assert not Number("n", math.nan, relation, 1.0).is_kept


def test_an_experiment_that_was_not_run_leaves_its_claims_untested():
    claim = claim_of("A step of one millionth")
    each = judge(claim, {})
    assert (each.found, each.verdict) == (None, "not tested")
    assert each.reason == "Not run yet: python -m experiments step_size"


def test_a_smaller_run_that_lacks_what_a_claim_is_about_leaves_it_untested(results):
    small = results["step_size"]
    small = small._replace(panels=[panel for panel in small.panels if panel.dtype == "float64"])
    each = judge(claim_of("A step of one millionth"), {"step_size": small})
    assert each.found is None
    assert "lacks 'network tanh, dtype float32'. Run it in full" in each.reason


def test_what_was_not_measured_gives_no_verdict(results):
    result = results["stochastic_gradients"]
    spoiled = result._replace(descent=result.descent._replace(eager=math.nan))
    each = judge(claim_of("Gradient descent is what"), {"stochastic_gradients": spoiled})
    assert each.found is None
    assert each.reason.startswith("Not measured: largest difference from optax.sgd. Run it in full")


# What a claim is about, changed for the worse in the saved result.
def _a_step(result):
    return result._replace(descent=result.descent._replace(eager=1e-3))


def _a_gradient(result):
    return result._replace(product=result.product * (1 + 1e-9))


def _a_weight(result):
    return result._replace(lines=result.lines._replace(weight=np.flip(result.lines.weight, axis=0)))


def _a_filled_pixel(result):
    task = result.tasks[0]
    filled = task.filled.copy()
    filled[3, 0][~task.mask] += 0.1
    return result._replace(tasks=[task._replace(filled=filled), *result.tasks[1:]])


def _a_pass(result):
    runs = [run._replace(passes=run.passes + 1) for run in result.runs]
    return result._replace(runs=runs)


def _a_row_of_the_backward_pass(result):
    text = json.dumps([example.rows for example in result.examples]).replace("w1: 80", "w1: 81")
    rows = json.loads(text)
    examples = [e._replace(rows=r) for e, r in zip(result.examples, rows, strict=True)]
    return result._replace(examples=examples)


def _a_leaf(result):
    examples = [
        example._replace(gradients={k: v + 1e-9 for k, v in example.gradients.items()})
        for example in result.examples
    ]
    return result._replace(examples=examples)


def _a_bound(result):
    return result._replace(bound=result.bound * 1e-3)


@pytest.mark.parametrize(
    ("sentence", "spoil"),
    [
        ("Gradient descent is what optax.sgd does", _a_step),
        ("The product of the local derivatives", _a_gradient),
        ("The class is the row whose inner product", _a_weight),
        ("Filling changes the missing pixels", _a_filled_pixel),
        ("Backpropagation takes one pass", _a_pass),
        ("N parameters take N + 1 evaluations", _a_pass),
        ("Each node passes on", _a_row_of_the_backward_pass),
        ("A product passes to each factor", _a_row_of_the_backward_pass),
        ("The gradient of the scalar example", _a_leaf),
        ("The values and gradients of the sigmoid", _a_leaf),
        ("A numerical derivative can say", _a_bound),
    ],
)
def test_a_claim_falls_with_its_numbers(results, sentence, spoil):
    claim = claim_of(sentence)
    result = results[claim.experiment]
    assert judge(claim, {claim.experiment: result}).verdict == "holds"
    assert judge(claim, {claim.experiment: spoil(result)}).verdict == "does not hold"


# The same for rows whose numbers a quick run computes too.
def _of_function(**changes):
    return lambda result: result._replace(function=result.function._replace(**changes))


def _scores(result):
    scores = np.flip(result.predicted.scores, axis=1)
    return result._replace(predicted=result.predicted._replace(scores=scores))


def _formula(**changes):
    return lambda result: result._replace(
        by_hand=[result.by_hand[0], result.by_hand[1]._replace(**changes), *result.by_hand[2:]]
    )


def _no_three_layers(result):
    return result._replace(by_hand=result.by_hand[:2])


def _accuracy(less):
    """Returns a change of the accuracy with each of the activations in `less`."""
    return lambda result: result._replace(
        choice=result.choice._replace(
            accuracy={
                name: accuracy - np.float32(less.get(name, 0))
                for name, accuracy in result.choice.accuracy.items()
            }
        )
    )


def _of_losses(change):
    return lambda result: result._replace(losses=change(result.losses))


def _a_level(level):
    return lambda result: result._replace(
        levels=[
            each._replace(gradients=each.gradients | {"w2": np.nextafter(40.0, 41.0)})
            if each.level == level and "forward" not in each.method
            else each
            for each in result.levels
        ]
    )


def _no_level(result):
    return result._replace(levels=[each for each in result.levels if each.level != "symbolic"])


def _of_products(**changes):
    return lambda result: result._replace(products=result.products._replace(**changes))


def _passed(field, way):
    def change(result):
        found = getattr(result.products, field)
        return _of_products(**{field: found | {way: found[way] * (1 + 1e-15)}})(result)

    return change


LEARNED = "A function from an image to its class"
FORMULA = "Their scores are those of the formula"
MANY = "There are many to choose from"
DEFAULT = "The ReLU is a good default"
HALF = "The loss is half of a sum of squares"
SLOPE = "Its derivative by the prediction"
LEVELS = "All three levels find it"
RULE = "Multiply follows its own rule"


@pytest.mark.parametrize(
    ("sentence", "verdict", "label", "value"),
    [
        (LEARNED, "holds", "axes of what goes in", 2),
        (LEARNED, "holds", "axes of what comes out", 0),
        (LEARNED, "holds", "unseen images in that table", 0),
        (FORMULA, "holds", "two or three layers, with biases or not", 4),
        (MANY, "holds", "activations trained", 2),
        (DEFAULT, "holds", "activations beside it", 1),
        (HALF, "holds", "pixels in each", 64),
        (SLOPE, "holds", "largest difference of the gradient from ŷ - y", 0),
        (LEVELS, "holds when", "numerical, central difference: dL/dw1", 80),
        (LEVELS, "holds when", "symbolic, formula: dL/dw1", 80),
        (LEVELS, "holds when", "automatic, reverse mode: dL/dw1", 80),
        (LEVELS, "holds when", "automatic, reverse mode: dL/dw2", 40),
        (RULE, "holds", "jit of vmap: passed to y less upstream times x, largest", 0),
        (RULE, "holds", "scalar example with it: dL/dw1", 80),
    ],
)
def test_a_quick_run_says_what_the_lecture_says(quick, sentence, verdict, label, value):
    """Lecture rows 5, 11, 13, 21, 31 and 35."""
    claim = claim_of(sentence)
    each = judge(claim, {claim.experiment: quick(claim.experiment)})
    assert each.verdict == verdict
    assert [number.value for number in each.found.numbers if number.label == label] == [value]


@pytest.mark.parametrize(
    ("sentence", "spoil"),
    [
        (LEARNED, _of_function(right=400)),
        (LEARNED, _of_function(looked_up=449)),
        (LEARNED, _of_function(calls=449)),
        (LEARNED, _of_function(image_shape=(64,))),
        (LEARNED, _of_function(class_shape=(10,))),
        (LEARNED, _of_function(not_a_class=1)),
        (LEARNED, _of_function(not_highest=1)),
        (LEARNED, _scores),
        (FORMULA, _formula(difference=1e-12)),
        (FORMULA, _formula(without_relu=0.0)),
        (FORMULA, _no_three_layers),
        (MANY, _accuracy({"tanh": 0.1})),
        (DEFAULT, _accuracy({"ReLU": 0.01})),
        (DEFAULT, _accuracy({"tanh": 0.1, "ReLU": 0.05})),
        (HALF, _of_losses(lambda losses: losses._replace(values=2 * losses.values))),
        (HALF, _of_losses(lambda losses: losses._replace(joint=losses.joint / 6))),
        (HALF, _of_losses(lambda losses: losses._replace(values=losses.values * (1 + 1e-4)))),
        (SLOPE, _of_losses(lambda losses: losses._replace(gradients=-losses.gradients))),
        (SLOPE, _of_losses(lambda losses: losses._replace(gradients=losses.gradients + 1e-7))),
        (LEVELS, _a_level("numerical")),
        (LEVELS, _a_level("symbolic")),
        (LEVELS, _a_level("automatic")),
        (LEVELS, _no_level),
        (RULE, _passed("values", "as it is")),
        (RULE, _passed("by_x", "jit")),
        (RULE, _passed("by_y", "vmap")),
        (RULE, _of_products(saved=["x"])),
        (RULE, _of_products(operations=["mul"])),
        (RULE, _of_products(scalar={"w1": 80.0, "w2": 41.0})),
    ],
)
def test_what_a_quick_run_says_falls_with_its_numbers(quick, sentence, spoil):
    claim = claim_of(sentence)
    result = spoil(quick(claim.experiment))
    assert judge(claim, {claim.experiment: result}).verdict == "does not hold"


def test_a_forward_difference_that_were_exact_would_need_no_condition(quick):
    """Lecture row 31."""
    result = quick("backpropagation")
    exact = {"w1": 80.0, "w2": 40.0}
    levels = [each._replace(gradients=exact) for each in result.levels]
    judged = judge(claim_of(LEVELS), {"backpropagation": result._replace(levels=levels)})
    assert judged.verdict == "holds"


@pytest.mark.parametrize(
    ("sentence", "left_out"),
    [(DEFAULT, "ReLU"), (DEFAULT, "tanh"), (MANY, "ReLU"), (MANY, "tanh")],
)
def test_a_run_with_one_activation_says_nothing_of_the_choice(quick, sentence, left_out):
    result = quick("activations")
    accuracy = {name: each for name, each in result.choice.accuracy.items() if name != left_out}
    result = result._replace(choice=result.choice._replace(accuracy=accuracy))
    assert judge(claim_of(sentence), {"activations": result}).verdict == "not tested"


def test_a_check_holds_as_long_as_it_passes_no_mistake_and_accuses_no_right_gradient():
    claim = claim_of("Finite differences tell right gradients")

    def verdict(said):
        result = gradient_checking.Result(
            gradient_checking.CHECKERS, ("float32",), (gradient_checking.RIGHT, "leaf, 1 %"),
            np.array(said).reshape(3, 1, 2, 1), np.ones((1, 2, 1), bool),
        )  # fmt: skip
        return judge(claim, {"gradient_checking": result}).verdict

    passed, accused = gradient_checking.PASSED, gradient_checking.ACCUSED
    good, blind, harsh = (passed, accused), (passed, passed), (accused, accused)
    assert verdict([good, blind, harsh]) == "holds when"
    assert verdict([good, good, good]) == "holds"
    assert verdict([blind, good, good]) == verdict([harsh, good, good]) == "does not hold"


def test_a_condition_that_is_not_needed_is_dropped(results):
    claim = claim_of("A step of one millionth")
    result = results["step_size"]
    assert judge(claim, {"step_size": result}).verdict == "holds when"
    # If the step were as bad in 64 bits.
    panels = [
        panel._replace(curves=[c._replace(lecture_error=0.3) for c in panel.curves])
        for panel in result.panels
    ]
    assert judge(claim, {"step_size": result._replace(panels=panels)}).verdict == "holds"


def test_the_sentences_hold_no_measured_number():
    # Sizes and constants of the lecture itself may stand in words and formulas.
    allowed = {"1", "2", "100"}
    for claim in CLAIMS:
        numbers = {word for word in claim.sentence.replace(".", " ").split() if word.isdigit()}
        assert numbers <= allowed, claim.sentence


def test_claims_stand_in_the_order_of_the_lecture():
    rows = [claim.row for claim in _claims.CLAIMS]
    assert rows == sorted(rows)

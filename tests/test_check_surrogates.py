"""Derivatives that are replaced on purpose are named, and may be allowed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffcompare as dc
from diffcompare.checking import surrogates
from diffcompare.checking.claims import claims_of
from diffcompare.checking.problem import problem_of
from diffcompare.checking.report import Examination, LeafReport


def with_rule(body, rule, name):
    """Returns a function whose reverse rule is `rule(x, g)`."""

    def function(x):
        return body(x)

    function.__name__ = name
    function = jax.custom_vjp(function)
    function.defvjp(lambda x: (body(x), x), lambda x, g: (rule(x, g),))
    return function


identity = lambda x: x
FUNCTIONS = {
    "rounded": with_rule(jnp.round, lambda x, g: g, "rounded"),
    "spike": with_rule(jnp.sign, lambda x, g: g / (1 + x**2), "spike"),
    "clipped": with_rule(identity, lambda x, g: jnp.clip(g, -3, 3), "clipped"),
    "cut": with_rule(
        identity, lambda x, g: g / jnp.maximum(1.0, jnp.linalg.norm(g)).astype(g.dtype), "cut"
    ),
    "reversed_": with_rule(identity, lambda x, g: -0.5 * g, "reversed_"),
    "scaled": with_rule(jnp.sin, lambda x, g: 0.25 * g * jnp.cos(x), "scaled"),
    "frozen": with_rule(jnp.sin, lambda x, g: 0 * g, "frozen"),
    "saturated": with_rule(lambda x: jnp.clip(x, -1, 1), lambda x, g: g, "saturated"),
    "mistaken": with_rule(jnp.sin, lambda x, g: g * jnp.cos(x + 0.5), "mistaken"),
}  # fmt: skip
WORDS = {
    "rounded": ("straight-through", "lets gradients through, though the function is flat"),
    "spike": ("straight-through", "lets gradients through, though the function is flat"),
    "clipped": ("clipping", "clips gradients: it gives 3 in place of 4 where 4 arrives"),
    "cut": ("clipping", "clips gradients: it gives 0.5774 in place of 1"),
    "reversed_": ("reversal", "reverses gradients, times 0.5"),
    "scaled": ("scaling", "scales gradients by 0.25, one part in 4"),
    "frozen": ("stop-gradient", "stops gradients"),
    "saturated": ("straight-through", "lets gradients straight through"),
    "mistaken": ("", "where the derivative is"),
}
X = jnp.asarray([0.3, -1.4, 2.2])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_rule_is_named_by_what_it_does(name):
    (found,) = dc.rule_disagreements(lambda x: jnp.sum(jnp.exp(FUNCTIONS[name](x))), X)
    kind, words = WORDS[name]
    explanation = surrogates.explained(found)
    assert explanation.name == kind
    assert words in explanation.sentence
    assert f"the rule of `{name}` (custom_vjp, test_check_surrogates.py:" in explanation.sentence


@jax.custom_vjp
def shifted(x, b):
    return x + b[None]


# Of a batch of four, the bias gets what arrives at the first.
shifted.defvjp(lambda x, b: (shifted(x, b), None), lambda _, g: (g, g[0]))


def test_a_sum_over_the_batch_that_is_missing_is_named():
    fun = lambda x, b: jnp.sum(jnp.exp(shifted(x, b)))
    (found,) = dc.rule_disagreements(fun, jnp.ones((4, 3)), X, argnums=(0, 1))
    explanation = surrogates.explained(found)
    assert "scales the gradient by its second input by 0.25" in explanation.sentence
    assert "one part in 4: is a sum over so many missing" in explanation.sentence


@jax.custom_vjp
def centred(x):
    return x - jnp.mean(x)


# What a constant cotangent makes zero, and no other.
centred.defvjp(lambda x: (centred(x), None), lambda _, g: (2 * (g - jnp.mean(g)),))


@jax.custom_vjp
def normalized(x):
    return centred_plainly(x) / jnp.sqrt(jnp.sum(centred_plainly(x) ** 2))


def centred_plainly(x):
    return x - jnp.mean(x)


def _without_the_norm(x, g):
    return ((g - jnp.mean(g)) / jnp.sqrt(jnp.sum(centred_plainly(x) ** 2)),)


normalized.defvjp(lambda x: (normalized(x), x), _without_the_norm)


@pytest.mark.parametrize(
    ("fun", "said"), [(centred, "scales gradients by 2"), (normalized, "gives ")]
)
def test_a_rule_is_not_named_by_what_it_gives_where_ones_arrive(fun, said):
    (found,) = dc.rule_disagreements(
        lambda x: jnp.sum(jnp.sin(fun(x))), jnp.asarray([1.0, 2.0, 4.0])
    )
    assert not np.any(np.round(found.claimed[0], 12))
    explanation = surrogates.explained(found)
    assert said in explanation.sentence
    assert explanation.name == ("scaling" if fun is centred else "")
    assert "where not the same arrives at all entries" in str(found)


def held(x):
    return x * jax.lax.stop_gradient(jnp.exp(x))


def estimated(x):
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


@pytest.mark.parametrize(
    ("fun", "kind", "words"),
    [
        (held, "stop-gradient", "holds constant what depends on the argument"),
        (estimated, "straight-through", "lets gradients straight through"),
    ],
)
def test_a_stopped_gradient_is_named(fun, kind, words):
    (found,) = dc.rule_disagreements(lambda x: jnp.sum(fun(x)), X)
    explanation = surrogates.explained(found)
    assert explanation.name == kind
    assert words in explanation.sentence
    assert explanation.sentence.startswith("stop_gradient (test_check_surrogates.py:")


def test_names_are_checked():
    assert surrogates.check_names(("clipping", "scaling")) == ("clipping", "scaling")
    with pytest.raises(
        ValueError, match=r"allow knows 'straight-through', .*but it names 'cutting'"
    ):
        surrogates.check_names(["cutting"])
    with pytest.raises(TypeError, match=r"such as \('clipping',\), but it is a string"):
        surrogates.check_names("clipping")
    with pytest.raises(TypeError, match="a tuple of names, but it is 3"):
        surrogates.check_names(3)


# Allowing.


class Judgement(NamedTuple):
    """As the checker finds it, without its numbers."""

    leaves: list
    examinations: list
    notes: list
    exact: object = None


def judged(fun, args, wrong, examinations=(), allow=()):
    """Returns what is said of a function, some leaves of which were found wrong in reverse mode."""
    problem = problem_of(fun, args)
    claims = claims_of(problem, ("rev",))
    leaves = [
        LeafReport(
            leaf.name, leaf.shape, leaf.dtype.name,
            "wrong" if leaf.name in wrong else "consistent", "rev", error=1.0,
        )
        for leaf in problem.leaves
    ]  # fmt: skip
    return surrogates.allowed(problem, claims, Judgement(leaves, list(examinations), []), allow)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if WORDS[name][0]])
def test_what_is_on_purpose_is_wrong_unless_it_is_allowed(name):
    fun = lambda x: jnp.sum(jnp.exp(3 * FUNCTIONS[name](x)))
    kind, _ = WORDS[name]
    (leaf,) = judged(fun, (X,), ["[0]"]).leaves
    assert leaf.verdict == "wrong"
    assert f"the rule of `{name}`" in leaf.pattern
    assert leaf.pattern.endswith(f"(if on purpose: allow '{kind}')")
    found = judged(fun, (X,), ["[0]"], allow=(kind,))
    assert found.leaves[0].verdict == "consistent"
    assert found.leaves[0].reason.startswith(f"allowed: the rule of `{name}`")
    assert found.notes == [found.leaves[0].reason]
    other = "scaling" if kind != "scaling" else "clipping"
    assert judged(fun, (X,), ["[0]"], allow=(other,)).leaves[0].verdict == "wrong"


def test_a_mistake_beside_what_is_allowed_is_still_wrong():
    """One leaf is rounded on purpose; of the other, the rule is a mistake."""
    fun = lambda x, y: jnp.sum(FUNCTIONS["rounded"](2 * x)) + jnp.sum(FUNCTIONS["mistaken"](y))
    found = judged(fun, (X, X), ["[0]", "[1]"], allow=("straight-through",))
    assert [leaf.verdict for leaf in found.leaves] == ["consistent", "wrong"]
    assert "`mistaken`" in found.leaves[1].pattern
    assert "`rounded`" not in found.leaves[1].pattern


def test_a_mistake_within_what_is_allowed_is_still_wrong():
    """The same leaf goes through both rules."""
    fun = lambda x: jnp.sum(FUNCTIONS["rounded"](2 * x) * FUNCTIONS["mistaken"](x))
    (leaf,) = judged(fun, (X,), ["[0]"], allow=("straight-through",)).leaves
    assert leaf.verdict == "wrong"
    assert "`mistaken`" in leaf.pattern


def test_a_leaf_that_no_rule_touches_is_not_excused_nor_explained():
    """What is wrong there is something else, such as rounding."""
    fun = lambda x, y: jnp.sum(FUNCTIONS["rounded"](2 * x)) + jnp.sum(jnp.sin(y))
    found = judged(fun, (X, X), ["[0]", "[1]"], allow=("straight-through",))
    assert [leaf.verdict for leaf in found.leaves] == ["consistent", "wrong"]
    assert found.leaves[1].pattern == ""


def test_a_leaf_is_told_of_the_rules_that_touch_it_alone():
    fun = lambda x, y: jnp.sum(FUNCTIONS["scaled"](x)) + jnp.sum(FUNCTIONS["mistaken"](y) * x)
    one, other = judged(fun, (X, X), ["[0]", "[1]"]).leaves
    assert "`scaled`" in one.pattern
    assert "`mistaken`" not in one.pattern
    assert "`mistaken`" in other.pattern
    assert "`scaled`" not in other.pattern


def test_a_stopped_gradient_is_allowed_by_its_name():
    fun = lambda x: jnp.sum(held(x))
    assert "stop-gradient" in judged(fun, (X,), ["[0]"]).leaves[0].pattern
    (leaf,) = judged(fun, (X,), ["[0]"], allow=("stop-gradient",)).leaves
    assert leaf.verdict == "consistent"
    fun = lambda x: jnp.sum(jnp.sin(x) + estimated(x))  # which is not flat as a whole
    (leaf,) = judged(fun, (X,), ["[0]"], allow=("straight-through",)).leaves
    assert leaf.verdict == "consistent"


def test_wrong_leaves_get_their_entries_and_their_pattern():
    fun = lambda x: jnp.sum(FUNCTIONS["scaled"](x))
    (leaf,) = judged(fun, (X,), ["[0]"]).leaves
    assert leaf.pattern.startswith("4 times too small: the rule of `scaled` (custom_vjp, test_ch")
    assert leaf.wrong_entries == 3
    assert leaf.entries[0].index == (0,)
    assert leaf.entries[0].true == pytest.approx(np.cos(0.3), rel=1e-15)
    assert leaf.entries[0].claimed == pytest.approx(np.cos(0.3) / 4, rel=1e-15)


NONLINEAR = Examination("linear in the cotangent", False, "cotangents times -1048576 change [0]")


def test_clipping_that_only_large_gradients_show_is_allowed_too():
    fun = lambda x: jnp.sum(FUNCTIONS["clipped"](x))
    (found,) = judged(fun, (X,), [], [NONLINEAR]).examinations
    assert found.passed is False
    assert "clips gradients: it gives 3 in place of 4 where 4 arrives" in found.detail
    (found,) = judged(fun, (X,), [], [NONLINEAR], allow=("clipping",)).examinations
    assert found.passed is None
    assert found.detail.startswith("allowed: the rule of `clipped`")


def test_what_is_right_is_left_alone():
    judgement = Judgement([LeafReport("[0]", (), "float64", "consistent")], [], [])
    problem = problem_of(jnp.sin, (1.0,))
    assert surrogates.allowed(problem, claims_of(problem), judgement, ()) is judgement


def test_a_mistake_that_no_rule_makes_is_left_as_it_was():
    found = judged(lambda x: jnp.sum(jnp.sin(x)), (X,), ["[0]"], allow=("clipping",))
    assert found.leaves[0].verdict == "wrong"
    assert found.leaves[0].pattern == ""

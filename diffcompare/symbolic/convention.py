"""The derivative where there is none: what is said at a kink."""

import dataclasses
from typing import Any, Literal

import jax

# What a function with a custom derivative rule is taken for: "math" differentiates its body,
# "jax" asks the rule.
Rules = Literal["math", "jax"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Convention:
    """What the derivative is at a kink.

    Every number between the slopes on both sides is a subgradient, and programs differ in
    the one they take. `Convention.jax()` says what JAX says, `Convention.lecture()` what
    the textbook says of the ReLU: `0 if x < 0 else 1`.

    Attributes:
        relu: The slope of `jax.nn.relu` and `jax.nn.relu6` at 0.
        maximum_of_zero: The slope of `jnp.maximum(x, 0)`, with a literal 0, at 0.
        maximum: The share of each argument of `jnp.maximum` and `jnp.minimum` at a tie;
            the largest of many entries is always shared equally.
        absolute: The slope of `jnp.abs` at 0.

    Example:
        >>> import diffcompare as dc
        >>> dc.Convention.lecture().relu
        1.0
        >>> import jax
        >>> float(dc.grad(jax.nn.relu, method=dc.Symbolic(convention=dc.Convention.lecture()))(0.0))
        1.0
    """

    relu: float = 0.0
    maximum_of_zero: float = 0.5
    maximum: float = 0.5
    absolute: float = 1.0

    @classmethod
    def jax(cls) -> "Convention":
        """Returns what `jax.grad` says."""
        return cls()

    @classmethod
    def lecture(cls) -> "Convention":
        """Returns the textbook's slope 1 of the ReLU, max(0, x), at 0; otherwise JAX's."""
        return cls(relu=1.0, maximum_of_zero=1.0)


def check_rules(rules: Any) -> None:
    """Raises `ValueError` unless `rules` is one of the two."""
    if rules not in ("math", "jax"):
        raise ValueError(f"rules must be 'math' or 'jax', but it is {rules!r}.")


def check_convention(convention: Any) -> None:
    """Raises `TypeError` unless `convention` is a `Convention` or None."""
    if not isinstance(convention, Convention | None):
        raise TypeError(
            "convention must be a Convention, such as Convention.jax() or Convention.lecture(), "
            f"but it is {convention!r}."
        )

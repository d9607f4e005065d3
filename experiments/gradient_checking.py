"""How often checkers of gradients accuse right ones and miss wrong ones, on random models."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare.plot import style
from experiments import _planted_mistakes
from experiments._runner import run_module as main

CLAIM = (
    "A check of gradients that needs no tolerance accuses no right gradient, and finds mistakes "
    "that tolerances pass, in every precision."
)
ENABLE_X64 = True

OURS, JAX, TEXTBOOK = CHECKERS = ("diffcompare", "jax.test_util", "textbook")
RIGHT = "no mistake"
# What is planted: of which kind, and how much too large the gradient is.
PLANTED: dict[str, tuple[_planted_mistakes.Kind, float]] = {
    "leaf, 100 %": ("leaf", 1.0),
    "leaf, 10 %": ("leaf", 0.1),
    "leaf, 1 %": ("leaf", 0.01),
    "leaf, 0.1 %": ("leaf", 0.001),
    "one entry, 100 %": ("entry", 1.0),
    "small leaf, 100 %": ("small leaf", 1.0),
}
DTYPES = ("bfloat16", "float16", "float32", "float64")
# Of the lecture notes of Stanford's CS231n: central differences of that step, and the relative
# error above which "the gradient is probably wrong", the most lenient that is named there.
STEP, PROBABLY_WRONG = 1e-5, 1e-2

# What a checker may say; nothing where the dtype rounds the mistake away.
PASSED, ACCUSED, UNDECIDED, NOTHING = range(4)


@dataclasses.dataclass(frozen=True)
class Config:
    """How many models, and which mistakes."""

    models: int = 1
    """Random models of each precision; each is checked with and without mistakes."""
    dtypes: tuple[str, ...] = ("bfloat16", "float32", "float64")
    """The precisions."""
    mistakes: tuple[str, ...] = ("leaf, 10 %", "leaf, 1 %", "one entry, 100 %", "small leaf, 100 %")
    """What is planted."""
    others: bool = True
    """Also jax.test_util.check_grads, and the textbook's relative error."""
    seed: int = 0
    """Of the first model."""

    def __post_init__(self):
        if self.models < 1:
            raise ValueError(f"models must be positive, but it is {self.models}.")
        for name, known in (("dtypes", DTYPES), ("mistakes", tuple(PLANTED))):
            unknown = set(getattr(self, name)) - set(known)
            if unknown:
                raise ValueError(f"{name} may be of {known}, but {sorted(unknown)} are named.")

    @classmethod
    def quick(cls) -> "Config":
        """The smallest sensible size."""
        return cls(models=1, dtypes=("float32",), mistakes=("leaf, 1 %",))


class Result(NamedTuple):
    """What every checker said of every model."""

    checkers: tuple[str, ...]
    dtypes: tuple[str, ...]
    conditions: tuple[str, ...]  # the first is without a mistake
    said: np.ndarray  # (checkers, dtypes, conditions, models), PASSED to NOTHING
    named: np.ndarray  # (dtypes, conditions, models), whether our report names the wrong leaf alone


def run(config: Config) -> Result:
    """Checks all models with all checkers."""
    checkers = CHECKERS if config.others else (OURS,)
    conditions = (RIGHT, *config.mistakes)
    said = np.full((len(checkers), len(config.dtypes), len(conditions), config.models), NOTHING)
    named = np.zeros(said.shape[1:], bool)
    for d, dtype in enumerate(config.dtypes):
        for c, condition in enumerate(conditions):
            for model in range(config.models):
                found = _model(config.seed + model, dtype, condition)
                if found is None:
                    continue
                fun, args, path = found
                for number, checker in enumerate(checkers):
                    verdict, leaves = _ASKED[checker](fun, args)
                    said[number, d, c, model] = verdict
                    if checker == OURS:
                        named[d, c, model] = leaves == ([path] if path else [])
    return Result(checkers, config.dtypes, conditions, said, named)


def _model(seed: int, dtype: str, condition: str):
    """Returns a function, its arguments and the wrong leaf; None where there is no mistake."""
    if condition == RIGHT:
        return *_planted_mistakes.random_model(seed, dtype), ""
    try:
        return _planted_mistakes.planted(seed, dtype, *PLANTED[condition])
    except ValueError:  # the dtype rounds it away
        return None


def _ours(fun: Callable, args: tuple[Any, ...]):
    report = dc.check_grads(fun, args, raises=False)
    verdicts = {"consistent": PASSED, "kink": PASSED, "wrong": ACCUSED, "inconclusive": UNDECIDED}
    wrong = sorted({leaf.path for leaf in report.leaves if leaf.verdict == "wrong"})
    return verdicts[report.verdict], wrong


def _jax(fun: Callable, args: tuple[Any, ...]):
    from jax.test_util import check_grads

    try:
        check_grads(fun, args, order=1, modes=("rev",))
    except AssertionError:
        return ACCUSED, []
    return PASSED, []


def _textbook(fun: Callable, args: tuple[Any, ...]):
    claimed = jax.tree.leaves(jax.jit(jax.grad(fun))(*args))
    method = dc.CentralDifference(step=STEP)
    measured = jax.tree.leaves(jax.jit(dc.grad(fun, method=method))(*args))
    for a, b in zip(claimed, measured, strict=True):
        a, b = (np.asarray(each, np.float64) for each in (a, b))
        size = max(np.linalg.norm(a), np.linalg.norm(b))
        if not np.linalg.norm(a - b) <= PROBABLY_WRONG * size:
            return ACCUSED, []
    return PASSED, []


_ASKED = {OURS: _ours, JAX: _jax, TEXTBOOK: _textbook}


def accused(result: Result) -> np.ndarray:
    """Returns the share of models that were accused, NaN where there were none.

    Its shape is `(checkers, dtypes, conditions)`.
    """
    counted = np.sum(result.said != NOTHING, axis=3)
    with np.errstate(invalid="ignore"):
        return np.sum(result.said == ACCUSED, axis=3) / np.where(counted, counted, np.nan)


def visible(result: Result) -> np.ndarray:
    """Returns whether a mistake is larger than what rounds in a right gradient, some 4 eps.

    Its shape is `(dtypes, conditions but the first)`.
    """
    sizes = np.array([PLANTED[condition][1] for condition in result.conditions[1:]])
    eps = np.array([float(jnp.finfo(dtype).eps) for dtype in result.dtypes])
    return sizes > 4 * eps[:, None]


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for each checker and precision."""
    rows: list[dict[str, object]] = []
    for number, checker in enumerate(result.checkers):
        for d, dtype in enumerate(result.dtypes):
            said = result.said[number, d]
            right, wrong = said[0], said[1:][said[1:] != NOTHING]
            names = result.named[d, 1:][result.said[number, d, 1:] == ACCUSED]
            rows.append(
                {
                    "checker": checker,
                    "dtype": dtype,
                    "right gradients accused": f"{np.sum(right == ACCUSED)} of {right.size}",
                    "mistakes passed": f"{np.sum(wrong == PASSED)} of {wrong.size}",
                    "undecided": int(np.sum(said == UNDECIDED)),
                    "leaf named": f"{np.mean(names):.0%}" if checker == OURS and names.size else "",
                }
            )
    return rows


def plot(result: Result) -> Figure:
    """Draws the share of models that each checker accused, by mistake and precision."""
    drawing, axes = style.figure(1, len(result.checkers), height=3.6)
    shares = accused(result)
    for ax, checker, share in zip(axes.ravel(), result.checkers, shares, strict=True):
        # What should be accused and is, or should not and is not, is light.
        wanted = np.array([0.0] + [1.0] * (len(result.conditions) - 1))
        ax.imshow(
            np.abs(share.T - wanted[:, None]), cmap="Oranges", vmin=0, vmax=1.4, aspect="auto"
        )
        for (d, c), value in np.ndenumerate(share):
            text = "none" if np.isnan(value) else f"{100 * value:.0f} %"
            ax.text(d, c, text, ha="center", va="center", fontsize=7)
        ax.set_xticks(range(len(result.dtypes)), result.dtypes, rotation=45, ha="right", fontsize=7)
        ax.set_yticks(range(len(result.conditions)), result.conditions, fontsize=7)
        ax.axhline(0.5, color="0.2", linestyle="-", linewidth=1)
        ax.set_title(f"{checker}: accused")
        ax.grid(False)
        ax.set_xlabel("dark: the wrong answer")
        if ax is not axes.ravel()[0]:
            ax.set_yticklabels([])
    return drawing


if __name__ == "__main__":
    raise SystemExit(main("gradient_checking"))

"""Whether claimed errors of numerical derivatives hold, on random functions of five classes."""

import dataclasses
import importlib.util
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from diffcompare.numerical import ladder, line
from diffcompare.numerical.conclusion import Status
from diffcompare.plot import style
from experiments import _random_functions
from experiments._random_functions import CLASSES, RandomFunction
from experiments._runner import run_module as main

CLAIM = (
    "The error bounds of diffcompare.estimate hold for at least 98 % of random functions, also "
    "of those that cancel, round, have poles or kinks nearby or have unusual units."
)
ENABLE_X64 = True

OWN = "diffcompare"
# A bound is useful where it is at most this share of the derivative.
USEFUL = 0.1
# Where an error or a bound is zero it is drawn here, and never further out.
_SMALLEST, _LARGEST = 1e-18, 1e6


@dataclasses.dataclass(frozen=True)
class Config:
    """How many functions to draw, and which."""

    functions: int = 300
    """Functions of each class."""
    seed: int = 2024
    """The seed that they are drawn with."""
    peers: bool = True
    """Also numdifftools, scipy.differentiate and jacobi, as far as they are installed."""

    def __post_init__(self):
        if self.functions < 1:
            raise ValueError(f"functions must be positive, but it is {self.functions}.")

    @classmethod
    def quick(cls) -> "Config":
        """The smallest sensible size."""
        return cls(functions=20)


class Result(NamedTuple):
    """What every tool found for every function; errors are relative to the derivative."""

    kinds: tuple[str, ...]  # the classes
    tools: tuple[str, ...]
    error: np.ndarray  # (tools, kinds, functions); NaN where a tool found nothing
    bound: np.ndarray  # (tools, kinds, functions), the error that it claims
    evaluations: np.ndarray  # (tools, kinds, functions)
    explained: np.ndarray  # (kinds, functions), whether the status of our own is not "converged"


def run(config: Config) -> Result:
    """Differentiates all functions with all tools."""
    drawn = [_random_functions.draw(kind, config.functions, config.seed) for kind in CLASSES]
    peers = _peers() if config.peers else {}
    tools = (OWN, *peers)
    shape = (len(tools), len(CLASSES), config.functions)
    slope, bound, evaluations = np.full((3, *shape), np.nan)
    explained = np.zeros(shape[1:], bool)
    for row, functions in enumerate(drawn):
        own = estimates(functions)
        slope[0, row], bound[0, row], evaluations[0, row] = own.slope, own.bound, ladder.EVALUATIONS
        explained[row] = own.status != Status.CONVERGED
        for tool, peer in enumerate(peers.values(), 1):
            for column, function in enumerate(functions):
                slope[tool, row, column], bound[tool, row, column], calls = _asked(peer, function)
                evaluations[tool, row, column] = calls
    truth = np.array([[function.truth for function in functions] for functions in drawn])
    with np.errstate(all="ignore"):
        error, bound = np.abs(slope - truth) / np.abs(truth), bound / np.abs(truth)
    return Result(CLASSES, tools, error, bound, evaluations, explained)


def estimates(functions: list[RandomFunction]) -> line.Slope:
    """Returns what `diffcompare.estimate` finds for functions of one number, all at once."""
    x = np.array([function.x for function in functions])

    def evaluate(points):
        return np.stack([each.fun(row) for each, row in zip(functions, points, strict=True)])

    return line.slopes_of_lines(evaluate, x, np.where(x == 0, 1.0, np.abs(x)))[1]


def _peers() -> dict[str, Callable]:
    """Returns the tools that are installed, with the options that they come with."""
    tools = {
        "numdifftools": _numdifftools,
        "scipy.differentiate": _scipy,
        "jacobi": _jacobi,
    }
    return {name: tool for name, tool in tools.items() if _is_installed(name)}


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _numdifftools(fun, x):
    import numdifftools

    found = numdifftools.Derivative(fun, full_output=True)(x)
    info = found if hasattr(found, "error_estimate") else found[1]  # until version 0.10
    return found[0], info.error_estimate


def _scipy(fun, x):
    from scipy import differentiate

    found = differentiate.derivative(fun, x)
    return found.df, found.error


def _jacobi(fun, x):
    import jacobi

    return jacobi.jacobi(fun, x)


def _asked(tool: Callable, function: RandomFunction) -> tuple[float, float, int]:
    """Returns the derivative that a tool finds, the error it claims, and its evaluations."""
    calls = 0

    def fun(points):
        nonlocal calls
        calls += np.size(points)
        return function.fun(points)

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            slope, bound = tool(fun, function.x)
        return float(np.squeeze(slope)), float(np.squeeze(bound)), calls
    except Exception:  # whatever a tool raises, it found nothing
        return np.nan, np.nan, calls


def _covered(result: Result) -> np.ndarray:
    return result.error <= result.bound  # never where one is NaN


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for each class and tool."""
    covered, useful = _covered(result), result.bound <= USEFUL
    rows: list[dict[str, object]] = []
    for row, kind in enumerate(result.kinds):
        for tool, name in enumerate(result.tools):
            error = np.where(np.isnan(result.error), np.inf, result.error)[tool, row]
            said = useful[tool, row] | result.explained[row] if name == OWN else None
            rows.append(
                {
                    "class": kind,
                    "tool": name,
                    "covered": f"{100 * covered[tool, row].mean():.1f} %",
                    "bound <= 10 %": f"{100 * useful[tool, row].mean():.1f} %",
                    "or explained": "" if said is None else f"{100 * said.mean():.1f} %",
                    "median error": f"{np.median(error):.1e}",
                    "evaluations": f"{result.evaluations[tool, row].mean():.0f}",
                }
            )
    return rows


def plot(result: Result) -> Figure:
    """Draws claimed against true errors, a panel for each class, and the coverage."""
    drawing, axes = style.figure(2, 3, height=5.6, sharex=False)
    panels = axes.ravel()
    limits = (_SMALLEST, _LARGEST)
    for row, kind in enumerate(result.kinds):
        ax = panels[row]
        ax.fill_between(limits, limits, limits[0], color="0.93", linewidth=0)
        ax.plot(limits, limits, color="0.4", linestyle="-", linewidth=0.8)
        for tool in reversed(range(len(result.tools))):
            known = np.isfinite(result.error[tool, row]) & np.isfinite(result.bound[tool, row])
            error, bound = (
                np.clip(each[tool, row][known], _SMALLEST * 2, _LARGEST / 2)
                for each in (result.error, result.bound)
            )
            look = style.series(tool, linestyle="", markersize=2, alpha=0.5, markeredgewidth=0)
            ax.plot(error, bound, label=result.tools[tool], **look)
        ax.set(xscale="log", yscale="log", xlim=limits, ylim=limits, title=kind)
        ax.set_xticks([1e-16, 1e-8, 1], minor=False)
        ax.set_yticks([1e-16, 1e-8, 1], minor=False)
        ax.minorticks_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("claimed error, relative")
    for ax in (axes[1, 0], axes[1, 1], axes[0, 2]):
        ax.set_xlabel("true error, relative")
    panels[0].text(3e-8, 3e-17, "claims too little", fontsize=7, color="0.35")
    _draw_coverage(panels[len(result.kinds)], result)
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(
        handles[::-1], labels[::-1], loc="outside lower center", ncols=4, markerscale=2.5
    )
    return drawing


def _draw_coverage(ax, result: Result) -> None:
    covered = 100 * _covered(result).mean(axis=2)  # (tools, kinds)
    places = np.arange(len(result.kinds))
    for tool in range(len(result.tools)):
        look = style.series(tool, linestyle="", markersize=5)
        ax.plot(covered[tool], places, **look)
    ax.axvline(98, color="0.4", linestyle="-", linewidth=0.8)
    ax.set(xlim=(0, 103), xticks=[0, 25, 50, 75, 98], title="covered", xlabel="% of functions")
    ax.set_yticks(places, [kind.replace(" ", "\n", 1) for kind in result.kinds], fontsize=7)
    ax.invert_yaxis()


if __name__ == "__main__":
    raise SystemExit(main("error_bounds"))

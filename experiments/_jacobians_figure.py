"""The figure of `jacobians`: matrices as images, and the chain of shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.jacobians import Jacobian, Result


def draw(result: Result) -> Figure:
    """Returns a row for each function, and a row for the chain."""
    drawing, axes = style.figure(3, 4, height=7.2)
    for row, jacobian in zip(axes, result.jacobians, strict=False):
        _draw_jacobian(drawing, row, jacobian)
    _draw_chain(drawing, axes[2], result)
    return drawing


def _draw_jacobian(drawing: Figure, axes: np.ndarray, jacobian: Jacobian) -> None:
    limits = style.image_limits(jacobian.exact)
    for ax, (method, matrix) in zip(axes, jacobian.found.items(), strict=False):
        image = _show(ax, matrix, limits)
        error = jacobian.errors[method]
        ax.set_title(f"{method}\n" + (f"error {error:.0e}" if error else "exact"))
        ax.set_xlabel("input")
    _show(axes[3], jacobian.exact.T, limits)
    axes[3].set_title("transpose:\ninput x output")
    axes[3].set_xlabel("output")
    axes[3].set_ylabel("input")
    axes[0].set_ylabel(f"{jacobian.formula}\n\noutput")
    drawing.colorbar(image, ax=list(axes), shrink=0.8)


def _draw_chain(drawing: Figure, axes: np.ndarray, result: Result) -> None:
    grid = axes[0].get_gridspec()
    for ax in axes:
        ax.remove()
    factors = result.chain
    # The factors in one row, each about as wide as it has columns.
    widths = [min(max(factor.matrix.shape[1], 9), 20) for factor in factors]
    inner = grid[2, :].subgridspec(1, len(factors), width_ratios=widths)
    limits = style.image_limits(np.concatenate([factor.matrix.ravel() for factor in factors]))
    letters = ("1 x M", "M x H", "H x H", "H x HD")
    for i, (factor, letter) in enumerate(zip(factors, letters, strict=True)):
        ax = drawing.add_subplot(inner[i])
        image = _show(ax, factor.matrix, limits)
        rows, columns = factor.matrix.shape
        ax.set_title(f"{factor.formula}\n{letter} = {rows} x {columns}", fontsize=8)
        ax.set_xlabel("input")
    drawing.supxlabel(
        f"the chain multiplied from the left: {result.by_reverse} multiplications; "
        f"from the right: {result.by_forward}",
        fontsize=9,
    )
    drawing.axes[-len(factors)].set_ylabel("dL/dW1 as a chain\n\noutput")
    drawing.colorbar(image, ax=drawing.axes[-len(factors) :], shrink=0.8)


def _show(ax: Axes, matrix: np.ndarray, limits: tuple[float, float]):
    rows, columns = matrix.shape
    is_wide = columns > 3 * rows and rows > 1
    ax.grid(False)
    ax.xaxis.set_major_locator(FixedLocator(range(0, columns, max(1, columns // 4))))
    ax.yaxis.set_major_locator(FixedLocator(range(0, rows, 2 if is_wide else max(1, rows // 4))))
    # It grows lighter all the way, so that grey tells the signs apart too.
    return ax.imshow(
        matrix, cmap="cividis", vmin=limits[0], vmax=limits[1], aspect=2.5 if is_wide else 1
    )

"""The slope of a function along a line, with a bound of its error.

`slope_on_line` is for functions that JAX traces, as a part of a larger program.
`slopes_of_lines` takes anything that returns values, for many lines at once; it compiles
only what is done between the three batches of values, and that once for all functions.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare import _tree
from diffcompare.numerical import conclusion, ladder, scan
from diffcompare.numerical.conclusion import Sampled, Slope
from diffcompare.numerical.ladder import Pairs, Place
from diffcompare.numerical.scan import Range, Reach

# How many lines are compiled for.
_LINES = 64

# How many outputs are concluded about at once: it takes some 100 kB for each.
_OUTPUTS_AT_ONCE = 256

# How many points a program evaluates at once. Of the middle and the scan, of the zoom and the
# probe, and of the ladder, each begins such a round; the rest of its last is filled up.
ROUND = 13
_MORE = ROUND * -(-(1 + 2 * ladder.SCAN) // ROUND)
_RUNGS = _MORE + ROUND * -(-2 * (ladder.ZOOM + ladder.PROBE) // ROUND)
_POINTS = _RUNGS + ROUND * -(-2 * ladder.LADDER // ROUND)
_ROUNDS = _POINTS // ROUND

# Values of several outputs at the same points.
_OUTPUTS = Pairs(None, None, 1, 1)  # type: ignore[arg-type]


def slope_on_line(
    evaluate: Callable[[jax.Array], tuple[jax.Array, jax.Array]], outputs: int, place: Place
) -> Slope:
    """Returns the slopes of the outputs of a function on one line.

    A program holds `evaluate` once, in a loop: the function may be long, and be such a program
    itself. What is evaluated together is also rounded alike.

    Args:
        evaluate: Takes offsets of shape `(ROUND,)`. It returns how far they really are from the
            middle, of that shape, and the values there, of shape `(ROUND, outputs)`.
        outputs: How many there are.
        place: Where the line is.

    Returns:
        A `Slope` of arrays of shape `(outputs,)`. All outputs share the steps that suit the
        one which changes on the shortest scale.
    """
    place = jax.lax.stop_gradient(place)
    exponents, first = first_steps(place)

    def decide_zoom(offsets, seen, known):
        reach, chosen, steps = second_steps(place, *_scanned(seen), exponents, first)
        return _put(offsets, _MORE, steps), ((reach, chosen), known[1])

    def decide_ladder(offsets, seen, known):
        reach, chosen = known[0]
        span, steps = third_steps(place, *_scanned(seen), _more(seen), chosen, reach)
        return _put(offsets, _RUNGS, steps), (known[0], span)

    def go_on(offsets, seen, known):
        return offsets, known

    def one_round(carry, at):
        offsets, seen, known = carry
        number, decision = at
        start = number * ROUND
        found = evaluate(jax.lax.dynamic_slice_in_dim(offsets, start, ROUND))
        put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, start, 0)
        seen = jax.tree.map(put, seen, jax.lax.stop_gradient(found))
        decide = go_on, decide_zoom, decide_ladder
        offsets, known = jax.lax.switch(decision, decide, offsets, seen, known)
        return (offsets, seen, known), found

    def all_known(seen):
        return decide_ladder(offsets, seen, decide_zoom(offsets, seen, (None, None))[1])[1]

    seen = jnp.zeros(_POINTS, first.dtype), jnp.zeros((_POINTS, outputs), first.dtype)
    offsets = _put(seen[0], 1, first)
    unknown = jax.eval_shape(all_known, seen)
    known = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), unknown)
    decisions = np.zeros(_ROUNDS, int)
    decisions[[_MORE // ROUND - 1, _RUNGS // ROUND - 1]] = 1, 2
    rounds = np.arange(_ROUNDS), decisions
    (offsets, _, known), found = jax.lax.scan(one_round, (offsets, seen, known), rounds)
    # Not those that the rounds carried along, which cannot be differentiated.
    seen = jax.tree.map(lambda leaf: leaf.reshape(_POINTS, *leaf.shape[2:]), found)
    (reach, _), span = known
    rungs, steps = _pairs(seen, _RUNGS, ladder.LADDER), offsets[_RUNGS : _RUNGS + ladder.LADDER]
    return conclude(place, *_scanned(seen), _more(seen), rungs, steps, reach, span)


def _put(offsets: jax.Array, start: int, steps: jax.Array) -> jax.Array:
    """Returns offsets with some to both sides."""
    both_ways = jnp.concatenate([steps, -steps])
    return offsets.at[start : start + len(both_ways)].set(both_ways)


def _pairs(seen: tuple[jax.Array, jax.Array], start: int, count: int) -> Pairs:
    ahead, behind = slice(start, start + count), slice(start + count, start + 2 * count)
    away, values = seen
    return Pairs(away[ahead], away[behind], values[ahead], values[behind])


def _scanned(seen: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Pairs]:
    """Returns the values in the middle, and those of the scan."""
    return seen[1][0], _pairs(seen, 1, ladder.SCAN)


def _more(seen: tuple[jax.Array, jax.Array]) -> Pairs:
    return _pairs(seen, _MORE, ladder.ZOOM + ladder.PROBE)


def slopes_of_lines(
    evaluate: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    scale: np.ndarray,
) -> tuple[np.ndarray, Slope]:
    """Returns values and slopes of functions of one number each, whatever evaluates them.

    Args:
        evaluate: Takes points of shape `(lines, points)`, in the dtype of `x`, and returns
            the value of every line's function at its points, in that shape.
        x: Where to differentiate, shape `(lines,)`, of the dtype that points are held in.
        scale: Lengths that could matter beside `|x|`, shape `(lines,)`.

    Returns:
        The values at `x`, and a `Slope` of arrays of shape `(lines,)`. Every function was
        evaluated `ladder.EVALUATIONS` times.
    """
    wide = jnp.result_type(float)
    first, second, third, last = map(_in_chunks, _stages(jax.default_backend()))
    middle, scale = x.astype(wide)[:, None], scale.astype(wide)
    place = Place.of(np.abs(middle[:, 0]), scale, x.dtype, x.dtype)

    def points(steps):
        ends = np.concatenate([middle + steps, middle - steps], axis=1)
        with np.errstate(over="ignore"):  # in half precision; then the values are not used
            ends = ends.astype(x.dtype)
        return ends, np.abs(ends.astype(wide) - middle)

    def pairs(values, away):
        # NumPy's arrays, which the compiled stages take as they take JAX's.
        distances: Any = np.split(away, 2, axis=1)
        both: Any = np.split(values.astype(wide)[:, :, None], 2, axis=1)
        return Pairs(*distances, *both)

    exponents, steps = first(place)
    ends, away = points(steps)
    values = evaluate(np.concatenate([x[:, None], ends], axis=1))
    place = Place.of(place.size, scale, x.dtype, values.dtype)
    value, scanned = values[:, :1].astype(wide), pairs(values[:, 1:], away)
    reach, exponents, steps = second(place, value, scanned, exponents, steps)
    ends, away = points(steps)
    more = pairs(evaluate(ends), away)
    span, steps = third(place, value, scanned, more, exponents, reach)
    ends, away = points(steps)
    rungs = pairs(evaluate(ends), away)
    found = last(place, value, scanned, more, rungs, steps, reach, span)
    return values[:, 0], jax.tree.map(lambda leaf: leaf[:, 0], found)


def _in_chunks(stage: Callable) -> Callable:
    """Returns a function compiled for some number of lines as one of any number of lines."""

    def chunk(leaf, start):
        part = leaf[start : start + _LINES]
        missing = [(0, _LINES - len(part))] + [(0, 0)] * (part.ndim - 1)
        return np.pad(part, missing, mode="edge")

    def run(*args):
        count = len(jax.tree.leaves(args)[0])
        parts = [
            stage(*jax.tree.map(lambda leaf, start=start: chunk(leaf, start), args))
            for start in range(0, count, _LINES)
        ]
        return jax.tree.map(lambda *p: np.concatenate(p)[:count], *parts)

    return run


def first_steps(place: Place) -> tuple[jax.Array, jax.Array]:
    """Returns the exponents of the scan, and its steps, both of shape `(SCAN,)`."""
    exponents = ladder.scan_exponents(place)
    return exponents, ladder.steps_of(exponents, place)


def second_steps(
    place: Place,
    value: jax.Array,
    scanned: Pairs,
    exponents: jax.Array,
    steps: jax.Array,
) -> tuple[Reach, jax.Array, jax.Array]:
    """Returns what the scan says, and the exponents and steps of the zoom.

    The last of the steps, which has no exponent, is that of the probe.
    """
    read = functools.partial(scan.read_scan, place)
    reach = jax.vmap(read, in_axes=(0, _OUTPUTS, None))(value, scanned, exponents)
    # One output for all: of those that change, the one that does on the shortest scale.
    lead = jnp.argmin(jnp.where(reach.flat, jnp.inf, reach.low))
    led = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[lead], leaf.shape), reach)
    treads = led.treads._replace(
        possible=reach.treads.possible & led.treads.possible,
        fine=reach.treads.fine & led.treads.fine,
    )
    leads = jnp.arange(reach.low.shape[0]) == lead
    own = {"side": reach.side, "flat": reach.flat, "doubt": reach.doubt}
    reach = led._replace(leads=leads, treads=treads, **own)
    first = jax.tree.map(lambda leaf: leaf[0], reach)
    exponents = ladder.zoom_exponents(first.low, first.high)
    probe = scan.probe_step(first, steps)
    return reach, exponents, jnp.append(ladder.steps_of(exponents, place), probe)


def third_steps(
    place: Place,
    value: jax.Array,
    scanned: Pairs,
    more: Pairs,
    exponents: jax.Array,
    reach: Reach,
) -> tuple[Range, jax.Array]:
    """Returns in which range to look for the slope, and the steps of the ladder."""
    zoomed = jax.tree.map(lambda leaf: leaf[: ladder.ZOOM], more)
    probe = jax.tree.map(lambda leaf: leaf[ladder.ZOOM :], more)
    read = functools.partial(scan.read_zoom, place)
    read = jax.vmap(read, in_axes=(0, _OUTPUTS, _OUTPUTS, None, _OUTPUTS, 0))
    span = read(value, scanned, zoomed, exponents, probe, reach)
    top = jnp.sum(jnp.where(reach.leads, span.top, 0))
    return span, ladder.steps_of(ladder.ladder_exponents(top), place)


def conclude(
    place: Place,
    value: jax.Array,
    scanned: Pairs,
    more: Pairs,
    rungs: Pairs,
    steps: jax.Array,
    reach: Reach,
    span: Range,
) -> Slope:
    """Returns the slopes of the outputs, from all of their values."""
    zoomed = jax.tree.map(lambda leaf: leaf[: ladder.ZOOM], more)

    def of_output(index):
        def own(pairs):
            return Pairs(pairs.ahead, pairs.behind, pairs.above[:, index], pairs.below[:, index])

        sampled = Sampled(value[index], own(scanned), own(zoomed), own(rungs), steps)
        read = jax.tree.map(lambda leaf: leaf[index], (reach, span))
        return conclusion.conclude(sampled, place, *read)

    count = value.shape[0]
    return _tree.map_in_batches(jax.vmap(of_output), count, min(count, _OUTPUTS_AT_ONCE))


@functools.cache
def _stages(backend: str) -> tuple[Callable, ...]:
    """Returns what is done between the batches of values, compiled for many lines.

    They are long programs of small arrays. Of what LLVM does to them, the first level is as fast
    as the last within what can be measured (9 ms for the lines of one call, of which evaluating
    the function is to come), and takes two thirds of the processor time to compile.
    """
    options = {"xla_backend_optimization_level": 1} if backend == "cpu" else None
    stages = (first_steps, second_steps, third_steps, conclude)
    return tuple(jax.jit(jax.vmap(stage), compiler_options=options) for stage in stages)

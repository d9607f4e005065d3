"""From a function and its arguments to its computational graph."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from diffcompare import _arguments, _tree
from diffcompare.automatic.graph import evaluation, residuals
from diffcompare.automatic.graph.model import Compiled, Graph, compiled
from diffcompare.automatic.graph.plan import Plan, Ref, is_inexact
from diffcompare.automatic.graph.record import record
from diffcompare.numerical.host import BlackBox

PyTree = Any
Names = Sequence[str] | Mapping[str, str]


def computational_graph(
    fun: Callable,
    names: Names | None = None,
    *,
    depth: int | None = None,
    weights: PyTree = None,
) -> Callable[..., Graph]:
    """Returns a function that computes the graph of `fun` with every value and gradient.

    All gradients come from one reverse pass: a perturbation of zero is added to every
    intermediate value, and the function is differentiated by all of them at once. The
    program is compiled once for each shape of the arguments. A function with a derivative
    rule of its own keeps it.

    Args:
        fun: Function of any pytrees, returning a pytree of arrays. Python's integers, booleans
            and strings keep their values and are no nodes.
        names: A name for each positional argument; without it the parameters of `fun` name
            them. Or a mapping from names that nodes have without it to other names. An output
            is called `out`, with its path where there are several, and any value that
            `jax.ad_checkpoint.checkpoint_name` names has that name.
        depth: How many levels of functions are opened: calls of compiled functions, functions
            with rules of their own, and the loops and branches of `scan` and `cond`. 0 opens
            none, so that each is a node. None opens what is only compiled, and nothing else.
        weights: What the gradients start with: a number, or a pytree like the output. Without
            it they are ones, so that the gradients are those of the sum of all outputs.

    Returns:
        A function of the same arguments as `fun`, which returns a `Graph`.

    Raises:
        TypeError: An argument is traced, as within `jax.jit`; no argument is an array or a
            float; or `fun` is a black box.
        ValueError: `names` or `weights` do not fit, or `depth` is negative.
        ReverseRuleError: JAX cannot differentiate an operation backwards.

    Example:
        >>> import diffcompare as dc
        >>> fun = lambda x, w1, w2, y: 0.5 * (w2 * (w1 * x) - y) ** 2
        >>> graph = dc.computational_graph(fun, names={"out": "L"})(5.0, 1.0, 2.0, 2.0)
        >>> [(node.name, float(node.value), float(node.gradient)) for node in graph.nodes[:3]]
        [('x', 5.0, 16.0), ('w1', 1.0, 80.0), ('w2', 2.0, 40.0)]

    References:
        Griewank and Walther, "Evaluating Derivatives", 2nd ed., SIAM, 2008, chapter 3.2.
    """
    if isinstance(fun, BlackBox):
        raise TypeError(
            f"computational_graph needs a function that JAX can trace, but {fun.__name__} is a "
            "black box, of which only values are known."
        )
    if depth is not None and (isinstance(depth, bool) or depth < 0):
        raise ValueError(f"depth must be None or an integer from 0 on, but it is {depth!r}.")
    if isinstance(names, str):
        raise TypeError(f"names must be a sequence of names or a mapping, but it is {names!r}.")
    known: dict[Any, _Traced] = {}

    @functools.wraps(fun)
    def graph_of(*args: Any, **kwargs: Any) -> Graph:
        call = _split(fun, args, kwargs)
        key = call.key()
        traced = known.get(key) if key is not None else None
        if traced is None:
            traced = _traced(fun, call, names, depth)
            if key is not None:
                known[key] = traced
        return _graph(fun, traced, call.arrays, weights)

    return graph_of


class _Call(NamedTuple):
    """The arguments of a call: what is traced, and what is fixed."""

    treedef: Any
    leaves: list[Any]
    places: list[int]  # of the arrays among the leaves
    arrays: tuple[jax.Array, ...]

    def key(self) -> Any:
        """Returns what the trace depends on; None where that has no hash."""
        fixed = tuple((type(leaf), leaf) for leaf in self.leaves if not _is_traceable(leaf))
        key = (self.treedef, tuple(self.places), fixed, tuple(map(jax.typeof, self.arrays)))
        try:
            hash(key)
        except TypeError:
            return None
        return key


class _Traced:
    """A traced function, with its programs by the branches that it takes."""

    def __init__(self, jaxpr, shape, argument_names, mapping, depth):
        self.jaxpr: ClosedJaxpr = jaxpr
        self.shape, self.mapping, self.depth = shape, mapping, depth
        self.argument_names = argument_names
        self.output_paths = tuple(f"out{path}" for path in _tree.leaf_paths(shape))
        self.programs: dict[tuple[int, ...], Compiled] = {}
        self.last: tuple[int, ...] = ()
        self.ones: dict[int, jax.Array] | None = None  # the weights where none are given

    def plan(self, choices: tuple[int, ...]) -> Plan:
        plan = record(self.jaxpr, self.argument_names, self.depth, choices)
        return evaluation.pruned(plan)

    def program(self, arrays: Sequence[jax.Array], choices: tuple[int, ...]) -> Compiled:
        """Returns the program for the branches `choices`, and for those that follow them."""
        while choices not in self.programs:
            plan = self.plan(choices)
            if plan.unresolved is None:
                _name_nodes(plan, self.output_paths, self.mapping)
                saved = functools.partial(residuals.find, self.jaxpr, plan)
                self.programs[choices] = compiled(plan, self.output_paths, saved)
            else:
                index = evaluation.index_of_branch(plan, [*arrays, *plan.constants])
                choices = (*choices, index)
        self.last = choices
        return self.programs[choices]


def _split(fun: Callable, args: tuple, kwargs: dict) -> _Call:
    leaves, treedef = jax.tree.flatten((args, kwargs))
    places = [i for i, leaf in enumerate(leaves) if _is_traceable(leaf)]
    _refuse_traced(fun, leaves)
    if not places:
        raise TypeError(
            f"computational_graph needs an argument that is an array or a float, but "
            f"{_arguments.name_of(fun)} was called with none. Write 5.0 instead of 5."
        )
    given = [leaves[i] for i in places]
    arrays = tuple(x if isinstance(x, jax.Array) else jnp.asarray(x) for x in given)
    return _Call(treedef, leaves, places, arrays)


def _is_traceable(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex)


def _refuse_traced(fun: Callable, values: Any) -> None:
    if _arguments.is_traced(values):
        raise TypeError(
            f"computational_graph needs the values of what {_arguments.name_of(fun)} takes, but "
            "some are traced, as within jax.jit, vmap or grad. Call it outside of them."
        )


def _traced(fun: Callable, call: _Call, names: Names | None, depth: int | None) -> _Traced:
    def of_arrays(*arrays):
        leaves = list(call.leaves)
        for place, array in zip(call.places, arrays, strict=True):
            leaves[place] = array
        args, kwargs = call.treedef.unflatten(leaves)
        return fun(*args, **kwargs)

    jaxpr, shape = jax.make_jaxpr(of_arrays, return_shape=True)(*call.arrays)
    _refuse_traced(fun, jaxpr.consts)
    args, kwargs = call.treedef.unflatten(call.leaves)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path((args, kwargs))]
    given = None if isinstance(names, Mapping) else names
    parameters = _parameter_names(fun, len(args), given)
    argument_names = [_leaf_name(paths[place], parameters) for place in call.places]
    mapping = names if isinstance(names, Mapping) else {}
    return _Traced(jaxpr, shape, argument_names, mapping, depth)


def _graph(fun: Callable, traced: _Traced, arrays: Sequence[jax.Array], weights: PyTree) -> Graph:
    if weights is None:
        traced.ones = traced.ones or _seeds(fun, traced.shape, 1)
        seeds = traced.ones
    else:
        seeds = _seeds(fun, traced.shape, weights)
    choices = traced.last
    while True:
        program = traced.program(arrays, choices)
        entries = (*arrays, *program.plan.constants)
        numbers = program.program(entries, list(seeds.values()))
        taken = tuple(int(index) for index in numbers.conditions)
        wrong = [i for i, choice in enumerate(traced.last) if choice != taken[i]]
        if not wrong:
            return Graph(_arguments.name_of(fun), program, entries, numbers, seeds)
        # Another branch than the last time: what follows it has to be found again.
        choices = taken[: wrong[0] + 1]


def _seeds(fun: Callable, shape: PyTree, weights: PyTree) -> dict[int, jax.Array]:
    """Returns the weight of each inexact output, by the number of the output."""
    outputs = list(enumerate(jax.tree.leaves(shape)))
    if isinstance(weights, int | float):
        given = [weights] * len(outputs)
    else:
        if jax.tree.structure(weights) != jax.tree.structure(shape):
            raise ValueError(
                f"weights must be a number or have the structure of the output of "
                f"{_arguments.name_of(fun)}, {jax.tree.structure(shape)}, but it is "
                f"{jax.tree.structure(weights)}."
            )
        given = jax.tree.leaves(weights)
    seeds = {}
    for number, output in outputs:
        if is_inexact(output):
            if jnp.shape(given[number]) not in ((), output.shape):
                raise ValueError(
                    f"weights must have the shapes of the output of {_arguments.name_of(fun)}, "
                    f"but one has {jnp.shape(given[number])} instead of {output.shape}."
                )
            seeds[number] = jnp.full(output.shape, jnp.asarray(given[number], output.dtype))
    return seeds


def _parameter_names(fun: Callable, count: int, given: Sequence[str] | None) -> list[str]:
    if given is not None:
        if len(given) != count or not all(isinstance(name, str) for name in given):
            raise ValueError(
                f"names must hold a name for each of the {count} positional arguments of "
                f"{_arguments.name_of(fun)}, but it is {given!r}."
            )
        return list(given)
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            named.extend(f"{parameter.name}[{i}]" for i in range(count - len(named)))
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            named.append(parameter.name)
    return [*named, *(f"x{i}" for i in range(len(named), count))][:count]


def _leaf_name(path: tuple[Any, ...], parameters: Sequence[str]) -> str:
    """Returns the name of an argument's leaf, as a user would write it."""
    part, place, *rest = path
    name = parameters[place.idx] if part.idx == 0 else place.key
    return name + jax.tree_util.keystr(tuple(rest))


def _name_nodes(plan: Plan, output_paths: Sequence[str], mapping: Mapping[str, str]) -> None:
    for path, ref in zip(output_paths, plan.outputs, strict=True):
        if isinstance(ref, Ref):
            node = plan.nodes[ref.node]
            if not node.is_named:
                node.name, node.is_named = path, True
    taken: set[str] = set()
    for is_named in (True, False):  # a name that was given is not changed for one that was not
        for node in plan.nodes:
            if node.is_named is is_named:
                node.name = _unique(node.name, taken)
    unknown = sorted(set(mapping) - taken)
    if unknown:
        raise ValueError(
            f"names renames {', '.join(unknown)}, but there is no such node. There are: "
            f"{', '.join(node.name for node in plan.nodes)}."
        )
    renamed = [mapping.get(node.name, node.name) for node in plan.nodes]
    if len(set(renamed)) != len(renamed):
        raise ValueError(f"names must give different nodes different names, but it is {mapping!r}.")
    for node, name in zip(plan.nodes, renamed, strict=True):
        node.is_named |= node.name in mapping
        node.name = name
        node.symbol = name if node.kind in ("argument", "constant") else node.symbol


def _unique(name: str, taken: set[str]) -> str:
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}{number}"
    taken.add(unique)
    return unique

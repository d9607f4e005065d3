"""The one walk over a jaxpr.

Whatever reads a traced function - symbolic expressions, exact arithmetic, promotion to
another dtype, a drawn graph - needs the same journey: equations in order, an environment
of values, calls followed into their bodies. It is made here, and knows nothing of what
the values are. What an equation means, an `Interpreter` says.
"""

import abc
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

Value = TypeVar("Value")

# Primitives that only call a jaxpr, and the parameter that holds it.
CALLS = {
    "call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
}


class UnknownPrimitiveError(NotImplementedError):
    """An equation of a traced function has a primitive for which there is no rule.

    Attributes:
        reader: Who has no rule.
        primitive: The name of the primitive.
        advice: What to do.
        known: The names of primitives that have rules.
        place: The user's line that led to it, or an empty string.
    """

    def __init__(
        self, reader: str, primitive: str, advice: str, known: tuple[str, ...], place: str = ""
    ):
        super().__init__(reader, primitive, advice, known, place)
        self.reader, self.primitive, self.advice = reader, primitive, advice
        self.known, self.place = known, place

    def __str__(self) -> str:
        where = f", met at {self.place}" if self.place else ""
        return (
            f"{self.reader} has no rule for the primitive '{self.primitive}'{where}. "
            f"{self.advice} It knows: {', '.join(self.known)}."
        )


class Interpreter(abc.ABC, Generic[Value]):
    """What equations mean, over some kind of value."""

    @abc.abstractmethod
    def constant(self, value: Any) -> Value:
        """Returns what stands for an array that is known: a literal, or closed over."""

    @abc.abstractmethod
    def equation(self, eqn: JaxprEqn, inputs: list[Value]) -> Sequence[Value]:
        """Returns the outputs of an equation, one for each of `eqn.outvars`.

        Control flow (`scan`, `cond`, `while`) comes here too; see `scan_parts` and its
        siblings. A primitive without a rule is `unknown_primitive`.
        """

    def call(self, eqn: JaxprEqn, body: ClosedJaxpr, inputs: list[Value]) -> Sequence[Value] | None:
        """Returns the outputs of a call taken as a whole; None lets the walk go into it."""
        return None


def walk(
    jaxpr: ClosedJaxpr | Jaxpr,
    interpreter: Interpreter[Value],
    inputs: Sequence[Value],
    constants: Sequence[Value] | None = None,
) -> list[Value]:
    """Returns the outputs of a jaxpr, interpreted.

    Equations that no output needs are skipped, and a value is dropped after its last
    use, so that memory holds what is live and not the whole trace.

    Args:
        jaxpr: What to interpret.
        interpreter: What equations mean.
        inputs: One value for each input.
        constants: One value for each array that the jaxpr closes over; None takes
            `interpreter.constant` of them.

    Raises:
        UnknownPrimitiveError: As the interpreter says.

    Example:
        >>> import jax
        >>> class Names(Interpreter[str]):
        ...     def constant(self, value):
        ...         return str(value)
        ...
        ...     def equation(self, eqn, inputs):
        ...         return [f"{eqn.primitive.name}({', '.join(inputs)})"]
        >>> jaxpr = jax.make_jaxpr(jax.jit(lambda x: jax.numpy.sin(2 * x)))(1.0)
        >>> walk(jaxpr, Names(), ["x"])
        ['sin(mul(2.0, x))']
    """
    closed = close(jaxpr)
    inner = closed.jaxpr
    if constants is None:
        constants = [interpreter.constant(constant) for constant in closed.consts]
    environment: dict[Var, Value] = dict(zip(inner.constvars, constants, strict=True))
    environment.update(zip(inner.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        if isinstance(atom, Literal):
            aval: Any = atom.aval
            return interpreter.constant(np.asarray(atom.val, aval.dtype))
        return environment[atom]

    for eqn, last_used in live_equations(inner):
        outputs = _interpret(eqn, interpreter, [read(atom) for atom in eqn.invars])
        environment.update(zip(eqn.outvars, outputs, strict=True))
        for variable in last_used:
            environment.pop(variable, None)
    return [read(atom) for atom in inner.outvars]


def close(jaxpr: ClosedJaxpr | Jaxpr) -> ClosedJaxpr:
    """Returns the jaxpr with its constants; in newer JAX every jaxpr has them."""
    closed: Any = jaxpr if hasattr(jaxpr, "consts") else ClosedJaxpr(jaxpr, ())
    return closed


def called(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Returns the body of a call-like equation, and None for any other."""
    parameter = CALLS.get(eqn.primitive.name)
    return None if parameter is None else close(eqn.params[parameter])


def call_name(body: ClosedJaxpr) -> str:
    """Returns the name of the Python function that a called jaxpr was traced from."""
    info = body.jaxpr.debug_info
    return getattr(info, "func_name", None) or ""


def primitives(jaxpr: ClosedJaxpr | Jaxpr) -> tuple[str, ...]:
    """Returns the names of the primitives of a jaxpr in order, calls replaced by their bodies."""
    names: list[str] = []
    for eqn in close(jaxpr).jaxpr.eqns:
        body = called(eqn)
        names.extend((eqn.primitive.name,) if body is None else primitives(body))
    return tuple(names)


def unknown_primitive(
    eqn: JaxprEqn, reader: str, known: Iterable[str], advice: str
) -> UnknownPrimitiveError:
    """Returns the error for a primitive without a rule, with the user's line where it arose."""
    return UnknownPrimitiveError(
        reader, eqn.primitive.name, advice, tuple(sorted(known)), place(eqn)
    )


def place(eqn: JaxprEqn) -> str:
    """Returns the user's line that an equation comes from, or an empty string."""
    place = source_info_util.summarize(eqn.source_info)
    return "" if place == "<unknown>" else place


class Scan(NamedTuple):
    """The parts of a `scan` equation."""

    body: ClosedJaxpr  # (*constants, *carry, *slices) -> (*carry, *slices)
    constants: int
    carry: int
    length: int
    reverse: bool

    def split(self, inputs: Sequence[Value]) -> tuple[list[Value], list[Value], list[Value]]:
        """Returns the constants, the carry, and what is sliced, out of the inputs."""
        start = self.constants + self.carry
        return (
            list(inputs[: self.constants]),
            list(inputs[self.constants : start]),
            list(inputs[start:]),
        )


def scan_parts(eqn: JaxprEqn) -> Scan:
    """Returns the parts of a `scan` equation."""
    params = eqn.params
    if "num_carry" in params:
        constants, carry = params["num_consts"], params["num_carry"]
    else:  # JAX 0.12 groups the inputs instead of counting them
        constants, carry, _ = (len(group) for group in params["ft_in"].unpack())
    return Scan(close(params["jaxpr"]), constants, carry, params["length"], params["reverse"])


def unrolled_scan(
    eqn: JaxprEqn,
    inputs: Sequence[Value],
    run: Callable[[ClosedJaxpr, list[Value]], Sequence[Value]],
    entry: Callable[[Value, int], Value],
    stack: Callable[[list[Value], Any], Value],
) -> list[Value]:
    """Returns the outputs of a `scan` equation whose body is interpreted step by step.

    Args:
        eqn: The equation.
        inputs: Its inputs.
        run: Interprets a jaxpr.
        entry: Returns one entry of a value along its first axis.
        stack: Returns values stacked along a new first axis, for an output variable.
    """
    scan = scan_parts(eqn)
    constants, carry, sliced = scan.split(inputs)
    steps = range(scan.length)
    columns: list[list[Value]] = [[] for _ in eqn.outvars[scan.carry :]]
    for step in reversed(steps) if scan.reverse else steps:
        outputs = run(scan.body, [*constants, *carry, *(entry(xs, step) for xs in sliced)])
        carry = list(outputs[: scan.carry])
        for column, output in zip(columns, outputs[scan.carry :], strict=True):
            column.append(output)
    if scan.reverse:
        columns = [column[::-1] for column in columns]
    stacked = map(stack, columns, eqn.outvars[scan.carry :])
    return [*carry, *stacked]


def branches(eqn: JaxprEqn) -> list[ClosedJaxpr]:
    """Returns the branches of a `cond` equation, whose first input is the index of one."""
    return [close(branch) for branch in eqn.params["branches"]]


class While(NamedTuple):
    """The parts of a `while` equation, whose inputs are both kinds of constants, then the carry."""

    condition: ClosedJaxpr  # (*condition_constants, *carry) -> bool
    body: ClosedJaxpr  # (*body_constants, *carry) -> carry
    condition_constants: int
    body_constants: int


def while_parts(eqn: JaxprEqn) -> While:
    """Returns the parts of a `while` equation."""
    params = eqn.params
    return While(
        close(params["cond_jaxpr"]),
        close(params["body_jaxpr"]),
        params["cond_nconsts"],
        params["body_nconsts"],
    )


def _interpret(eqn: JaxprEqn, interpreter: Interpreter[Value], inputs: list[Value]):
    body = called(eqn)
    if body is None:
        return interpreter.equation(eqn, inputs)
    outputs = interpreter.call(eqn, body, inputs)
    if outputs is not None:
        return outputs
    try:
        return walk(body, interpreter, inputs)
    except UnknownPrimitiveError as error:
        # The body of a function that is compiled once does not know who calls it.
        error.place = error.place or place(eqn)
        raise


def live_equations(jaxpr: Jaxpr) -> list[tuple[JaxprEqn, list[Var]]]:
    """Returns the equations that matter in order, each with the variables it uses last."""
    live = {atom for atom in jaxpr.outvars if isinstance(atom, Var)}
    backwards = []
    for eqn in reversed(jaxpr.eqns):
        if not eqn.effects and live.isdisjoint(eqn.outvars):
            continue
        touched = {atom for atom in [*eqn.invars, *eqn.outvars] if isinstance(atom, Var)}
        backwards.append((eqn, [variable for variable in touched if variable not in live]))
        live |= touched
    return backwards[::-1]

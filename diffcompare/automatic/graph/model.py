"""A computational graph with its numbers."""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

from diffcompare.automatic.graph import counts, evaluation, exports, local, scene, svg, text
from diffcompare.automatic.graph.counts import Multiplications
from diffcompare.automatic.graph.local import Local
from diffcompare.automatic.graph.plan import NodeKind, Plan, Ref, WireKind
from diffcompare.automatic.graph.residuals import Residual


class Box(NamedTuple):
    """A function that was opened: its nodes have this box, or one within it.

    Attributes:
        name: Of the function.
        kind: The primitive that called it: `jit`, `custom_jvp_call`, `scan` ...
        parent: The number of the box around it, or None.
    """

    name: str
    kind: str
    parent: int | None


@dataclasses.dataclass(frozen=True, eq=False)
class Wire:
    """An edge: the value of one node taken by another.

    Attributes:
        source: The number of the node whose value it is.
        target: The number of the node that takes it.
        position: As which operand.
        kind: "differentiable"; "integer", where either end has no derivative; "stopped" by
            `stop_gradient`; "no rule", where JAX has no derivative backwards.
        passed: What comes back along it: upstream gradient times local derivative, in the
            shape of the source. None where nothing can.
        adds: Whether `passed` is a part of the gradient of the source. It is not where the
            target lies in an opened function that has a derivative rule of its own.
    """

    source: int
    target: int
    position: int
    kind: WireKind
    passed: Any
    adds: bool
    _load: Callable[[], Local] = dataclasses.field(repr=False)

    @property
    def local(self) -> Local:
        """The derivative of the target by the source."""
        return self._load()


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A value of the function: an argument, a constant, or the result of an operation.

    Attributes:
        index: Its number, in the order of computation.
        name: Of the argument or output, given by `jax.ad_checkpoint.checkpoint_name`, or made
            of the operation; no two nodes share one.
        kind: "argument", "constant", "operation", or "tuple" for an operation of several
            results, each of which is a node that takes a part of it.
        operation: The name of the primitive.
        symbol: The operation as it stands in a picture.
        shape: Of the value; None for a tuple.
        dtype: Of the value; None for a tuple.
        value: The value.
        gradient: The derivative of the output (of the weighted sum of the outputs) by this
            value: the sum of `upstream`. None where a value has none, as an integer has.
        upstream: What comes back from each use of the value, and from the output.
        inputs: The wires that lead to it.
        depends: Whether it depends on an argument in a way that can be differentiated.
        reaches: Whether an output depends on it in such a way; elsewhere the gradient is 0.
        outputs: Which outputs of the function it is, by their paths.
        box: The number of the box that holds it, or None.
        is_named: Whether the name was given rather than made of the operation.
    """

    index: int
    name: str
    kind: NodeKind
    operation: str
    symbol: str
    shape: tuple[int, ...] | None
    dtype: Any
    value: Any = dataclasses.field(repr=False)
    gradient: Any = dataclasses.field(repr=False)
    upstream: tuple[Any, ...] = dataclasses.field(repr=False)
    inputs: tuple[Wire, ...] = dataclasses.field(repr=False)
    depends: bool
    reaches: bool
    outputs: tuple[str, ...]
    box: int | None
    is_named: bool

    @property
    def local(self) -> tuple[Local, ...]:
        """The derivative of the node by each of its inputs."""
        return tuple(wire.local for wire in self.inputs)


class Compiled(NamedTuple):
    """A recorded function, and the programs that compute its numbers."""

    plan: Plan
    depends: list[bool]
    reaches: list[bool]
    program: Callable[..., Any]
    locals: Callable[..., Any]
    output_paths: tuple[str, ...]
    residuals: Callable[[], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The computational graph of a call, with every value and every gradient.

    What `computational_graph` returns. `graph["name"]` is a node.

    Attributes:
        name: Of the function.
        outputs: The number of the node of each output.
        seeds: The gradient that each floating-point output starts with, by output number.
    """

    name: str
    _compiled: Compiled = dataclasses.field(repr=False)
    _entries: tuple[Any, ...] = dataclasses.field(repr=False)
    _numbers: Any = dataclasses.field(repr=False)
    seeds: dict[int, Any] = dataclasses.field(repr=False)

    @functools.cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes in the order of computation."""
        plan, numbers = self._compiled.plan, self._numbers
        wires, upstream = self._wires(), self._upstream()
        paths: list[list[str]] = [[] for _ in plan.nodes]
        for output, path in zip(self.outputs, self._compiled.output_paths, strict=True):
            paths[output].append(path)
        return tuple(
            Node(
                index=index, name=record.name, kind=record.kind, operation=record.operation,
                symbol=record.symbol,
                shape=None if record.aval is None else tuple(record.aval.shape),
                dtype=None if record.aval is None else record.aval.dtype,
                value=self._values.get(index),
                gradient=numbers.gradients.get(index), upstream=tuple(upstream[index]),
                inputs=tuple(wires[use] for use in record.uses),
                depends=self._compiled.depends[index], reaches=self._compiled.reaches[index],
                outputs=tuple(paths[index]), box=record.box,
                is_named=record.is_named,
            )
            for index, record in enumerate(plan.nodes)
        )  # fmt: skip

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(ref.node for ref in self._compiled.plan.outputs if isinstance(ref, Ref))

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The functions that were opened."""
        return tuple(Box(*box) for box in self._compiled.plan.boxes)

    @property
    def wires(self) -> tuple[Wire, ...]:
        """All wires, those to one node after the other."""
        return tuple(wire for node in self.nodes for wire in node.inputs)

    def __getitem__(self, name: str | int) -> Node:
        if isinstance(name, int):
            return self.nodes[name]
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise KeyError(f"There is no node {name!r} in the graph of {self.name}. There are: {names}")

    def rows(self) -> list[dict[str, str]]:
        """Returns a row for every node in the order of the backward pass, by column.

        The columns are those of `table`.
        """
        return text.rows(self)

    def table(self, style: Literal["text", "markdown"] = "text") -> str:
        """Returns a table with a row for every node in the order of the backward pass.

        Its columns: the node; its operation; its value; the upstream gradients that come back
        from each use of it; its gradient, which is their sum; its local derivative by each
        input; and what it passes on to each input, its gradient times that derivative.

        Args:
            style: "text", or "markdown".

        Example:
            >>> import diffcompare as dc
            >>> print(dc.computational_graph(lambda w, x: w * x)(2.0, 5.0).table("markdown"))
            | node | operation | value | upstream | gradient | local derivatives | passes on |
            | --- | --- | --- | --- | --- | --- | --- |
            | out * | × | 10 | 1 | 1 | w: 5; x: 2 | w: 5; x: 2 |
            | x | argument | 5 | 2 | 2 |  |  |
            | w | argument | 2 | 5 | 5 |  |  |
        """
        return text.table(self, style)

    def steps(self) -> text.Steps:
        """Returns the steps of the forward pass, node by node, then of the backward pass.

        Example:
            >>> import diffcompare as dc
            >>> graph = dc.computational_graph(lambda w, x: w * x)(2.0, 5.0)
            >>> for step in graph.steps():
            ...     print(step.direction, step.text)
            forward out = w × x = 2 × 5 = 10
            backward dout/dout = 1
            backward dout/dx = dout/dout · ∂out/∂x = 1 · 2 = 2
            backward dout/dw = dout/dout · ∂out/∂w = 1 · 5 = 5
        """
        return text.steps(self)

    def draw(
        self,
        ax: Any = None,
        *,
        step: int | None = None,
        engine: Literal["layers", "dot"] = "layers",
    ) -> Any:
        """Returns axes of matplotlib on which the graph is drawn.

        The value of a node stands above its wire, in green, and its gradient below, in red; an
        array has a heat map whose scale has zero in its middle. Wires through which no
        derivative comes back are broken.

        Args:
            ax: Where to draw; without it, on a new figure in which the font has 9 points.
            step: Draws what is known after that step of `steps`, and marks its node. -1 is
                before the first. Without it everything is drawn.
            engine: What places the nodes: "layers", or "dot" for Graphviz, which needs the
                extra `graphviz`.
        """
        return _plots().draw(self, ax, step=step, engine=engine)

    def animate(self, path: Any, *, seconds: float = 1.0, dpi: int = 100) -> None:
        """Writes an animation of `steps`, a picture for each, to a `.gif` or `.png` (APNG) file.

        Args:
            path: The file.
            seconds: How long each picture is shown.
            dpi: Pixels for each inch.
        """
        _plots().animate(self, path, seconds=seconds, dpi=dpi)

    def to_dot(self) -> str:
        """Returns the graph in the language of Graphviz."""
        return exports.to_dot(self)

    def to_mermaid(self) -> str:
        """Returns the graph in the language of Mermaid, which GitHub draws in Markdown."""
        return exports.to_mermaid(self)

    def to_json(self) -> str:
        """Returns the graph as standard JSON; long arrays are summarised."""
        return exports.to_json(self)

    def to_svg(self, engine: Literal["layers", "dot"] = "layers") -> str:
        """Returns the picture of `draw` as SVG, made without matplotlib."""
        return svg.to_svg(scene.compose(self, engine), f"computational graph of {self.name}")

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def _repr_html_(self) -> str:
        return svg.to_html(self, self.to_svg())

    @functools.cached_property
    def residuals(self) -> tuple[Residual, ...]:
        """What the forward pass saves for the gradient by all floating-point arguments.

        Example:
            >>> import jax.numpy as jnp
            >>> import diffcompare as dc
            >>> graph = dc.computational_graph(lambda w, x: jnp.exp(w * x))(2.0, 0.5)
            >>> sorted(residual.expression for residual in graph.residuals)
            ['out', 'w', 'x']
        """
        return self._compiled.residuals()

    def multiplications(self, *parameters: str) -> Multiplications:
        """Returns how many multiplications the re-use of upstream gradients saves.

        Args:
            *parameters: Names of the arguments whose gradients are wanted; all that have one
                unless given.

        Example:
            >>> import diffcompare as dc
            >>> fun = lambda x, w1, w2, w3: x * w1 * w2 * w3
            >>> graph = dc.computational_graph(fun)(2.0, 3.0, 4.0, 5.0)
            >>> graph.multiplications("w1", "w2", "w3")
            Multiplications(shared=5, unshared=6, forward=6)
        """
        nodes = [self[name] for name in parameters] or [
            node for node in self.nodes if node.kind == "argument" and node.gradient is not None
        ]
        for node in nodes:
            if node.kind != "argument" or node.gradient is None:
                raise ValueError(
                    f"multiplications needs names of floating-point arguments, but {node.name!r} "
                    "is none."
                )
        plan, reaches = self._compiled.plan, self._compiled.reaches
        return counts.count(plan, reaches, [node.index for node in nodes])

    @functools.cached_property
    def _values(self) -> dict[int, Any]:
        entries = dict(zip(self._compiled.plan.entries, self._entries, strict=True))
        return {**entries, **self._numbers.values}

    @functools.cached_property
    def _locals(self) -> dict[int, Local]:
        found = self._compiled.locals(self._values)
        return {
            use: Local(kind, shape, found.get(use))
            for use, (kind, shape) in local.kinds(self._compiled.plan).items()
        }

    def _local(self, number: int) -> Local:
        return self._locals[number]

    def _passed(self, number: int) -> Any:
        """Returns what comes back along a use: by itself where that was asked for."""
        use = self._compiled.plan.uses[number]
        if use.kind != "differentiable":
            return None
        if number in self._numbers.passed:
            return self._numbers.passed[number]
        return self._numbers.gradients.get(use.source)

    def _wires(self) -> dict[int, Wire]:
        return {
            number: Wire(
                use.source, use.target, use.position, use.kind, self._passed(number),
                use.is_counted, functools.partial(self._local, number),
            )
            for number, use in enumerate(self._compiled.plan.uses)
            if use.target >= 0
        }  # fmt: skip

    def _upstream(self) -> list[list[Any]]:
        plan = self._compiled.plan
        upstream: list[list[Any]] = [[] for _ in plan.nodes]
        for number, use in enumerate(plan.uses):
            if (
                use.is_counted
                and use.kind == "differentiable"
                and plan.nodes[use.source].aval is not None
            ):
                upstream[use.source].append(self._passed(number))
        for output, seed in self.seeds.items():
            upstream[self.outputs[output]].append(seed)
        return upstream


def _plots() -> Any:
    # It lies above this room, as whatever draws does; who draws has asked for it.
    return importlib.import_module("diffcompare.plot.graph")


def compiled(plan: Plan, output_paths: tuple[str, ...], residuals: Callable[[], Any]) -> Compiled:
    """Returns the programs of a plan, each compiled on its first call."""
    depends, reaches = evaluation.paths(plan)
    program = jax.jit(functools.partial(evaluation.evaluate, plan))
    locals_program = jax.jit(functools.partial(local.evaluate, plan))
    return Compiled(plan, depends, reaches, program, locals_program, output_paths, residuals)

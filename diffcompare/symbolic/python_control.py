"""How loops and branches are written in Python: as functions that `lax` is given."""

from typing import Any

from diffcompare._jaxpr import walk
from diffcompare.symbolic.python_terms import as_array, as_arrays, listed
from diffcompare.symbolic.writing import ATOM, Rule, Several, Term, Writer, at_least


def _define(writer: Writer, signature: str, body: Any, jaxpr: Any, arguments: list[Term]) -> None:
    """Writes a function; `body` makes its last lines from the outputs of a jaxpr."""
    inner = writer.inner()
    outputs = inner.body(jaxpr, arguments)
    arrays = [as_array(term, v) for term, v in zip(outputs, jaxpr.jaxpr.outvars, strict=True)]
    writer.lines.append(f"def {signature}:")
    writer.lines += [f"    {line}" for line in [*inner.lines, f"return {body(arrays)}"]]
    writer.operations += inner.operations


def _fresh(writer: Writer, count: int) -> list[str]:
    return [writer.new_name() for _ in range(count)]


def _scan(writer, eqn, terms):
    scan = walk.scan_parts(eqn)
    arrays = [Term(text) for text in as_arrays(eqn, terms)]
    constants, carry, slices = scan.split(arrays)
    held, taken = _fresh(writer, len(carry)), _fresh(writer, len(slices))
    state, entries, body = _fresh(writer, 3)
    inner = writer.inner()
    arguments = [*constants, *map(Term, [*held, *taken])]
    outputs = inner.body(scan.body, arguments)
    found = [as_array(t, v) for t, v in zip(outputs, scan.body.jaxpr.outvars, strict=True)]
    lines = [f"({listed(held)}) = {state}"] if held else []
    lines += [f"({listed(taken)}) = {entries}"] if taken else []
    pairs = f"({listed(found[: scan.carry])}), ({listed(found[scan.carry :])})"
    lines += [*inner.lines, f"return {_empty(pairs)}"]
    writer.lines.append(f"def {body}({state}, {entries}):")
    writer.lines += [f"    {line}" for line in lines]
    writer.operations += inner.operations
    start = _empty(f"({listed([t.text for t in carry])})")
    sliced = f"({listed([t.text for t in slices])})" if slices else "None"
    text = f"lax.scan({body}, {start}, {sliced}, length={scan.length}, reverse={scan.reverse})"
    return Several(
        text,
        lambda names: _empty(f"({listed(names[: scan.carry])}), ({listed(names[scan.carry :])})"),
    )


def _empty(text: str) -> str:
    return text.replace("(,)", "()")


def _while(writer, eqn, terms):
    loop = walk.while_parts(eqn)
    arrays = [Term(text) for text in as_arrays(eqn, terms)]
    first, second = loop.condition_constants, loop.condition_constants + loop.body_constants
    again, body, state = _fresh(writer, 3)
    held = _fresh(writer, len(arrays) - second)
    parts = [
        (again, loop.condition, arrays[:first], lambda found: found[0]),
        (body, loop.body, arrays[first:second], lambda found: f"({listed(found)})"),
    ]
    for name, jaxpr, constants, last in parts:
        inner = writer.inner()
        outputs = inner.body(jaxpr, [*constants, *map(Term, held)])
        found = [as_array(t, v) for t, v in zip(outputs, jaxpr.jaxpr.outvars, strict=True)]
        writer.lines.append(f"def {name}({state}):")
        lines = [f"({listed(held)}) = {state}", *inner.lines, f"return {last(found)}"]
        writer.lines += [f"    {line}" for line in lines]
        writer.operations += inner.operations
    start = f"({listed([t.text for t in arrays[second:]])})"
    return Several(f"lax.while_loop({again}, {body}, {start})", listed)


def _cond(writer, eqn, terms):
    index, *operands = [Term(text) for text in as_arrays(eqn, terms)]
    names = []
    for branch in walk.branches(eqn):
        name = writer.new_name()
        _define(writer, f"{name}()", lambda found: f"({listed(found)})", branch, operands)
        names.append(name)
    if eqn.invars[0].aval.dtype == bool:
        index = Term(f'{at_least(index, ATOM)}.astype("int32")')
    return Several(f"lax.switch({index.text}, [{', '.join(names)}])", listed)


CONTROL: dict[str, Rule] = {"cond": _cond, "scan": _scan, "while": _while}

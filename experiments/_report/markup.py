"""Elements of a page, escaped by the library that writes them, and formulas as MathML."""

import functools
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from experiments._registry import UsageError

Element = ElementTree.Element
Child = Element | str | Iterable[Any] | None


def element(tag: str, *children: Child, **attributes: Any) -> Element:
    """Returns an element; text is escaped when it is written.

    Args:
        tag: Its name.
        *children: Elements, texts, and iterables of these; None is left out.
        **attributes: A trailing underscore is dropped, others become hyphens. True stands for an
            attribute without a value, and None for none.

    Example:
        >>> serialized(element("p", "1 < 2 ", element("b", "really"), class_="x", aria_label="A"))
        '<p class="x" aria-label="A">1 &lt; 2 <b>really</b></p>'
    """
    node = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            name = name.rstrip("_").replace("_", "-")
            node.set(name, name if value is True else str(value))
    _append(node, children)
    return node


def serialized(node: Element) -> str:
    """Returns an element as HTML."""
    return ElementTree.tostring(node, encoding="unicode", method="html")


def formula(latex: str, display: str = "block") -> Element:
    r"""Returns a formula as MathML, which browsers typeset and screen readers read.

    Example:
        >>> serialized(formula(r"\alpha", "inline"))
        '<math display="inline"><mrow><mi>α</mi></mrow></math>'
    """
    return ElementTree.fromstring(_mathml(latex, display))


@functools.cache
def _mathml(latex: str, display: str) -> str:
    try:
        from latex2mathml import converter
    except ModuleNotFoundError as error:
        raise UsageError(
            "the report needs latex2mathml, which is not installed. Install the extra: "
            "pip install 'diffcompare[experiments]'."
        ) from error
    # In HTML the name says what it is; a namespace would add a prefix to it.
    return converter.convert(latex, xmlns="", display=display).replace(' xmlns=""', "")


def _append(node: Element, children: Iterable[Any]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            node.append(child)
        elif isinstance(child, str):
            if len(node):
                node[-1].tail = (node[-1].tail or "") + child
            else:
                node.text = (node.text or "") + child
        else:
            _append(node, child)

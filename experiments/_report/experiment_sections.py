"""The experiments: each with its claim, figure, numbers and command; and the derived formulas."""

import json
import re
import urllib.parse
from typing import Any

from experiments._report import row_sections, wording
from experiments._report.contents import Contents, Run, anchor
from experiments._report.markup import Element, element

# What may stand as it is in an address within an attribute; most of an SVG then stays readable,
# and compresses far better than base64.
_PLAIN = " !$'()*+,-./:;=?@_~"


def sections(contents: Contents) -> list[Element]:
    """Returns the section of the experiments, and that of the formulas where they were derived."""
    heading = element("h2", "Experiments", id="experiments-title")
    articles = [_article(run, contents) for run in contents.runs]
    missing = [
        element(
            "article",
            element("h3", experiment.name, id=f"{experiment.name}-title"),
            element("p", experiment.claim),
            element("p", "Not run yet: ", element("code", f"python -m {experiment.module}"),
                    class_="reason"),
            id=experiment.name,
            aria_labelledby=f"{experiment.name}-title",
        )
        for experiment in contents.missing
    ]  # fmt: skip
    found = [element("section", heading, articles, missing, id="experiments",
                     aria_labelledby="experiments-title")]  # fmt: skip
    closed_forms = contents.run("closed_forms")
    if contents.rows and closed_forms:
        found.append(_formulas(closed_forms))
    return found


def _article(run: Run, contents: Contents) -> Element:
    claims = [
        element(
            "li",
            row_sections.badge(each.verdict),
            f" row {each.claim.row}: ",
            element("a", each.claim.sentence, href=f"#{anchor(each, contents)}"),
        )
        for each in contents.of_experiment(run.name)
    ]
    files: list[Any] = [
        [" · ", element("a", label, href=f"{run.name}.{kind}")]
        for kind, label in (("json", "numbers"), ("png", "PNG"), ("svg", "SVG"))
    ]
    return element(
        "article",
        element("h3", run.name, id=f"{run.name}-title"),
        element("p", element("strong", run.claim)),
        _size(run) if run.size else None,
        _figure(run) if run.picture else None,
        element("ul", claims, class_="claims") if claims else None,
        element("p", element("code", run.command), files, class_="source"),
        _summary(run),
        id=run.name,
        aria_labelledby=f"{run.name}-title",
    )


def _size(run: Run) -> Element:
    changed = ", ".join(f"{name} = {json.dumps(value)}" for name, value in run.changed.items())
    return element("p", element("span", run.size, class_="size"), f" {changed}")


def _figure(run: Run) -> Element:
    alt = " ".join(wording.PICTURES.get(run.name, run.subject).split())
    data = urllib.parse.quote(run.picture.decode("utf-8"), safe=_PLAIN)
    caption = f"{run.subject} ({run.size})" if run.size else run.subject
    width, height = _pixels(run.picture)
    image = element("img", src=f"data:image/svg+xml,{data}", alt=alt, width=width, height=height,
                    style=f"--natural: {width}px")  # fmt: skip
    return element(
        "figure",
        element(
            "div",
            image,
            class_="scroll",
            tabindex="0",
            role="group",
            aria_label=f"Figure of {run.name}",
        ),
        element("figcaption", caption),
        class_="quick" if run.size else None,
    )


def _pixels(svg: bytes) -> tuple[int, int]:
    """Returns width and height of a picture, which states them in points."""
    sides = (
        re.search(rb'<svg[^>]*? %s="([0-9.]+)pt"' % side, svg) for side in (b"width", b"height")
    )
    width, height = (round(float(found[1]) * 4 / 3) if found else 0 for found in sides)
    return width, height


def _summary(run: Run) -> Element | None:
    if isinstance(run.summary, str):
        if run.name == "closed_forms":  # its summary is the formulas, which have a section
            return None
        shown = element("pre", run.summary)
    elif run.summary:
        heads = [element("th", name, scope="col") for name in run.summary[0]]
        shown = element(
            "table",
            element("caption", f"What {run.name} prints", class_="hidden"),
            element("thead", element("tr", heads)),
            element("tbody", [_row(list(row.values())) for row in run.summary]),
        )
    else:
        return None
    box = element("div", shown, class_="scroll", tabindex="0", role="group",
                  aria_label=f"What {run.name} prints")  # fmt: skip
    return element("details", element("summary", f"Numbers of {run.name}"), box)


def _row(values: list[object]) -> Element:
    first, *others = map(_cell, values)
    return element("tr", element("th", first, scope="row"),
                   [element("td", other) for other in others])  # fmt: skip


def _cell(value: object) -> str:
    return wording.number(value) if isinstance(value, float) else str(value)


def _formulas(run: Run) -> Element:
    heading = element("h2", "Formulas, as a program derived them", id="formulas-title")
    parts: list[Any] = []
    for case in run.result.cases:
        name = f"{case.layers} layers, {case.loss}"
        parts.append(element("h3", name))
        parts.append(element("p", "Closed forms"))
        parts += [row_sections.shown(line.latex, line.text) for line in case.formulas]
        parts.append(element("p", "Step by step"))
        parts += [row_sections.shown(line.latex, line.text) for line in case.steps]
        parts.append(element("p", "where"))
        parts += [row_sections.shown(line.latex, line.text) for line in case.definitions]
        error = wording.number(case.error)
        parts.append(
            element("p", f"Largest relative error against jax.grad: {error}.", class_="source")
        )
    return element("section", heading, parts, id="formulas", aria_labelledby="formulas-title")

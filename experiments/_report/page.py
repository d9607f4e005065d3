"""The page: its frame, and what stands above and below the rows and experiments."""

from pathlib import Path
from typing import Any

from experiments._report import experiment_sections, row_sections
from experiments._report.contents import Contents
from experiments._report.markup import Element, element, serialized

TITLE = "Three ways to a derivative"
_STYLE = Path(__file__).with_name("page.css")
# Of the environment, what differs by the choice of an experiment and not of a machine.
_BY_EXPERIMENT = ("default_float",)


def text(contents: Contents) -> str:
    """Returns the page."""
    sections = [
        _short(contents),
        *row_sections.sections(contents),
        *experiment_sections.sections(contents),
        _environment(contents),
        _reproduction(contents),
    ]
    body = element(
        "body",
        element("a", "Skip to the content", class_="skip", href="#content"),
        element(
            "header",
            element("h1", TITLE),
            element(
                "p",
                "What a lecture on neural networks says of numerical, symbolic and automatic "
                "differentiation, and of the networks that need it, tested by experiments.",
            ),
        ),
        element(
            "nav",
            element("ul", [_link_to(section) for section in sections]),
            aria_label="Contents",
        ),
        element("main", sections, id="content", tabindex="-1"),
        element(
            "footer",
            element("p", f"Written on {contents.today.isoformat()} by python -m experiments."),
        ),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        # Without an icon of its own, a browser asks for one.
        element("link", rel="icon", href="data:,"),
        element("title", f"{TITLE}: report"),
        element("style", _STYLE.read_text(encoding="utf-8")),
    )
    return "<!doctype html>\n" + serialized(element("html", head, body, lang="en")) + "\n"


def _link_to(section: Element) -> Element:
    heading = section.find("h2")
    name = "".join(heading.itertext()) if heading is not None else section.get("id")
    return element("li", element("a", name, href=f"#{section.get('id')}"))


def _short(contents: Contents) -> Element:
    parts: list[Any] = [element("h2", "In short")]
    if warning := contents.warning():
        parts.append(element("p", warning, class_="warning"))
    parts += [
        element("p", f"Not read: {problem}", class_="warning") for problem in contents.problems
    ]
    if contents.rows:
        tested = [row.number for row in contents.rows if not row.is_context]
        parts.append(
            element(
                "p",
                f"The lecture has {len(contents.rows)} rows: systems, formulas, figures and "
                f"statements. {len(contents.judged)} claims test {len(tested)} of them; the "
                "others are context. A verdict follows from numbers and the bounds beside "
                "them, and these come from the files of the experiments.",
            )
        )
        parts.append(row_sections.counts(contents))
        parts.append(row_sections.index(contents))
    else:
        parts.append(element("p", f"{len(contents.runs)} experiments."))
    return element("section", parts, id="short", aria_labelledby=_labelled(parts[0], "short"))


def _labelled(heading: Element, name: str) -> str:
    heading.set("id", f"{name}-title")
    return f"{name}-title"


def _environment(contents: Contents) -> Element:
    heading = element("h2", "Environment")
    places: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for run in contents.runs:
        facts = {k: v for k, v in run.environment.items() if k not in _BY_EXPERIMENT}
        places.setdefault(repr(facts), (facts, []))[1].append(run.name)
    parts: list[Any] = [heading]
    for number, (facts, names) in enumerate(places.values(), start=1):
        every = len(places) == 1
        title = "All experiments ran here" if every else f"Where {', '.join(names)} ran"
        parts.append(_facts(title, facts, number))
    return element("section", parts, id="environment",
                   aria_labelledby=_labelled(heading, "environment"))  # fmt: skip


def _facts(title: str, facts: dict[str, Any], number: int) -> Element:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            flat |= value
        else:
            flat[name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    rows = [
        element("tr", element("th", name, scope="row"),
                element("td", "not installed" if value is None and name in facts.get("packages", ())
                        else "not set" if value is None else str(value)))
        for name, value in flat.items()
    ]  # fmt: skip
    return element("table", element("caption", title), element("tbody", rows), class_="facts")


def _reproduction(contents: Contents) -> Element:
    heading = element("h2", "How to reproduce")
    rows = [
        element(
            "tr",
            element("th", element("a", run.name, href=f"#{run.name}"), scope="row"),
            element("td", element("code", run.command)),
        )
        for run in contents.runs
    ]
    parts = [
        heading,
        element(
            "p",
            "From a fresh clone, ",
            element("code", "make figures"),
            " installs what is needed and runs everything; ",
            element("code", "python -m experiments --replot"),
            " draws the figures and writes this page again from the saved numbers. With the same "
            "seeds, a second run changes no number but times.",
        ),
        element(
            "table",
            element("caption", "The command for each experiment"),
            element("thead", element("tr", element("th", "experiment", scope="col"),
                                     element("th", "command", scope="col"))),
            element("tbody", rows),
            class_="facts",
        ),
    ]  # fmt: skip
    return element("section", parts, id="reproduce",
                   aria_labelledby=_labelled(heading, "reproduce"))  # fmt: skip

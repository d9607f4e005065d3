"""The rows of the lecture: an index of verdicts, and each row with its claims and numbers."""

from experiments._claims import Judged, Number, Row
from experiments._report import wording
from experiments._report.contents import Contents, anchor
from experiments._report.markup import Element, element, formula


def counts(contents: Contents) -> Element:
    """Returns how many claims have each verdict, as a list."""
    return element(
        "ul",
        [
            element("li", element("b", str(count)), " ", badge(verdict))
            for verdict, count in contents.counted().items()
        ],
        class_="counts",
    )


def index(contents: Contents) -> Element:
    """Returns a table with every row of the lecture and its verdicts."""
    rows = []
    for row in contents.rows:
        verdicts: list[object] = [
            element("a", badge(each.verdict), href=f"#{anchor(each, contents)}",
                    title=each.claim.sentence,
                    aria_label=f"{each.verdict}: {each.claim.sentence}")
            for each in contents.of_row(row.number)
        ]  # fmt: skip
        for place in range(len(verdicts) - 1, 0, -1):
            verdicts.insert(place, " ")
        rows.append(
            element(
                "tr",
                element("td", str(row.number)),
                element("th", element("a", row.title, href=f"#row-{row.number}"), scope="row"),
                element("td", verdicts or "context"),
            )
        )
    heads = (element("th", name, scope="col") for name in ("row", "what it is about", "verdicts"))
    return element(
        "table",
        element("caption", "The rows of the lecture; a verdict leads to its numbers"),
        element("thead", element("tr", heads)),
        element("tbody", rows),
        class_="index",
    )


def badge(verdict: str) -> Element:
    """Returns a verdict that is told apart by its words, and by its colour."""
    return element("span", verdict, class_=f"verdict {verdict.replace(' ', '-')}")


def sections(contents: Contents) -> list[Element]:
    """Returns the section of the rows; none where there are no claims."""
    if not contents.rows:
        return []
    heading = element("h2", "The lecture, row by row", id="rows-title")
    articles = [_article(row, contents) for row in contents.rows]
    return [element("section", heading, articles, id="rows", aria_labelledby="rows-title")]


def _article(row: Row, contents: Contents) -> Element:
    name = f"row-{row.number}"
    return element(
        "article",
        element("h3", f"{row.number}. {row.title}", id=f"{name}-title"),
        element("p", row.words),
        shown(row.latex, f"Formula of row {row.number}") if row.latex else None,
        element("p", "Context: there is nothing to test.") if row.is_context else None,
        [_claim(each, contents) for each in contents.of_row(row.number)],
        id=name,
        aria_labelledby=f"{name}-title",
    )


def shown(latex: str, label: str) -> Element:
    """Returns a formula in a box of its own, which scrolls where it is wider than the page."""
    return element("div", formula(latex), class_="scroll formula", tabindex="0", role="group",
                   aria_label=label)  # fmt: skip


def _claim(each: Judged, contents: Contents) -> Element:
    name = anchor(each, contents)
    experiment = each.claim.experiment
    run = contents.run(experiment)
    return element(
        "div",
        element(
            "p",
            badge(each.verdict),
            " ",
            element("strong", each.claim.sentence),
            [" ", element("span", run.size, class_="size")] if run and run.size else None,
        ),
        element("p", f"It holds when {each.found.condition}.")
        if each.found and each.verdict == "holds when"
        else None,
        _numbers(each) if each.found else element("p", each.reason, class_="reason"),
        element(
            "p",
            "Figure and experiment: ",
            element("a", experiment, href=f"#{experiment}"),
            class_="source",
        ),
        class_="claim",
        id=name,
    )


def _numbers(each: Judged) -> Element:
    assert each.found is not None
    heads = ("number", "found", "has to be")
    rows = [_row(number) for number in each.found.numbers]
    if each.found.otherwise:
        rows.append(
            element("tr", element("th", "And outside of the condition", scope="colgroup",
                                  colspan="3"), class_="otherwise")
        )  # fmt: skip
        rows += [_row(number) for number in each.found.otherwise]
    return element(
        "table",
        element("caption", f"Numbers for: {each.claim.sentence}", class_="hidden"),
        element("thead", element("tr", [element("th", head, scope="col") for head in heads])),
        element("tbody", rows),
        class_="numbers",
    )


def _row(number: Number) -> Element:
    limit = wording.bound(number)
    return element(
        "tr",
        element("th", number.label, scope="row"),
        element("td", wording.found(number)),
        element("td", f"{limit}, but it is not" if limit and not number.is_kept else limit),
        class_=None if number.is_kept else "broken",
    )

"""The report in short, as Markdown."""

from experiments._report import wording
from experiments._report.contents import Contents, Run


def text(contents: Contents) -> str:
    """Returns the report in short."""
    blocks = [
        "# Figures",
        "Each figure is drawn from the JSON file of the same name alone. `python -m experiments` "
        "writes all of them, and [report.html](report.html), one page with every number, which "
        "works without a network.",
    ]
    if warning := contents.warning():
        blocks.append(f"**{warning}**")
    blocks += [f"Not read: {problem}" for problem in contents.problems]
    if contents.rows:
        counts = ", ".join(f"{verdict}: {count}" for verdict, count in contents.counted().items())
        blocks += ["## The claims of the lecture", f"{len(contents.judged)} claims; {counts}."]
        blocks.append(_claims(contents))
    blocks += ["## The experiments", *(_experiment(run) for run in contents.runs)]
    blocks += [
        f"### {experiment.name}\n\n{experiment.claim}\n\nNot run yet: "
        f"`python -m experiments {experiment.name}`."
        for experiment in contents.missing
    ]
    return "\n\n".join(blocks) + "\n"


def _claims(contents: Contents) -> str:
    lines = ["| row | claim | verdict | number | figure |", "|---|---|---|---|---|"]
    for row in contents.rows:
        if row.is_context:
            lines.append(f"| {row.number} | {_cell(row.title)}: context | | | |")
        for each in contents.of_row(row.number):
            name = each.claim.experiment
            verdict = each.verdict
            if run := contents.run(name):
                verdict += f" ({run.size})" if run.size else ""
            if each.found and each.verdict == "holds when":
                verdict += f": {each.found.condition}"
            numbers = "; ".join(map(wording.sentence, wording.deciding(each))) or each.reason
            cells = (str(row.number), each.claim.sentence, verdict, numbers)
            lines.append(f"| {' | '.join(map(_cell, cells))} | [{name}](#{name}) |")
    return "\n".join(lines)


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")


def _experiment(run: Run) -> str:
    alt = " ".join(wording.PICTURES.get(run.name, run.subject).split())
    size = f"**{run.size.capitalize()}.** " if run.size else ""
    parts = [f"### {run.name}", f"{size}{run.claim}"]
    if run.picture:
        parts.append(f"![{alt}]({run.name}.png)")
    parts.append(f"`{run.command}` · [numbers]({run.name}.json)")
    return "\n\n".join(parts)

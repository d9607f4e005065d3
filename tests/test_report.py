"""The report: what the page and its summary hold, and how a real browser shows the page."""

import datetime
import html.parser
import itertools
import json
import re
import shutil
import sys
import urllib.parse
from pathlib import Path

import pytest
from browser import executable, running

from experiments import _claims, _registry, _report, _runner
from experiments._report import markup

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "figures"
# Few and light, but with tables, formulas, text and every verdict but "does not hold".
SHOWN = ("backpropagation", "closed_forms", "difference_cost", "jacobians")
TODAY = datetime.date(2026, 1, 31)


def copied(folder, names=SHOWN):
    for name in names:
        for kind in ("json", "svg", "png"):
            shutil.copy(FIGURES / f"{name}.{kind}", folder)
    return folder


def written(folder, claims=_claims.CLAIMS, today=TODAY):
    return _report.write(folder, _registry.find("experiments"), claims, today)


def reported(folder, *words):
    """Returns the status of what the command line does at its end."""
    options = _runner._parser("experiments").parse_args(["--out", str(folder), *words])
    return _runner._report(_registry.find("experiments"), options, "experiments")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = copied(tmp_path_factory.mktemp("figures"))
    assert written(folder) == (folder / "report.html", len(SHOWN))
    return folder


class Outline(html.parser.HTMLParser):
    """The elements of a page in their order, with their attributes and the text inside them."""

    def __init__(self, text):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def outline(folder):
    return Outline((folder / "report.html").read_text())


def test_every_row_of_the_lecture_is_on_the_page_and_in_its_index(outline):
    ids = {attributes.get("id") for _, attributes in outline.elements}
    links = {attributes["href"] for attributes in outline.all("a")}
    for number in range(1, 43):
        assert f"row-{number}" in ids
        assert f"#row-{number}" in links


def test_every_link_leads_somewhere(folder, outline):
    ids = {attributes.get("id") for _, attributes in outline.elements}
    for attributes in outline.all("a"):
        target = attributes["href"]
        if target.startswith("#"):
            assert target[1:] in ids
        else:
            assert (folder / target).is_file()


def test_no_name_of_a_place_is_given_twice(outline):
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_asks_the_network_for_nothing(outline):
    for _, attributes in outline.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert not re.match(r"(https?:)?//", attributes.get(name, ""))
    assert outline.all("script") == []
    style = _report.page._STYLE.read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_headings_go_down_one_level_at_a_time(outline):
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_a_screen_reader_finds_its_way(outline):
    assert outline.all("html") == [{"lang": "en"}]
    for landmark in ("header", "nav", "main", "footer"):
        assert len(outline.all(landmark)) == 1
    first_link = outline.all("a")[0]
    assert first_link == {"class": "skip", "href": "#content"}
    assert outline.all("main")[0]["id"] == "content"
    assert len(outline.all("table")) == len(outline.all("caption")) > 0
    assert all("scope" in attributes for attributes in outline.all("th"))
    labelled = [a["aria-labelledby"] for _, a in outline.elements if "aria-labelledby" in a]
    assert set(labelled) <= {attributes.get("id") for _, attributes in outline.elements}
    # What scrolls can be scrolled by keys, and has a name.
    for tag, attributes in outline.elements:
        if "scroll" in attributes.get("class", "").split():
            assert tag == "div"
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]


def test_each_figure_has_words_of_its_own(outline):
    words = [attributes["alt"] for attributes in outline.all("img")]
    assert len(words) == len(SHOWN)
    assert len(set(words)) == len(SHOWN)
    assert min(map(len, words)) > 60


def test_a_figure_without_words_of_its_own_is_described_by_its_docstring(tmp_path, monkeypatch):
    copied(tmp_path, ["jacobians"])
    monkeypatch.delitem(_report.wording.PICTURES, "jacobians")
    written(tmp_path)
    (image,) = Outline((tmp_path / "report.html").read_text()).all("img")
    assert image["alt"].startswith(
        "The Jacobians of a matrix product and of an elementwise product"
    )


def test_the_figures_are_those_of_the_folder_to_the_byte(folder, outline):
    for name, attributes in zip(SHOWN, outline.all("img"), strict=True):
        kind, _, data = attributes["src"].partition(",")
        assert kind == "data:image/svg+xml"
        assert urllib.parse.unquote_to_bytes(data) == (folder / f"{name}.svg").read_bytes()


def test_claims_of_experiments_that_were_not_run_say_how_to_run_them(folder, outline):
    text = "".join(outline.texts)
    assert "Not run yet: python -m experiments step_size" in text
    assert "not tested" in (folder / "README.md").read_text()


def test_verdicts_are_those_of_the_claims(folder, outline):
    results = {
        run.name: run.result for run in _report.saved.load(folder, _registry.find("experiments"))[0]
    }
    judged = [_claims.judge(claim, results) for claim in _claims.CLAIMS]
    shown = [tag for tag in outline.elements if "verdict" in tag[1].get("class", "").split()]
    # Once in the index, once at the claim, and at its experiment where that has run; and a legend.
    verdicts = {each.verdict for each in judged}
    here = sum(each.claim.experiment in SHOWN for each in judged)
    assert len(shown) == len(verdicts) + 2 * len(judged) + here
    summary = (folder / "README.md").read_text()
    for each in judged:
        assert f"| {each.claim.row} | {each.claim.sentence} | {each.verdict}" in summary


def test_a_second_report_of_the_same_numbers_is_the_same(folder):
    before = {name: (folder / name).read_bytes() for name in ("report.html", "README.md")}
    written(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before
    written(folder, today=datetime.date(2027, 3, 4))
    after = (folder / "report.html").read_text()
    assert after.replace("2027-03-04", TODAY.isoformat()) == before["report.html"].decode()
    written(folder)


def test_a_summary_names_every_figure_of_the_folder(folder):
    summary = (folder / "README.md").read_text()
    for name in SHOWN:
        alt, target = re.search(rf"!\[([^\]]+)\]\(({name}\.png)\)", summary).groups()
        assert len(alt) > 60
        assert (folder / target).is_file()


def test_without_files_of_experiments_nothing_is_written(tmp_path):
    assert written(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_ones_own_is_not_replaced(tmp_path, capsys):
    copied(tmp_path, ["jacobians"])
    (tmp_path / "README.md").write_text("# My thesis\n")
    with pytest.raises(_registry.UsageError, match="is not a report of an earlier run"):
        written(tmp_path)
    assert reported(tmp_path) == 2
    assert "error: no report:" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "# My thesis\n"
    assert not (tmp_path / "report.html").exists()


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_shown(tmp_path):
    copied(tmp_path, ["jacobians"])
    (tmp_path / "accuracy.json").write_text("{")
    assert written(tmp_path).experiments == 1
    for name in ("report.html", "README.md"):
        assert "accuracy.json is not the file of an experiment" in (tmp_path / name).read_text()


def test_an_experiment_that_fails_to_sum_up_is_named_and_the_others_are_shown(
    tmp_path, monkeypatch
):
    copied(tmp_path, ["jacobians", "difference_cost"])
    monkeypatch.setattr("experiments.jacobians.summary", lambda result: 1 // 0)
    assert written(tmp_path).experiments == 1
    assert "its experiment failed with ZeroDivisionError" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"outputs": 2, "hidden": 3, "inputs": 2, "seed": 0}, "quick run"),
        ({"outputs": 4, "hidden": 6, "inputs": 7, "seed": 0}, "run with other options"),
        ({"outputs": 4, "hidden": 6, "inputs": 5, "seed": 0}, None),
    ],
)
def test_a_run_of_another_size_is_marked_wherever_its_numbers_stand(tmp_path, config, said):
    copied(tmp_path, ["jacobians"])
    numbers = tmp_path / "jacobians.json"
    numbers.write_text(json.dumps({**json.loads(numbers.read_text()), "config": config}))
    written(tmp_path)
    page, summary = ((tmp_path / name).read_text() for name in ("report.html", "README.md"))
    claims = sum(claim.experiment == "jacobians" for claim in _claims.CLAIMS)
    warning = "Not run at full size: jacobians (1 of 1)"
    assert (warning in page) == (warning in summary) == (said is not None)
    if said:
        # At each claim, above the figure, and in its caption.
        assert page.count(said) == claims + 2
        assert summary.lower().count(said) == claims + 1
    assert ("inputs = 7" in page) == (said == "run with other options")


def test_texts_are_escaped(tmp_path):
    copied(tmp_path, ["jacobians"])
    known = _registry.find("experiments")
    claim = "<script>alert(1)</script> & more"
    known["jacobians"] = known["jacobians"]._replace(claim=claim)
    _report.write(tmp_path, known, _claims.CLAIMS, TODAY)
    text = (tmp_path / "report.html").read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text


def test_a_missing_typesetter_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    copied(tmp_path, ["jacobians"])
    monkeypatch.setitem(sys.modules, "latex2mathml", None)  # as if it were not installed
    markup._mathml.cache_clear()
    with pytest.raises(_registry.UsageError, match=r"pip install 'diffcompare\[experiments\]'"):
        written(tmp_path)


def test_another_process_than_the_first_writes_no_report(tmp_path):
    copied(tmp_path, ["jacobians"])
    others = ("--coordinator", "localhost:1", "--num-processes", "2", "--process-id", "1")
    assert reported(tmp_path, *others) == 0
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("row", _claims.ROWS, ids=lambda row: str(row.number))
def test_every_formula_is_typeset(row):
    if row.latex:
        text = markup.serialized(markup.formula(row.latex))
        assert text.startswith('<math display="block">')
        assert "\\" not in text  # no command is left over


# In a browser. Its start takes seconds, so one serves all tests.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if executable() is None:
        pytest.skip("there is no Chromium: install one, such as Debian's package chromium")
    with running(tmp_path_factory.mktemp("profile")) as page:
        yield page


WINDOWS = [(360, False), (360, True), (1200, False), (1200, True)]


@pytest.fixture(
    scope="module", params=WINDOWS, ids=["phone", "phone, dark", "desktop", "desktop, dark"]
)
def shown(request, browser, folder):
    width, dark = request.param
    browser.open(folder / "report.html", width=width, dark=dark)
    return browser


def test_the_browser_has_nothing_to_complain_about(shown, folder):
    assert shown.complaints() == []
    assert shown.requests() == [(folder / "report.html").resolve().as_uri()]


def test_every_figure_is_drawn_and_has_alternative_text(shown):
    script = "[...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.alt.length])"
    sizes = shown.evaluate(script)
    assert len(sizes) == len(SHOWN)
    assert min(itertools.chain(*sizes)) > 0


# Not innerWidth: a phone widens its window to what does not fit.
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


def test_the_page_does_not_scroll_sideways(shown):
    wanted, there_is = shown.evaluate(WIDTHS)
    assert wanted <= there_is
    script = "document.body.appendChild(document.createElement('hr')).style.width = '2000px'"
    shown.evaluate(script)
    assert shown.evaluate(WIDTHS)[0] > there_is  # so it would be seen
    shown.evaluate("document.body.lastElementChild.remove()")


def test_letters_of_a_figure_stay_large_enough_to_read(shown):
    # At less than three quarters of the size that it was drawn for, eight points become five.
    widths = shown.evaluate("[...document.images].map(i => i.clientWidth / i.naturalWidth)")
    assert min(widths) >= 0.75


def test_every_link_of_the_page_resolves_in_the_browser(shown):
    script = """[...document.querySelectorAll('a[href^="#"]')]
        .filter(a => !document.getElementById(a.hash.slice(1))).map(a => a.hash)"""
    assert shown.evaluate(script) == []


def test_formulas_are_typeset(shown):
    # A fraction is taller than a line of text.
    heights = shown.evaluate(
        "[...document.querySelectorAll('mfrac')].map(f => f.getBoundingClientRect().height)"
    )
    assert min(heights) > 16


# The contrast of each kind of text against the paper it stands on, as WCAG 2.2 defines it.
KINDS = "p, a, td, th, figcaption, .verdict, summary"
CONTRAST = (
    f"[...document.querySelectorAll('{KINDS}')].map("
    """e => {
    const light = colour => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255)
            .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    let below = e;
    while (below.parentElement && getComputedStyle(below).backgroundColor == 'rgba(0, 0, 0, 0)')
        below = below.parentElement;
    const pair = [getComputedStyle(e).color, getComputedStyle(below).backgroundColor].map(light);
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
})"""
)


def test_all_text_stands_out_from_its_paper(shown):
    contrasts = shown.evaluate(CONTRAST)
    assert len(contrasts) > 100
    assert min(contrasts) >= 4.5  # WCAG 2.2, level AA


def press_tab(page):
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                  windowsVirtualKeyCode=9)  # fmt: skip


def test_keys_reach_the_content_first_and_show_where_they_are(browser, folder):
    browser.open(folder / "report.html", width=360)
    press_tab(browser)
    script = """(() => {
        const e = document.activeElement, style = getComputedStyle(e);
        const box = e.getBoundingClientRect();
        return [e.className, box.left >= 0 && box.top >= 0, style.outlineStyle];
    })()"""
    assert browser.evaluate(script) == ["skip", True, "solid"]
    press_tab(browser)
    assert browser.evaluate("document.activeElement.closest('nav') !== null")


def test_it_prints_black_on_white_without_what_is_for_screens(browser, folder):
    browser.open(folder / "report.html", width=1200, dark=True)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=features)
    style = browser.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('nav')).display]"
    )
    assert style == ["rgb(255, 255, 255)", "rgb(0, 0, 0)", "none"]
    assert browser.printed().startswith(b"%PDF-")


@pytest.mark.skipif(not (FIGURES / "report.html").is_file(), reason="figures/ has no report yet")
def test_the_whole_report_fits_a_phone(browser):
    browser.open(FIGURES / "report.html", width=360)
    assert browser.complaints() == []
    assert browser.evaluate(WIDTHS) == [360, 360]
    unloaded = "[...document.images].filter(i => !(i.naturalWidth > 0 && i.alt)).length"
    assert browser.evaluate(unloaded) == 0
    assert browser.evaluate("document.images.length") >= len(list(FIGURES.glob("*.json")))

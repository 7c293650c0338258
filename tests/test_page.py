"""The page of a study: what stands on it is what was measured, whatever its people are called; in a real browser where there is one."""

import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from conftest import Project, refused
from tiny import write_people

from rootstock.results import draw
from rootstock.results.page import Page, rendered, write_page
from rootstock.results.sections import Figure, Section, Table
from rootstock.study.problems import Refusal

ODD = '<img src=x onerror=alert(1)>é"'
PEOPLE = ("ann", "bob", ODD)
STUDY = {
    "study": "page",
    "description": "</script><script>alert(2)</script> & more",
    "data": {"path": "data/tiny"},
    "participants": list(PEOPLE),
    "base": {"max_epochs": 2, "lr": 0.01},
    "finetune": [
        {"mode": "base_only"},
        {"mode": ["target_only_fine_tuning", "target_only"], "target_data_pct": [0.5, 1.0], "max_epochs": 2},
    ],
}
PAGE = "results/page/report.html"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    """A project in which all of the study is published, and its summary and page are made."""
    folder = tmp_path_factory.mktemp("page") / "project"
    folder.mkdir()
    project = Project(folder)
    write_people(project / "data/tiny", PEOPLE)
    project.publish_here(STUDY)
    project.study("page", STUDY)
    project.here("summarise", "--study", "page.yaml", "--output", "results/page/summary.csv")
    project.here("report", "--study", "page.yaml", "--output", PAGE)
    return project


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, headless; `.ci/run` installs it."""
    chromium = shutil.which("chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: requirements-dev.txt")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(made, browser):
    """The page, opened from disk; what it asked for and complained of stands in `page.heard`."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("dialog", lambda dialog: (page.heard.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda asked: page.heard.append(asked.url) if asked.url.startswith(("http", "ws")) else None)
    page.goto((made / PAGE).as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    yield page
    page.close()


class Tables(HTMLParser):
    """The cells of each table by its id: what is shown, and the exact number where that is another text."""

    def __init__(self, text: str):
        super().__init__()
        self.found: dict[str, list[list[list[str]]]] = {}
        self.name, self.cell = "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        about = dict(attrs)
        if tag == "div" and "table" in (about.get("class") or "").split():
            self.name = about["id"]
            self.found[self.name] = []
        elif tag == "tr" and self.name:
            self.found[self.name].append([])
        elif tag in ("th", "td") and self.name:
            self.cell = ["", about.get("data-order", "")]
            self.found[self.name][-1].append(self.cell)

    def handle_endtag(self, tag):
        self.cell = None if tag in ("th", "td") else self.cell
        self.name = "" if tag == "table" else self.name

    def handle_data(self, data):
        if self.cell is not None:
            self.cell[0] += data


def shown(project: Project, page: str = PAGE) -> dict[str, list[list[list[str]]]]:
    return Tables((project / page).read_text()).found


def test_every_number_of_a_table_is_that_of_its_csv(made):
    tables, compared = shown(made), 0
    for name, (head, *rows) in tables.items():
        frame = pd.read_csv(made / f"results/page/tables/{name}.csv", dtype=str, keep_default_na=False)
        names = [cell[0] for cell in head]
        assert names == [column for column in frame if column in names] and len(rows) == len(frame), name
        for cells, (_, row) in zip(rows, frame[names].iterrows(), strict=True):
            for (text, exact), wanted in zip(cells, row, strict=True):
                assert is_the_same(exact or text, wanted), (name, text, exact, wanted)
                assert not exact or is_rounded(text, exact)
                compared += bool(exact)
    assert compared > 40 and {"comparisons", "units", "experiments", "models"} <= tables.keys()
    assert {"gain", "low", "high", "p_holm", "probability_of_improvement"} <= {
        cell[0] for cell in tables["comparisons"][0]
    }


def is_the_same(told: str, wanted: str) -> bool:
    try:
        return float(told) == float(wanted)
    except ValueError:
        return told in (wanted, {"True": "yes", "False": "no"}.get(wanted))


def is_rounded(text: str, exact: str) -> bool:
    digits = len(text.partition(".")[2]) if "e" not in text else None
    return text in (f"{float(exact):.4g}", f"{float(exact):.{digits}f}" if digits is not None else "")


def test_the_numbers_of_the_csv_are_those_of_the_metrics(made):
    experiments = pd.read_csv(made / "results/page/tables/experiments.csv")
    assert len(experiments) == 15
    for _, row in experiments.iterrows():
        metrics = json.loads((made / row["path"] / "metrics.json").read_text())
        assert row["test_accuracy"] == metrics["metrics"]["test"]["accuracy"] and row["seconds"] == metrics["seconds"]
    units = pd.read_csv(made / "results/page/tables/units.csv").set_index("target")
    answer = pd.read_csv(made / "results/page/tables/comparisons.csv").query("answer").iloc[0]
    assert answer["gain"] == pytest.approx(units["gain"].mean()) and set(units.index) == set(PEOPLE)
    told = re.sub("<[^>]+>", " ", (made / PAGE).read_text().partition('class="answer">')[2].partition("</section>")[0])
    assert f"from {answer['before']:.1f} to {answer['after']:.1f} %" in told


def test_each_figure_lies_beside_the_page_with_its_numbers(made):
    text = (made / PAGE).read_text()
    names = re.findall(r'<figure id="([a-z_]+)">', text)
    files = {file.name for file in (made / "results/page/figures").iterdir()}
    assert files == {"figures.json", *(f"{name}.{end}" for name in names for end in ("svg", "csv"))}
    assert {"lead", "effects", "gains", "amounts", "three_ways", "confusions", "curves", "features_by_class"} <= set(
        names
    )
    for name in names:
        svg = ET.parse(made / f"results/page/figures/{name}.svg").getroot()
        assert [part.tag.rpartition("}")[2] for part in svg[:2]] == ["title", "desc"] and svg[1].text
        assert len(pd.read_csv(made / f"results/page/figures/{name}.csv"))
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_what_is_named_is_text(made):
    text = (made / PAGE).read_text()
    assert (
        "<img" not in text
        and "alert(2)</script>" not in text
        and "&lt;img src=x" in text
        and text.count("<script") == 3
    )


def test_the_same_results_make_the_same_bytes(made):
    before = {file: file.read_bytes() for file in (made / "results/page").rglob("*") if file.is_file()}
    made.here("report", "--study", "page.yaml", "--output", PAGE)
    assert before == {file: file.read_bytes() for file in (made / "results/page").rglob("*") if file.is_file()}


def test_what_is_there_of_a_study_has_a_page_that_says_so(made, monkeypatch):
    lost = next(made.folder.glob("experiments/target_only_*/fold1_bob")) / "metrics.json"
    lost.rename(lost.with_name("hidden"))
    try:
        made.here("report", "--study", "page.yaml", "--output", "results/page/partial/report.html", "--partial")
    finally:
        lost.with_name("hidden").rename(lost)
    text = (made / "results/page/partial/report.html").read_text()
    assert "partial: 14 of 15 experiments are there" in text and "Of the experiments that are done so far" in text
    tables = shown(made, "results/page/partial/report.html")
    assert [row[0][0] for row in tables["missing"][1:]] == ["fold1_bob"]
    assert [cell[0] for cell in tables["coverage"][0]] == ["setting", "wanted", "done", "failed", "missing"]


@pytest.mark.parametrize(
    "less",
    [
        {"folds": [0], "finetune": {"mode": "target_only_fine_tuning", "target_data_pct": 0.5, "max_epochs": 2}},
        {"folds": [0], "finetune": {"mode": "base_only"}},
    ],
)
def test_one_experiment_has_a_page(made, less):
    made.study("one", STUDY | {"study": "one"} | less)
    made.publish_here(STUDY | {"study": "one"} | less)
    made.here("report", "--study", "one.yaml", "--output", "results/one/report.html")
    (row,) = shown(made, "results/one/report.html")["experiments"][1:]
    assert "ann" in [cell[0] for cell in row]
    text = (made / "results/one/report.html").read_text()
    assert ("this test cannot reach" in text) == (less["finetune"]["mode"] != "base_only")


def test_the_page_asks_for_nothing_and_complains_of_nothing(page, made):
    assert page.heard == []
    drawn = page.locator("figure svg.drawing")
    assert drawn.count() == len(list((made / "results/page/figures").glob("*.svg")))
    assert all(drawn.nth(k).bounding_box()["height"] > 50 for k in range(drawn.count()))
    assert page.locator("h1").inner_text() == "page"


def test_long_tables_sort_and_filter(page):
    from playwright.sync_api import expect

    table = page.locator("#experiments")
    rows = table.locator("tbody tr")
    assert rows.count() == 10
    table.locator("input[type=search]").fill("fold1_bob")
    expect(rows).to_have_count(5)
    assert all("fold1_bob" in text for text in rows.all_inner_texts())
    table.locator("input[type=search]").fill("")
    expect(rows).to_have_count(10)
    head = table.locator("thead th").all_inner_texts()
    column = [name.strip() for name in head].index("test_loss")
    table.locator("thead th").nth(column).click()
    expect(table.locator("thead th").nth(column)).to_have_attribute("aria-sort", "ascending")
    values = [float(row.split("\t")[column]) for row in rows.all_inner_texts()]
    assert values == sorted(values) and values[0] < values[-1]


def test_links_lead_somewhere(page, made):
    links = {link.get_attribute("href") for link in page.locator("a").all()}
    inner = {link for link in links if link.startswith("#")}
    assert len(inner) > 8 and all(page.locator(f"[id='{link[1:]}']").count() == 1 for link in inner)
    assert all((made / "results/page" / link).is_file() for link in links - inner) and len(links - inner) > 15


def test_a_definition_is_one_click_away_and_the_keyboard_comes_everywhere(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "answer"
    word = page.locator("details.word").first
    assert not word.locator("p").is_visible()
    word.locator("summary").click()
    assert word.locator("p").is_visible()


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (400, "dark"), (1280, "dark")])
def test_nothing_is_wider_than_the_screen_and_dark_is_dark(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    paper, ink = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    light = [sum(map(int, re.findall("[0-9]+", colour)[:3])) for colour in (paper, ink)]
    assert (light[0] < 150 and light[1] > 600) if scheme == "dark" else (light[0] > 700 and light[1] < 150)


def test_on_paper_no_table_is_cut_off(page):
    page.set_viewport_size({"width": 1000, "height": 700})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    edges = page.evaluate("[...document.querySelectorAll('table')].map((one) => one.getBoundingClientRect().right)")
    assert len(edges) > 5 and max(edges) <= 1001
    assert not page.locator("header nav").is_visible() and page.locator("#words dt").first.is_visible()


def test_a_notice_keeps_its_lines():
    text = rendered(Page("t", "", ["none"], None, [], notice="partial:\n  <b>: why\x1b"))
    assert "partial:\n  &lt;b&gt;: why</div>" in text


def test_the_templates_are_part_of_the_package():
    import rootstock.results.page as module

    names = {file.name for file in Path(module.TEMPLATES).iterdir()}
    assert names == {"report.html.j2", "style.css", "page.js"}


def test_two_studies_of_one_task_are_compared_setting_by_setting(made, capsys):
    for name, epochs in (("short", 1), ("long", 3)):
        less = {"study": name, "finetune": {"mode": "target_only_fine_tuning", "max_epochs": epochs}}
        made.study(name, STUDY | less)
        made.publish_here(STUDY | less)
    made.here("report", "--compare", "short.yaml", "long.yaml")
    tables = shown(made, "results/long/compared_with_short/report.html")
    said = (made / "results/long/compared_with_short/report.html").read_text()
    assert "Of 2 comparisons with short" in said
    assert ">long<" in (made / "results/long/compared_with_short/figures/lead.svg").read_text()  # no "after"
    assert [[cell[0] for cell in row] for row in tables["differences"][1:]] == [["max_epochs", "1", "3"]]
    _, compared, bases = ([cell[0] for cell in row] for row in tables["comparisons"])
    assert compared[0] == "yes" and "base model" in bases
    against = pd.read_csv(made / "results/long/compared_with_short/tables/comparisons.csv")["against"]
    assert against.tolist() == ["short", "short"]
    units = pd.read_csv(made / "results/long/compared_with_short/tables/units.csv").set_index("target")
    for name, column in (("short", "before"), ("long", "after")):
        folder = made.folder.glob("experiments/target_only_fine*/fold0_ann")
        accuracies = {json.loads((one / "metrics.json").read_text())["metrics"]["test"]["accuracy"] for one in folder}
        assert any(units.loc["ann", column] == pytest.approx(100 * accuracy) for accuracy in accuracies), name
    made.study("other", {"study": "other", "task": "language_model"})
    assert "give two of one task" in refused(made, capsys, "report", "--compare", "short.yaml", "other.yaml")
    assert "give two of different names" in refused(made, capsys, "report", "--compare", "short.yaml", "short.yaml")
    assert "--output: missing" in refused(made, capsys, "report", "--study", "short.yaml")


@pytest.mark.parametrize("planted", ["figures/mine.svg", "tables/mine.csv", "figures/deep/mine.txt"])
def test_a_page_beside_folders_of_the_users_own_removes_nothing(tmp_path, planted):
    file = tmp_path / planted
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(Refusal, match=r"holds files of yours; give another --output"):
        write_page(Page("a", "", [], None, []), tmp_path / "report.html")
    assert file.read_text() == "mine"


def test_a_page_is_not_written_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "figures").symlink_to("elsewhere")
    with pytest.raises(Refusal, match="give another --output"):
        write_page(Page("a", "", [], None, []), tmp_path / "report.html")


def test_a_page_replaces_the_page_before(tmp_path):
    for _ in range(2):
        write_page(Page("a", "", [], None, []), tmp_path / "report.html")
    assert {item.name for item in tmp_path.iterdir()} == {"report.html", "figures", "tables"}


def test_titles_and_captions_turn_no_direction_and_command_nothing():
    odd = "a\N{RIGHT-TO-LEFT OVERRIDE}b\x1b[2J\x00"
    drawn = Figure("drawn", odd, odd, odd, draw.boxes([("a", "1")]), pd.DataFrame())
    page = rendered(Page(odd, odd, [odd], drawn, [Section("a", [Table("odd", odd, odd, pd.DataFrame({"a": [1]}))])]))
    assert not {"\N{RIGHT-TO-LEFT OVERRIDE}", "\x1b", "\x00"} & set(page)

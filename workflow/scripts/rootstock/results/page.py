"""The page of a study: one self-contained HTML file; beside it all figures, and the numbers of figures and tables."""

import base64
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..store.files import write_atomically, write_json
from ..study.problems import Refusal
from .sections import NAME, Figure, Section, Table
from .svg import as_text, svg_of

TEMPLATES = Path(__file__).parent / "templates"
FIGURES, TABLES = "figures", "tables"
WIDE = 60  # characters; a longer text is broken into lines
LISTING = "figures.json"  # titles and captions, for Snakemake's report
OURS = re.compile(rf"{NAME.pattern}\.(svg|csv)|{re.escape(LISTING)}")


@dataclass(frozen=True)
class Page:
    """The contents of a page, from top to bottom."""

    title: str
    description: str
    answer: Sequence[str]  # sentences
    lead: Figure | None
    sections: Sequence[Section]
    notice: str = ""  # what is missing, if anything
    words: Mapping[str, str] = field(default_factory=dict)  # statistical words and their definitions
    files: Sequence[str] = ()  # files beside the page, which it links


class Cell(NamedTuple):
    """A cell of a table as shown; `exact` is the number as in the csv, if that is written differently."""

    text: str
    is_number: bool = False
    is_wide: bool = False  # may be broken into lines
    exact: str = ""


def write_page(page: Page, path: Path) -> None:
    """Write the page to `path`, and its figures and tables into folders beside it, whose old content is removed."""
    parts = [part for section in page.sections for part in section.parts]
    figures = [part for part in (page.lead, *parts) if isinstance(part, Figure)]
    tables = [part for part in parts if isinstance(part, Table)]
    _require_ours(path.parent)
    for folder in (TABLES, FIGURES):  # the listing marks both as ours: removed last, written first
        shutil.rmtree(path.parent / folder, ignore_errors=True)
    about = {figure.name: {"title": figure.title, "caption": figure.caption} for figure in figures}
    write_json(path.parent / FIGURES / LISTING, about)
    (path.parent / TABLES).mkdir()
    for figure in figures:
        drawn = '<?xml version="1.0" encoding="utf-8"?>\n' + _svg(figure)
        write_atomically(path.parent / FIGURES / f"{figure.name}.svg", drawn.encode())
        _write_csv(figure.data, path.parent / FIGURES / f"{figure.name}.csv")
    for table in tables:
        _write_csv(table.frame, path.parent / TABLES / f"{table.name}.csv")
    write_atomically(path, rendered(page).encode())


def rendered(page: Page) -> str:
    """The page as HTML. Everything except the templates' own markup is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests |= {
        "figure": lambda part: isinstance(part, Figure),
        "table": lambda part: isinstance(part, Table),
    }
    environment.filters |= {
        "svg": lambda figure: Markup(_svg(figure)),
        "text": as_text,
        "slug": slug,
        "breakable": breakable,
    }
    environment.globals |= {"rows_of": rows_of, "is_number": is_number}
    sections = [section for section in page.sections if section.parts]
    has_tables = any(isinstance(part, Table) and part.is_long for section in sections for part in section.parts)
    return environment.get_template("report.html.j2").render(
        page=page,
        sections=sections,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
        bundle=_bundle() if has_tables else {},
    )


def rows_of(table: Table) -> Iterator[list[Cell]]:
    """The cells of a table, row by row."""
    columns = [[_cell(value, table.digits.get(str(name))) for value in table.shown[name]] for name in table.shown]
    return map(list, zip(*columns, strict=True))


def is_number(table: Table, name: str) -> bool:
    return pd.api.types.is_numeric_dtype(table.frame[name]) and not pd.api.types.is_bool_dtype(table.frame[name])


def breakable(name: Any) -> Markup:
    """The name of a column, in which a line may break after an underscore."""
    return Markup("_<wbr>").join(as_text(name).split("_"))


def slug(title: str) -> str:
    return re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")


def _require_ours(folder: Path) -> None:
    """Raise `Refusal` if a folder that the page replaces is a link or holds other files than a page writes: `--output`
    may be in any folder."""
    is_listed = (folder / FIGURES / LISTING).is_file()
    for place in (folder / FIGURES, folder / TABLES):
        is_other = place.is_symlink() or (place.exists() and not place.is_dir())
        names = [item.name for item in place.iterdir() if not item.name.startswith(".")] if place.is_dir() else []
        if is_other or any(not OURS.fullmatch(name) or not is_listed for name in names):
            raise Refusal(f"{place}: a page replaces this folder, and it holds files of yours; give another --output")


def _svg(figure: Figure) -> str:
    return svg_of(figure.drawing, f"figure-{figure.name}", figure.title, figure.alt)


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    write_atomically(path, frame.to_csv(index=False).encode())


def _cell(value: Any, digits: int | None) -> Cell:
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return Cell("")
    if isinstance(value, bool) or pd.api.types.is_bool(value):
        return Cell("yes" if value else "no")
    if pd.api.types.is_integer(value):
        return Cell(str(value), True)
    if not pd.api.types.is_float(value):
        return Cell(text := as_text(value), is_wide=len(text) > WIDE)
    exact = repr(float(value))
    text = f"{value:.{digits}f}" if digits is not None else f"{value:.4g}"
    return Cell(text, True, exact="" if text == exact else exact)


def _bundle() -> dict[str, str]:
    """DataTables, as itables ships it: its style, and its module in base64, so that no `</script>` in it has effect."""
    html = files("itables") / "html"
    script = (html / "dt_bundle.js").read_bytes()
    style = (html / "dt_bundle.css").read_text(encoding="utf-8").replace("</", "<\\/")
    return {"script": base64.b64encode(script).decode(), "style": Markup(style)}

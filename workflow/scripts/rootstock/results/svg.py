"""A matplotlib drawing as SVG for a page: in the page's colours, light or dark, with text as text and its own ids."""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure as Drawing

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ET.register_namespace("", SVG)
ET.register_namespace("xlink", LINK)

# Drawings use these colours; `SHOWN` replaces them by the page's variables. Elsewhere a variable's second value holds.
INK, GRID, PAPER, GREY = "#010203", "#040506", "#070809", "#0a0b0c"
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)  # Okabe and Ito: colour-blind readers can distinguish them
SHOWN = {
    INK: "currentColor",
    GRID: "var(--grid, #d9d9d9)",
    PAPER: "var(--paper, #ffffff)",
    GREY: "var(--grey, #8a8a8a)",
}
SHOWN |= {colour: f"var(--c{number}, {colour})" for number, colour in enumerate(COLOURS, 1)}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rootstock",  # the same results draw the same bytes
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # names are text, whatever is in them
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
FONTS = "font-family: 'DejaVu Sans', Verdana, sans-serif"  # equally wide, so that matplotlib's layout fits
NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def as_text(value: Any) -> str:
    """A user's text without what XML cannot hold; unprintable characters, which may turn direction, are replaced."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in NO_XML.sub("", str(value))
    )


def svg_of(drawing: Drawing, name: str, title: str, alt: str) -> str:
    """The drawing as an `<svg>` element without a size of its own. Every id in it begins with `name`."""
    root = _drawn(drawing)
    for element in root.findall(f"{{{SVG}}}metadata"):
        root.remove(element)
    _name_ids(root, name)
    _colour(root)
    width, height = root.get("viewBox", "0 0 1 1").split()[2:]
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-alt", "class": "drawing"}
    root.attrib |= {"style": f"{FONTS}; background: {SHOWN[PAPER]}; aspect-ratio: {float(width):g} / {float(height):g}"}
    for place, (tag, text) in enumerate((("title", title), ("desc", alt))):
        told = ET.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{'alt' if place else 'title'}"})
        told.text = as_text(text)
        root.insert(place, told)
    return ET.tostring(root, encoding="unicode")


def _drawn(drawing: Drawing) -> ET.Element:
    drawn = io.StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # letters that matplotlib has no font for; the reader has
        drawing.savefig(drawn, format="svg", metadata={"Date": None})
    return ET.fromstring(NO_XML.sub("", drawn.getvalue()))


def _name_ids(root: ET.Element, name: str) -> None:
    """Keep only the ids that are referred to, with the drawing's name before them: a page holds several drawings."""
    used = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == f"{{{LINK}}}href" and value.startswith("#"):
                used.add(value[1:])
                element.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                used |= set(re.findall(r"url\(#([^)]+)\)", value))
                element.set(key, value.replace("url(#", f"url(#{name}-"))
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", f"{name}-{own}")


def _colour(root: ET.Element) -> None:
    """Set the page's variables for colours, as styles: an attribute takes no variable."""
    for element in root.iter():
        style = element.get("style", "")
        for key in ("fill", "stroke"):
            if element.get(key) in SHOWN:
                style += f"; {key}: {element.attrib.pop(key)}"
        for drawn, shown in SHOWN.items():
            style = style.replace(drawn, shown)
        if style:
            element.set("style", style.lstrip("; "))

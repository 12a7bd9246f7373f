"""A page that stands alone: style, script, plotly.js and data in one file."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from nas.report.markup import Html, embedded, section, tag

if TYPE_CHECKING:
    from collections.abc import Sequence


def page(
    title: str, lead: object, figures: Sequence[tuple[str, str]], parts: Sequence[Html], data: Any
) -> str:
    """The whole document.

    Args:
        title: heading.
        lead: the line below it.
        figures: the few numbers that matter most, each with what it counts.
        parts: sections.
        data: JSON values that the plots are drawn from.
    """
    here = files("nas.report")
    plain = (
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(here.joinpath("page.css").read_text(encoding="utf-8"))),
    )
    header = tag(
        "header",
        tag("h1", title),
        tag("p", lead, class_="lead"),
        tag("div", *(tag("div", tag("b", v), tag("span", what)) for what, v in figures), class_="figures"),
        tag("nav", *_links(parts)),
    )
    own = [
        tag("script", Html(here.joinpath(f).read_text(encoding="utf-8"))) for f in ("parallel.js", "page.js")
    ]
    # The text comes first: it is shown while the browser still reads the library.
    body = tag(
        "body", header, tag("main", *parts), tag("script", Html(_plotly())), embedded(data, "data"), *own
    )
    return "<!DOCTYPE html>\n" + tag("html", tag("head", *plain), body, lang="en") + "\n"


def front_section(metrics: Sequence[str], lead: str, *more: Html) -> Html:
    """The front with a choice of axes: by default the second metric across and the first one up."""
    x, y = (1, 0) if len(metrics) > 1 else (0, 0)

    def choice(name: str, chosen: int) -> Html:
        options = (
            tag("option", metric, value=i, selected="selected" if i == chosen else None)
            for i, metric in enumerate(metrics)
        )
        return tag("label", f"{'across' if name == 'x' else 'up'} ", tag("select", *options, id=name))

    plot = tag("div", id="front-plot", class_="plot")
    controls = tag("div", choice("x", x), choice("y", y), class_="axes")
    return section("Front", tag("p", lead), controls, plot, *more, name="front")


def volume_section(note: Html, *, timed: bool) -> Html:
    """Hypervolume over trials and, where times are known, over time."""
    plots = [tag("div", id="volume-trials", class_="plot low")]
    if timed:
        plots.append(tag("div", id="volume-time", class_="plot low"))
    return section("Hypervolume", tag("div", *plots, class_="pair"), note, name="hypervolume")


def _links(parts: Sequence[Html]) -> list[Html]:
    """A link for each section, by its name and heading."""
    found = []
    for part in parts:
        name = part.partition('id="')[2].partition('"')[0]
        heading = part.partition("<h2>")[2].partition("</h2>")[0]
        found.append(tag("a", Html(heading), href=f"#{name}"))
    return found


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())

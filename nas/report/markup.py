"""HTML that escapes whatever it is not told to trust, and figures for people."""

from __future__ import annotations

import json
import math
from html import escape
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@final
class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


NONE = "\N{EN DASH}"
"""Stands where there is no figure."""
VOID = frozenset({"meta", "link", "br", "rect", "path"})


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element; children that are not `Html` are escaped.

    Args:
        name: of the element.
        children: inside, one after the other.
        attributes: ``class_`` for class, ``_`` for ``-``; those that are None are left out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{given}/>")
    return Html(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[object]) -> Html:
    """Parts one after the other, escaped where they are not `Html`."""
    return Html("".join(part if isinstance(part, Html) else escape(str(part)) for part in parts))


def table(header: Sequence[object], rows: Iterable[Sequence[object]], **attributes: object) -> Html:
    """A table that scrolls by itself where the page is narrow."""
    head = tag("tr", *(tag("th", cell) for cell in header))
    body = (tag("tr", *(tag("td", cell) for cell in row)) for row in rows)
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body), **attributes), class_="scroll")


def section(title: str, *children: object, name: str) -> Html:
    """A part of the page with a heading."""
    return tag("section", tag("h2", title), *children, id=name)


def note(*children: object) -> Html:
    """A line of small print."""
    return tag("p", *children, class_="note")


def embedded(data: Any, name: str) -> Html:
    """JSON that a script reads; no text in it can end the element. Values that are not finite are null."""
    text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return tag("script", Html(text), type="application/json", id=name)


def number(value: float | None) -> str:
    """A figure for people; a dash where there is none."""
    if value is None or value != value:
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 0.1:
        return f"{1e3 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def share(part: float, whole: float) -> str:
    """A part as a percentage of the whole."""
    return f"{100 * part / whole:.1f} %" if whole else NONE


def counted(n: int, one: str, many: str = "") -> str:
    """A number with its noun, such as "1 trial"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

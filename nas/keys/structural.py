"""Structural keys: equal for graphs of the same form, whatever their operations compute."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.space import Graph

LONG = 1_000
"""Characters from which a node's text is replaced by its digest, so that texts stay short."""


def skip_collapse(graph: Graph) -> str:
    """32 hexadecimal digits of the graph's text with every ``identity`` replaced by what it reads.

    ``sum`` is the one operation whose inputs may come in any order; ``zero`` is one like all others.

    Raises:
        BadInput: a node reads itself or a later node.

    Source: Dong & Yang 2020 (NAS-Bench-201), the isomorphism strings; 12,751 distinct cells.
    """
    return _key(graph, "")


def structural(graph: Graph) -> str:
    """The same with zero markers: 32 hexadecimal digits.

    A ``zero``, and any operation of exactly one zero marker, is a zero marker; a ``sum`` of several is none.

    Raises:
        BadInput: a node reads itself or a later node.

    Source: Dong & Yang 2020 (NAS-Bench-201), the isomorphism strings; 6,466 distinct cells.
    """
    return _key(graph, "#")


def _key(graph: Graph, marker: str) -> str:
    """Nodes as texts: an operation is ``(its inputs)@name``, a sum is its sorted inputs joined by ``+``."""
    texts: list[str] = []
    inputs = 0
    for op, sources in graph.checked():
        read = [texts[i] for i in sources]
        if op == "input":
            text = str(inputs)
            inputs += 1
        elif op == "identity":
            text = read[0]
        elif op == "sum":
            text = "+".join(sorted(read))
        elif marker and (op == "zero" or read == [marker]):
            text = marker
        else:
            text = f"({','.join(read)})@{op}"
        texts.append(text if len(text) < LONG else _digest(text))
    return _digest(texts[-1])


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()

"""The symbolic key: the value of a graph under the declared algebra of its operations."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, final

from nas.operators import BUILTIN, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nas.operators import Operator
    from nas.space import Graph

KNOWN = 1_000_000
"""Values that are kept at most before all are forgotten."""


@final
class Symbolic:
    """Maps a graph to 32 hexadecimal digits of the function that it computes.

    Two graphs get one key when declared properties turn one into the other: names and order of nodes, dead
    nodes, copies (``identity``), order and nesting of what is commutative and associative, identities,
    annihilators, and operations of only zeros. Everything else is told apart, so that nothing undeclared is
    shared. Two nodes of one operation with equal inputs count as equal although their weights may differ.

    Args:
        operators: by operation name.

    Source: the symbolic relative of Gillard et al. 2023 (unified functional hashing), for DAGs.
    """

    def __init__(self, operators: Mapping[str, Operator] = BUILTIN) -> None:
        self._operators = operators
        self._values: dict[tuple[str, tuple[bytes, ...]], bytes] = {}
        self._terms: dict[bytes, tuple[str, tuple[bytes, ...]]] = {}

    def __call__(self, graph: Graph) -> str:
        """The key of the last node.

        Raises:
            BadInput: a node reads itself or a later node.
        """
        if len(self._values) > KNOWN:
            self._values.clear()
            self._terms.clear()
        known = self._values
        values: list[bytes] = []
        inputs = 0
        for op, sources in graph.checked():
            name = op
            if op == "input":
                name = f"input {inputs}"
                inputs += 1
            read = tuple([values[i] for i in sources])
            value = known.get((name, read))
            if value is None:
                value = known[name, read] = self._value(name, read)
            values.append(value)
        return values[-1].hex()

    def _value(self, op: str, read: tuple[bytes, ...]) -> bytes:
        """What an operation gives for its inputs' values, simplified as far as is declared."""
        operator = self._operators.get(op, UNKNOWN)
        zero = _digest("zero", ())
        if op == "zero" or (operator.keeps_zero and read and set(read) == {zero}):
            return zero
        if operator.annihilator is not None and _digest(operator.annihilator, ()) in read:
            return _digest(operator.annihilator, ())
        terms = self._flat(op, read) if operator.associative else read
        if operator.identity is not None:
            nothing = _digest(operator.identity, ())
            terms = tuple(t for t in terms if t != nothing)
            if not terms:
                return nothing
        if operator.associative and len(terms) == 1:
            return terms[0]
        if operator.commutative:
            terms = tuple(sorted(terms))
        value = _digest(op, terms)
        if operator.associative:
            self._terms[value] = (op, terms)
        return value

    def _flat(self, op: str, read: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The inputs, those that come from the same operation replaced by their own."""
        flat: list[bytes] = []
        for value in read:
            head, terms = self._terms.get(value, ("", ()))
            flat.extend(terms if head == op else (value,))
        return tuple(flat)


def _digest(op: str, terms: tuple[bytes, ...]) -> bytes:
    return blake2b(op.encode() + b"\0" + b"".join(terms), digest_size=16).digest()

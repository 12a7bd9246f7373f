"""What can go wrong, as one small family of exceptions, and the voice in which it is said."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable


class NasError(Exception):
    """Anything this toolkit raises on purpose."""


class BadInput(NasError, ValueError):
    """What the user gave cannot be used; the command line answers with exit code 2.

    Args:
        message: what must hold, what was given, what to do.
        where: path of the value, such as ``space.width``; empty when it has none.
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where

    def at(self, path: str) -> Self:
        """The same error seen from one level further out, with ``path`` put before its place."""
        return type(self)(self.message, ".".join(part for part in (path, self.where) if part))


class UnknownName(BadInput):
    """A name that nothing carries."""


class UnknownMetric(UnknownName):
    """A metric that no evaluator measures and no trial carries."""


class Infeasible(BadInput):
    """No architecture satisfies what was asked."""


class Incompatible(BadInput):
    """Two parts that cannot work together, found before anything runs."""


class Unsupported(NasError):
    """Something cannot be done for this one candidate or operation, though it may be for others."""


class StorageError(NasError):
    """A run's folder or storage cannot be read or written."""


class RunFailed(NasError):
    """A search that cannot go on, such as one whose every evaluation fails."""


class Diverged(NasError):
    """Training left the finite numbers; the executor records it as a failure of kind ``diverged``."""


def must(name: str, condition: str, value: object, remedy: str = "") -> BadInput:
    """The error "`<name>` must `<condition>`, got `<value>`", with a remedy when there is one."""
    text = f"{name} must {condition}, got {value!r}"
    return BadInput(f"{text}; {remedy}" if remedy else text)


def unknown(kind: str, name: object, known: Iterable[str]) -> UnknownName:
    """The error for a name that is not among the known ones, with the nearest of them."""
    return UnknownName(_unknown(kind, name, known))


def unknown_metric(name: object, known: Iterable[str]) -> UnknownMetric:
    """The same for a metric."""
    return UnknownMetric(_unknown("metric", name, known))


def _unknown(kind: str, name: object, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return f"unknown {kind} {name!r}; {hint}"

"""Rungs of rising fidelity: who has been measured on each, and who may climb to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias, final

import numpy as np

from nas.errors import must
from nas.strategies.sorting import fronts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from nas.proposal import Proposal
    from nas.strategies.ranking import Record

Identity: TypeAlias = tuple[str, int]
"""Key of an architecture, and replicate."""

Place: TypeAlias = tuple[Identity, float]
"""Who is, or is on the way to be, measured at which fidelity."""


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """A finished trial on a rung.

    Args:
        number: of the trial, which a promotion continues.
        proposal: as it was asked for at the rung's fidelity.
        record: what it achieved; None for a failure.
    """

    number: int
    proposal: Proposal
    record: Record | None


@final
class Rung:
    """The finished trials of one fidelity; the first one of each architecture and replicate counts."""

    def __init__(self, fidelity: float) -> None:
        self.fidelity = fidelity
        self.entries: dict[Identity, Entry] = {}
        self._best: tuple[int, list[Entry]] | None = None

    def add(self, entry: Entry) -> None:
        """Take in a finished trial."""
        self.entries.setdefault(identity(entry.proposal), entry)
        self._best = None

    def best(self, n: int) -> list[Entry]:
        """The ``n`` best, best front first; fewer where more failed. Sorted once until something is added."""
        if self._best is None or self._best[0] != n:
            measured = [entry for entry in self.entries.values() if entry.record is not None]
            chosen = best([entry.record for entry in measured if entry.record is not None], n)
            self._best = n, [measured[i] for i in chosen]
        return self._best[1]


@final
class Bracket:
    """Rungs one upon the other.

    Args:
        fidelities: ascending.
        eta: the best 1/eta of a rung climb.
    """

    def __init__(self, fidelities: Sequence[float], eta: float) -> None:
        self.rungs = [Rung(fidelity) for fidelity in fidelities]
        self.spent = 0.0
        self._eta = eta
        self._below = dict(pairwise(reversed(fidelities)))

    @property
    def lowest(self) -> float:
        """Fidelity at which new architectures begin."""
        return self.rungs[0].fidelity

    def cost(self, proposal: Proposal) -> float:
        """What a trial adds to what it continues, in full trainings."""
        begun = 0.0 if proposal.continues is None else self._below.get(proposal.fidelity, 0.0)
        return proposal.fidelity - begun

    def add(self, entry: Entry) -> None:
        """Take in a finished trial of one of the rungs."""
        self.spent += self.cost(entry.proposal)
        next(rung for rung in self.rungs if rung.fidelity == entry.proposal.fidelity).add(entry)

    def promotions(self, pending: Collection[Place], rounded: Callable[[float], int]) -> Iterator[Proposal]:
        """Who may climb now, from the highest rung downwards.

        Args:
            pending: who is on the way already.
            rounded: makes a whole number of a rung's share of 1/eta.

        Source: Li et al. 2020, Algorithm 2, procedure get_job.
        """
        for upper, lower in pairwise(reversed(self.rungs)):
            for entry in lower.best(rounded(len(lower.entries) / self._eta)):
                who = identity(entry.proposal)
                if who not in upper.entries and (who, upper.fidelity) not in pending:
                    yield replace(entry.proposal, fidelity=upper.fidelity, continues=entry.number)


def identity(proposal: Proposal) -> Identity:
    """Whose training it is."""
    return proposal.candidate.key, proposal.replicate


def best(records: Sequence[Record], n: int) -> list[int]:
    """Positions of the ``n`` best: whole fronts, and of the one that does not fit the least crowded.

    Violated bounds count before objectives; among equals the earlier one is taken.

    Source: Deb et al. 2002, secs. III-A to III-C.
    """
    kept: list[int] = []
    for front in fronts(records, n) if records and n else ():
        room = n - len(kept)
        kept += front if len(front) <= room else _least_crowded(records, front, room)
        if len(kept) >= n:
            break
    return kept


def _least_crowded(records: Sequence[Record], front: Sequence[int], n: int) -> list[int]:
    from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function

    distance = get_crowding_function("cd").do(np.array([records[i].costs for i in front]))
    return [front[i] for i in np.argsort(-distance, kind="stable")[:n]]


def fidelities(eta: float, lowest: float) -> tuple[float, ...]:
    """The powers of 1/eta from ``lowest`` or just above it up to 1.

    Raises:
        BadInput: eta is below 2, or the lowest fidelity is not in (0, 1].
    """
    if not (math.isfinite(eta) and eta >= 2):
        raise must("eta", "be at least 2", eta)
    if not 0.0 < lowest <= 1.0:
        raise must("min_fidelity", "lie in (0, 1]", lowest)
    steps = math.floor(math.log(1.0 / lowest, eta) + 1e-9)
    return tuple(float(eta) ** -k for k in range(steps, -1, -1))

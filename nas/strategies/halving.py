"""Asynchronous successive halving over any strategy: many short trainings, of which the best go on."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, final

from nas.architecture import Architecture
from nas.errors import must
from nas.proposal import Measurement, Proposal, Trial
from nas.strategies.random_search import RandomSearch
from nas.strategies.ranking import Ranking, Record
from nas.strategies.rungs import Bracket, Entry, fidelities, identity
from nas.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from nas.objective import Objective
    from nas.space import Space


@final
class Halving(Strategy):
    """Trains what a strategy proposes for a short while, and the best 1/eta of each rung eta times as long.

    A promotion ``continues`` the trial below it, in the same replicate, and is asked for before anything
    new. Several objectives are compared by non-dominated front and crowding, and bounds before objectives.
    A failure counts in its rung and never climbs. When the strategy has nothing more to propose and nothing
    is pending, shares are rounded up, so that at least one architecture reaches full fidelity.

    **What the wrapped strategy learns.** It proposes full trainings, and is told each of them once, as soon
    as it is measured on the rung where it began, as if that had been the full training. So it compares like
    with like, waits for nobody, and need not know of fidelities: it searches among short trainings, of which
    halving picks those that are worth their continuation. What higher rungs find is not told to it.
    Proposals that do not ask for every objective of an architecture (proxies, mixtures, chosen samples)
    pass through unchanged.

    Source: Li et al. 2020 (ASHA), Algorithm 2; brackets as in sec. 3.1 of Li et al. 2018 (Hyperband), run
    side by side. Deviations: several objectives; failures; a new architecture goes to the bracket that has
    spent least, its pending trials among it; the shares are rounded up at the end.

    Args:
        space: what is searched.
        objectives: any number of goals and bounds.
        strategy: proposes what begins on the lowest rung; random search when None.
        eta: the best 1/eta climb, to eta times the fidelity; at least 2.
        min_fidelity: in (0, 1]; the lowest rung is the lowest power of 1/eta that is not below it.
        brackets: the first begins on the lowest rung, each further one a rung higher; at least 1.

    Raises:
        BadInput: a setting is out of its range, or the strategy proposes groups.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        strategy: Strategy | None = None,
        eta: float = 3.0,
        min_fidelity: float = 1 / 27,
        brackets: int = 1,
    ) -> None:
        wrapped = RandomSearch(space, objectives) if strategy is None else strategy
        if not isinstance(wrapped, Strategy):
            raise must("strategy", "be a nas.Strategy", strategy)
        if wrapped.group > 1:
            raise must("strategy", "propose one by one", f"groups of {wrapped.group}")
        rungs = fidelities(eta, min_fidelity)
        if not 1 <= brackets <= len(rungs):
            raise must("brackets", f"lie in [1, {len(rungs)}], the number of rungs", brackets)
        # Wrappers need what they wrap; the contract declares both per class.
        self.needs, self.one_objective = wrapped.needs, wrapped.one_objective  # type: ignore[misc]
        self._space = space
        self._metrics = frozenset(o.metric for o in objectives)
        self._ranking = Ranking(objectives)
        self._strategy = wrapped
        self._brackets = [Bracket(rungs[i:], eta) for i in range(brackets)]
        self._bracket_of: dict[int, Bracket] = {}
        self._baseline: Trial | None = None

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """Promotions from the highest rungs first, then new architectures at the lowest rungs.

        Raises:
            BadInput: the wrapped strategy proposes a low fidelity or a continuation of its own.
        """
        proposals = self._promotions(n, pending, math.floor)
        if len(proposals) < n:
            proposals += self._new(n - len(proposals), rng, pending)
        return proposals if proposals or pending else self._promotions(n, (), math.ceil)

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Put trials on their rungs; those that began there go to the wrapped strategy as it proposed."""
        for trial, record in zip(trials, self._ranking.records(trials), strict=True):
            if trial.role == "baseline":
                self._baseline = trial
                continue
            bracket = self._bracket(trial.proposal)
            if bracket is not None:
                self._enter(bracket, Entry(trial.number, trial.proposal, record))
        own = [replace(t, proposal=_as_proposed(t.proposal)) for t in trials if t.proposal.continues is None]
        if own or not trials:
            self._strategy.tell(own, rng)

    def snapshot(self) -> Mapping[str, Any] | None:
        """The wrapped strategy's state and every rung; None where telling rebuilds both."""
        state = self._strategy.snapshot()
        if state is None:
            return None
        b = self._baseline
        return {
            "strategy": state,
            "baseline": None if b is None else {"of": b.proposal.to_json(), "values": dict(b.values)},
            "spent": [bracket.spent for bracket in self._brackets],
            "rungs": [
                [[_entry_json(e) for e in rung.entries.values()] for rung in bracket.rungs]
                for bracket in self._brackets
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `snapshot` gave."""
        self._strategy.restore(state["strategy"])
        if state["baseline"] is not None:
            proposal = Proposal.from_json(state["baseline"]["of"], self._space)
            self._baseline = Trial(0, proposal, Measurement(state["baseline"]["values"]), role="baseline")
            self._ranking.records([self._baseline])
        for bracket, spent, rungs in zip(self._brackets, state["spent"], state["rungs"], strict=True):
            for data in (data for rung in rungs for data in rung):
                self._enter(bracket, self._entry(data))
            bracket.spent = spent

    def _promotions(
        self, n: int, pending: Sequence[Proposal], rounded: Callable[[float], int]
    ) -> list[Proposal]:
        on_the_way = {(identity(p), p.fidelity) for p in pending}
        return list(islice((p for b in self._brackets for p in b.promotions(on_the_way, rounded)), n))

    def _new(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal]) -> list[Proposal]:
        spent = {id(bracket): bracket.spent for bracket in self._brackets}
        for p in pending:
            bracket = self._bracket(p)
            if bracket is not None:
                spent[id(bracket)] += bracket.cost(p)
        proposals = []
        for p in self._strategy.ask(n, rng, [_as_proposed(p) for p in pending if p.continues is None]):
            if p.fidelity != 1.0 or p.continues is not None:
                raise must("the strategy under halving", "propose full trainings", p)
            if self._climbs(p):
                bracket = min(self._brackets, key=lambda b: spent[id(b)])
                p = replace(p, fidelity=bracket.lowest)
                spent[id(bracket)] += bracket.cost(p)
            proposals.append(p)
        return proposals

    def _enter(self, bracket: Bracket, entry: Entry) -> None:
        self._bracket_of[entry.number] = bracket
        bracket.add(entry)

    def _bracket(self, proposal: Proposal) -> Bracket | None:
        """That of the trial it continues, else the one that begins at its fidelity."""
        if not self._climbs(proposal):
            return None
        if proposal.continues is not None:
            return self._bracket_of.get(proposal.continues)
        return next((b for b in self._brackets if b.lowest == proposal.fidelity), None)

    def _climbs(self, proposal: Proposal) -> bool:
        """Whether a proposal can be ranked: an architecture, asked for every objective on all samples."""
        return (
            isinstance(proposal.candidate, Architecture)
            and proposal.gradient == "none"
            and proposal.samples is None
            and self._metrics.issubset(proposal.metrics)
        )

    def _entry(self, data: Mapping[str, Any]) -> Entry:
        proposal = Proposal.from_json(data["proposal"], self._space)
        candidate, record = proposal.candidate, None
        if data["record"] is not None and isinstance(candidate, Architecture):
            costs, violation = data["record"]
            record = Record(candidate, tuple(costs), violation)
        return Entry(int(data["number"]), proposal, record)


def _as_proposed(proposal: Proposal) -> Proposal:
    """The full training that the wrapped strategy proposed."""
    return replace(proposal, fidelity=1.0)


def _entry_json(entry: Entry) -> dict[str, Any]:
    r = entry.record
    record = None if r is None else [list(r.costs), r.violation]
    return {"number": entry.number, "proposal": entry.proposal.to_json(), "record": record}

"""Who proposes: the strategy contract, scripts with phases as strategies, and a wrapper against repeats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, final

from nas.architecture import Architecture
from nas.errors import must

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    import numpy as np

    from nas.objective import Objective
    from nas.proposal import Proposal, Trial
    from nas.space import Space


class Strategy(ABC):
    """Proposes candidates and learns from trials; never evaluates.

    Built from ``space``, ``objectives`` and keyword settings. The study calls ``tell((), rng)`` once before
    anything else; afterwards every told batch holds at least one trial.

    Attributes:
        needs: what the space must offer, among those of `Space.offers`.
        one_objective: whether only a single ``min`` or ``max`` objective makes sense.
        group: proposals of one group form one optimiser step and reach the evaluator unsplit.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"decisions"})
    one_objective: ClassVar[bool] = False
    group: int = 1

    @abstractmethod
    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """At most ``n`` proposals; none ends the search.

        Changes nothing: the answer is a function of what was told, of ``rng`` and of ``pending``, the
        proposals that are being evaluated.
        """

    @abstractmethod
    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Learn from finished trials, failures among them. The only place where state changes."""

    def snapshot(self) -> Mapping[str, Any] | None:
        """The state as arrays and JSON values; None when telling the history again rebuilds it."""
        return None

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `snapshot` gave."""
        raise must(f"{type(self).__name__}.snapshot", "be None without restore()", sorted(state))


Identity: TypeAlias = tuple[str, float, int]
"""Key, fidelity and replicate of a proposal."""

Script: TypeAlias = "Generator[Sequence[Proposal], Sequence[Trial], None]"


@final
class Scripted(Strategy):
    """A generator as a strategy: it yields proposals and receives their trials in the same order.

    Args:
        script: called once with ``rng``; the generator object keeps drawing from it.
        needs, one_objective: as in `Strategy`.

    The rng that the script holds is advanced to the study's generator at every tell, so that the script
    draws from ``rng`` only.
    """

    def __init__(self, script: Callable[[Rng], Script]) -> None:
        self._rng = Rng()
        self._script = script(self._rng)
        self._phase: list[Proposal] | None = None
        self._trials: list[Trial] = []

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:  # noqa: ARG002
        """The proposals of the present phase that are neither told nor pending."""
        if self._phase is None:
            raise must("a scripted strategy", "be told () before it is asked", None)
        out = Counter(trial.proposal for trial in self._trials) + Counter(pending)
        fresh: list[Proposal] = []
        for proposal in self._phase:
            if out[proposal]:
                out[proposal] -= 1
            else:
                fresh.append(proposal)
        return fresh[:n]

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Collect the phase's trials; when it is complete, run the script on to the next one.

        Trials that the script does not wait for, such as the baseline's, are passed over.
        """
        self._rng.current = rng
        if self._phase is None:
            self._advance(None)
        awaited = Counter(self._phase) - Counter(trial.proposal for trial in self._trials)
        for trial in trials:
            if awaited[trial.proposal] > 0:
                awaited[trial.proposal] -= 1
                self._trials.append(trial)
        while self._phase and len(self._trials) >= len(self._phase):
            self._advance(_in_order(self._phase, self._trials))

    def _advance(self, trials: Sequence[Trial] | None) -> None:
        try:
            self._phase = list(next(self._script) if trials is None else self._script.send(trials))
        except StopIteration:
            self._phase = []
        self._trials = []


@final
class Rng:
    """A stand-in for the generator of the present tell, which scripts hold on to."""

    current: np.random.Generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)


def _in_order(proposals: Sequence[Proposal], trials: Sequence[Trial]) -> list[Trial]:
    rest = list(trials)
    ordered = []
    for proposal in proposals:
        i = next(i for i, trial in enumerate(rest) if trial.proposal == proposal)
        ordered.append(rest.pop(i))
    return ordered


@final
class Distinct(Strategy):
    """A strategy that does not propose the same architecture, fidelity and replicate again.

    With a functional key, a mutation is drawn again until the key changes, and ``visits`` above 1 make it a
    tabu list of functions that were visited too often.

    Args:
        strategy: asked again, up to ``attempts`` times, for what it repeats.
        attempts: askings per call; when all bring only repeats, nothing is proposed and the search ends.
        key: what makes architectures the same, such as `nas.keys.create` gives; their own key when None.
        visits: how often the same may be proposed, at least 1.

    Raises:
        BadInput: a setting is out of its range.

    Source: Gillard et al. 2023 (unified functional hashing): functional change mutation and the tabu list.
    """

    def __init__(
        self,
        strategy: Strategy,
        attempts: int = 100,
        key: Callable[[Architecture], str] | None = None,
        visits: int = 1,
    ) -> None:
        for name, value in (("attempts", attempts), ("visits", visits)):
            if value < 1:
                raise must(name, "be at least 1", value)
        self._strategy = strategy
        self._attempts = attempts
        self._key = key
        self._visits = visits
        self._seen: Counter[Identity] = Counter()
        self.group = strategy.group

    def ask(self, n: int, rng: np.random.Generator, pending: Sequence[Proposal] = ()) -> list[Proposal]:
        """Proposals whose identity was not proposed too often."""
        seen = self._seen + Counter(map(self._identity, pending))
        fresh: list[Proposal] = []
        offered = list(pending)  # what was refused counts as pending, so that an ordered strategy goes on
        for _ in range(self._attempts):
            asked = self._strategy.ask(n - len(fresh), rng, offered)
            offered += asked
            for proposal in asked:
                identity = self._identity(proposal)
                if seen[identity] < self._visits:
                    seen[identity] += 1
                    fresh.append(proposal)
            if len(fresh) >= n:
                break
        return fresh

    def tell(self, trials: Sequence[Trial], rng: np.random.Generator) -> None:
        """Remember identities and pass everything on."""
        self._seen.update(self._identity(trial.proposal) for trial in trials)
        self._strategy.tell(trials, rng)

    def snapshot(self) -> Mapping[str, Any] | None:
        """The wrapped strategy's state and what was seen."""
        state = self._strategy.snapshot()
        if state is None:
            return None
        return {"state": state, "seen": [[*identity, n] for identity, n in sorted(self._seen.items())]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `snapshot` gave."""
        self._seen = Counter({(str(k), float(f), int(r)): int(n) for k, f, r, n in state["seen"]})
        self._strategy.restore(state["state"])

    def _identity(self, proposal: Proposal) -> Identity:
        candidate = proposal.candidate
        key = self._key(candidate) if self._key and isinstance(candidate, Architecture) else candidate.key
        return key, proposal.fidelity, proposal.replicate


def check_pair(
    strategy: Strategy | type[Strategy],
    name: str,
    space: Space,
    probe: Architecture,
    objectives: Sequence[Objective],
) -> str | None:
    """Why a strategy cannot search a space for these objectives; None when it can."""
    missing = strategy.needs - space.offers(probe)
    if missing:
        return f"{name} needs a space with {', '.join(sorted(missing))}; {type(space).__name__} has none"
    dimensions = [o.metric for o in objectives if o.goal != "limit"]
    if strategy.one_objective and len(dimensions) != 1:
        return f"{name} takes one objective to minimise or maximise, got {', '.join(dimensions)}"
    return None

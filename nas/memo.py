"""Functional keys, and the wrapper that gives an answer that is already known."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias, final

from nas.architecture import Architecture, digest
from nas.errors import must
from nas.evaluator import Evaluator, Recall
from nas.proposal import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nas.proposal import Outcome, Proposal, Trial
    from nas.space import Graph, Space

Key: TypeAlias = "Callable[[Space, Architecture], str]"


def architecture_key(space: Space, architecture: Architecture) -> str:  # noqa: ARG001 - one signature for keys
    """The architecture's own key: only exact repeats are equal."""
    return architecture.key


def functional_key(space: Space, architecture: Architecture) -> str:
    """Equal for architectures that compute the same function by the space's graph.

    The symbolic key of the graph where there is one, the architecture's own key elsewhere, and all parts'
    keys together for a joint space.
    """
    if space.parts:
        return digest({name: functional_key(s, architecture.part(name)) for name, s in space.parts.items()})
    graph = space.graph(architecture)
    return architecture.key if graph is None else symbolic_key(graph)


KEYS: Mapping[str, Key] = {"functional": functional_key, "architecture": architecture_key}


Terms: TypeAlias = tuple[bytes, ...]
_terms: dict[tuple[str, tuple[Terms, ...]], Terms] = {}


def symbolic_key(graph: Graph) -> str:
    """32 hexadecimal digits of the function that a graph computes.

    The value of a node is a sorted multiset of terms: ``zero`` contributes none and any op of only zeros is
    zero, ``identity`` passes its input's terms on, ``sum`` unites them, and every other op is one term made
    of its name and its inputs' values in order. Dead nodes never count.

    Source: the symbolic relative of Gillard et al. 2023 (unified functional hashing) for DAGs; that an op
    maps zero to zero holds for bias-free convolutions, pooling and normalisation at initialisation. An op
    whose output is read twice is not told apart from two of it with weights of their own: NAS-Bench-201 has
    4,930 keys, and 5,260 when they are.
    """
    values: list[Terms] = []
    inputs = 0
    for op, sources in graph:
        if op == "sum":
            values.append(tuple(sorted(t for i in sources for t in values[i])))
        elif op == "identity":
            values.append(values[sources[0]])
        elif op == "zero":
            values.append(())
        elif op == "input":
            values.append(_term(f"input {inputs}", ()))
            inputs += 1
        else:
            read = tuple(values[i] for i in sources)
            values.append(_term(op, read) if any(read) or not read else ())
    return (
        b"".join(values[-1]).hex()
        if len(values[-1]) == 1
        else blake2b(b"".join(values[-1]), digest_size=16).hexdigest()
    )


def _term(op: str, inputs: tuple[Terms, ...]) -> Terms:
    known = _terms.get((op, inputs))
    if known is None:
        if len(_terms) > 1_000_000:
            _terms.clear()
        text = repr((op, [[t.hex() for t in terms] for terms in inputs]))
        known = (blake2b(text.encode(), digest_size=16).digest(),)
        _terms[op, inputs] = known
    return known


_Place: TypeAlias = "tuple[str | Architecture, float, int]"
"""Functional key or architecture, fidelity and replicate."""
_NOTHING: Mapping[str, float] = {}


@final
class Memoized(Evaluator):
    """An evaluator that is asked once for each answer.

    Functional metrics are shared by the functional key, all others by the architecture's own: cells that
    compute the same function differ in latency by up to 4.3× and in parameters by up to 11×. An answer holds
    for one fidelity and one replicate. Mixtures, gradients, continued trials and chosen samples pass through.

    Args:
        evaluator: pure.
        space: of the candidates.
        key: ``functional``, ``architecture``, or a function of space and architecture.

    Raises:
        BadInput: the evaluator trains, so that its answers do not repeat.
    """

    def __init__(self, evaluator: Evaluator, space: Space, key: str | Key = "functional") -> None:
        if not evaluator.pure:
            raise must(
                "memo", "wrap an evaluator that does not train", type(evaluator).__name__, "set memo: off"
            )
        if isinstance(key, str) and key not in KEYS:
            raise must("memo.key", f"be one of {', '.join(KEYS)}", key)
        self._evaluator = evaluator
        self._space = space
        self._key = KEYS[key] if isinstance(key, str) else key
        self._answers: dict[_Place, dict[str, float]] = {}
        self._seconds: dict[_Place, float] = {}
        self._functional_keys: dict[Architecture, str] = {}
        self.metrics, self.functional = evaluator.metrics, evaluator.functional
        self.measured, self.cheap = evaluator.measured, evaluator.cheap
        self.multi_fidelity = evaluator.multi_fidelity
        self.reused = 0
        self.seconds_saved = 0.0

    @property
    def worker(self) -> Evaluator:
        """The wrapped evaluator."""
        return self._evaluator.worker

    def recall(self, proposal: Proposal) -> Recall:
        """The known metrics of a proposal, and what is left to ask."""
        a = proposal.candidate
        if (
            not isinstance(a, Architecture)
            or proposal.gradient != "none"
            or proposal.samples is not None
            or proposal.continues is not None
        ):
            return Recall(proposal)
        shared, own = self._places(a, proposal)
        of_function = self._answers.get(shared, _NOTHING)
        of_architecture = self._answers.get(own, _NOTHING)
        values: dict[str, float] = {}
        missing: list[str] = []
        for metric in proposal.metrics:
            answers = of_function if metric in self.functional else of_architecture
            if metric in answers:
                values[metric] = answers[metric]
            else:
                missing.append(metric)
        key = None if not values else shared[0] if self.functional & values.keys() else a.key
        if not missing:
            return Recall(None, values, key)
        rest = proposal if not values else proposal.asking(missing)
        return Recall(rest, values, key, frozenset(self._claim(a, proposal, m) for m in missing))

    def remember(self, trial: Trial) -> None:
        """Keep the finite values of a measurement under their keys; the first ones stay."""
        a, outcome = trial.proposal.candidate, trial.outcome
        if not isinstance(a, Architecture) or not isinstance(outcome, Measurement):
            return
        shared, own = self._places(a, trial.proposal)
        if outcome.reused is not None:
            self.reused += 1
            before = self._seconds.get(shared if outcome.reused == shared[0] else own, 0.0)
            self.seconds_saved += max(0.0, before - outcome.seconds)
        for metric, value in outcome.values.items():
            if math.isfinite(value):
                place = shared if metric in self.functional else own
                if place not in self._answers:
                    self._answers[place], self._seconds[place] = {}, outcome.seconds
                self._answers[place].setdefault(metric, value)

    def _places(self, a: Architecture, proposal: Proposal) -> tuple[tuple[str, float, int], _Place]:
        """Where answers for the function, and for the architecture alone, are kept."""
        fidelity, replicate = proposal.fidelity, proposal.replicate
        return (self.key(a), fidelity, replicate), (a, fidelity, replicate)

    def _claim(self, a: Architecture, proposal: Proposal, metric: str) -> str:
        key = self.key(a) if metric in self.functional else a.key
        return f"{key} {metric} {proposal.fidelity} {proposal.replicate}"

    def key(self, architecture: Architecture) -> str:
        """The functional key, computed once for each architecture."""
        known = self._functional_keys.get(architecture)
        if known is None:
            known = self._functional_keys[architecture] = self._key(self._space, architecture)
        return known

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Answer from memory where possible, else ask the wrapped evaluator; outside a study."""
        return [self._one(proposal, seed) for proposal in proposals]

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        from nas.proposal import Trial

        known = self.recall(proposal)
        asked = None
        if known.remaining is not None:
            (asked,) = self._evaluator.evaluate([known.remaining], seed=seed)
        outcome = known.complete(asked)
        self.remember(Trial(0, proposal, outcome))
        return outcome

    def statistics(self) -> dict[str, Any]:
        """Trials answered from memory, in part at least, the seconds that saved, and answers in memory."""
        answers = sum(map(len, self._answers.values()))
        return {"reused": self.reused, "seconds_saved": self.seconds_saved, "answers": answers}

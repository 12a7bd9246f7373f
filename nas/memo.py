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
    maps zero to zero holds for bias-free convolutions, pooling and normalisation at initialisation.
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
        self._answers: dict[tuple[str, str, float, int], float] = {}
        self._functional_keys: dict[Architecture, str] = {}
        self.metrics, self.functional = evaluator.metrics, evaluator.functional
        self.measured, self.cheap = evaluator.measured, evaluator.cheap
        self.multi_fidelity = evaluator.multi_fidelity
        self.reused = 0
        self.seconds_saved = 0.0
        self._seconds: dict[str, float] = {}

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
        values: dict[str, float] = {}
        claims: list[str] = []
        missing: list[str] = []
        found = None
        for metric in proposal.metrics:
            key = self.key(a) if metric in self.functional else a.key
            answer = self._answers.get((key, metric, proposal.fidelity, proposal.replicate))
            if answer is None:
                missing.append(metric)
                claims.append(f"{key} {metric} {proposal.fidelity} {proposal.replicate}")
            else:
                values[metric] = answer
                found = key if found is None or metric in self.functional else found
        if not missing:
            return Recall(None, values, found)
        return Recall(proposal.asking(missing), values, found, frozenset(claims))

    def remember(self, trial: Trial) -> None:
        """Keep the finite values of a measurement under their keys; own values replace nothing."""
        a, outcome = trial.proposal.candidate, trial.outcome
        if not isinstance(a, Architecture) or not isinstance(outcome, Measurement):
            return
        if outcome.reused is not None:
            self.reused += 1
            self.seconds_saved += max(0.0, self._seconds.get(outcome.reused, 0.0) - outcome.seconds)
        for metric, value in outcome.values.items():
            if math.isfinite(value):
                key = self.key(a) if metric in self.functional else a.key
                self._answers.setdefault(
                    (key, metric, trial.proposal.fidelity, trial.proposal.replicate), value
                )
                self._seconds.setdefault(key, outcome.seconds)

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
        """Answers given from memory, and the evaluation seconds that they saved."""
        return {"reused": self.reused, "seconds_saved": self.seconds_saved, "answers": len(self._answers)}

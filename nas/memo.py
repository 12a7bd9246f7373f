"""The wrapper that gives an answer that is already known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, final

from nas import keys
from nas.architecture import Architecture
from nas.errors import must
from nas.evaluator import Evaluator, Recall
from nas.proposal import Measurement, Trial
from nas.rng import stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.keys import Key
    from nas.proposal import Outcome, Proposal
    from nas.space import Space

POLICIES = ("repeats", "forget", "recheck", "noise")
"""Settings of the wrapper that a config may give beside those of its key."""

Question: TypeAlias = tuple[str, float, int]
"""Metric, fidelity and replicate."""


@final
class Memoized(Evaluator):
    """An evaluator that is asked once, or ``repeats`` times, for each answer.

    Functional metrics are shared by the functional key, all others by the architecture's own: cells that
    compute the same function differ in latency by up to 4.3× and in parameters by up to 11×. An answer holds
    for one fidelity and one replicate. Mixtures, gradients, continued trials and chosen samples pass
    through. The key of an error, which names no function, shares nothing.

    Args:
        evaluator: pure.
        space: of the candidates.
        key: a name among `nas.keys.KEYS`, or a function of the architecture.
        repeats: evaluations of a functional metric for one key, at least 1, each in a replicate of its own;
            each gives the running mean of those so far, and later proposals get the mean of all.
        forget: chance that what is known for a key is forgotten when it has given an answer, in [0, 1].
        recheck: share of answers that are evaluated all the same and compared, in [0, 1].
        noise: difference, in the metric's unit, up to which a re-checked answer agrees.
        seed: of the chances.

    Raises:
        BadInput: the evaluator trains, so that its answers do not repeat; or a setting is out of its range.

    Source: Gillard et al. 2023 (unified functional hashing), the functional equivalence cache. Deviations:
    the re-check; a repeat counts as an evaluation of the candidate that it was made for.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        space: Space,
        key: str | Key = "functional",
        *,
        repeats: int = 1,
        forget: float = 0.0,
        recheck: float = 0.0,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not evaluator.pure:
            raise must(
                "memo", "wrap an evaluator that does not train", type(evaluator).__name__, "set memo: off"
            )
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise must("memo.repeats", "be a whole number of at least 1", repeats)
        for name, chance in (("forget", forget), ("recheck", recheck)):
            if not 0.0 <= chance <= 1.0:
                raise must(f"memo.{name}", "lie in [0, 1]", chance)
        if not noise >= 0.0:
            raise must("memo.noise", "be at least 0", noise)
        self._evaluator = evaluator
        self._key = keys.create(key, space) if isinstance(key, str) else key
        self._repeats, self._forget, self._recheck, self._noise = repeats, forget, recheck, noise
        self._seed = seed
        self._answers: dict[str, dict[Question, tuple[float, int]]] = {}
        self._seconds: dict[str, float] = {}
        self._keys: dict[Architecture, str] = {}
        self._counts = dict.fromkeys(
            ("reused", "partial_hits", "evaluations", "forgotten", "rechecks", "collisions"), 0
        )
        self._seconds_saved = 0.0
        self.metrics, self.functional = evaluator.metrics, evaluator.functional
        self.measured, self.cheap = evaluator.measured, evaluator.cheap
        self.multi_fidelity = evaluator.multi_fidelity

    @property
    def worker(self) -> Evaluator:
        """The wrapped evaluator."""
        return self._evaluator.worker

    def key(self, architecture: Architecture) -> str:
        """The key by which functional metrics are shared, computed once for each architecture."""
        known = self._keys.get(architecture)
        if known is None:
            known = self._key(architecture)
            if known.startswith(keys.ERROR):
                known = architecture.key
            self._keys[architecture] = known
        return known

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
        missing: dict[str, str] = {}
        running: dict[str, tuple[float, int]] = {}
        found = None
        for metric in proposal.metrics:
            key = self._owner(a, metric)
            answer = self._answers.get(key, {}).get((metric, proposal.fidelity, proposal.replicate))
            if answer is None or (metric in self.functional and answer[1] < self._repeats):
                missing[metric] = key
                if answer is not None:
                    running[metric] = answer
            else:
                values[metric] = answer[0]
                found = key if found is None or metric in self.functional else found
        if missing:
            claims = frozenset(
                f"{k} {m} {proposal.fidelity} {proposal.replicate}" for m, k in missing.items()
            )
            earlier = max((count for _, count in running.values()), default=0)
            remaining = proposal
            if values or earlier:
                remaining = replace(proposal, metrics=tuple(missing), replicate=proposal.replicate + earlier)
            return Recall(remaining, values, found, claims, running=running)
        assert found is not None
        return self._rechecked(proposal, values, found) or Recall(None, values, found)

    def _rechecked(self, proposal: Proposal, values: dict[str, float], key: str) -> Recall | None:
        """The known answer as a question, for the share of answers that are checked."""
        number = self._counts["reused"] + self._counts["rechecks"]
        if not self._recheck or stream(self._seed, "recheck", number, key).random() >= self._recheck:
            return None
        return Recall(proposal, claims=_claims(proposal, dict.fromkeys(values, key)), expected=values)

    def _owner(self, architecture: Architecture, metric: str) -> str:
        return self.key(architecture) if metric in self.functional else architecture.key

    def remember(self, trial: Trial) -> None:
        """Keep the finite values of a measurement under their keys, and count."""
        self._evaluator.remember(trial)
        a, outcome = trial.proposal.candidate, trial.outcome
        if not isinstance(a, Architecture) or not isinstance(outcome, Measurement):
            return
        if not trial.known:
            self._counts["evaluations"] += 1
            self._counts["partial_hits"] += any(note.startswith("repeats.") for note in outcome.notes)
            self._compare(outcome)
        for metric, value in outcome.values.items():
            if math.isfinite(value) and metric not in outcome.borrowed:
                self._keep(a, metric, value, trial)
        if outcome.reused is not None:
            self._hit(outcome, outcome.reused)

    def _keep(self, a: Architecture, metric: str, value: float, trial: Trial) -> None:
        assert isinstance(trial.outcome, Measurement)
        key = self._owner(a, metric)
        question = (metric, trial.proposal.fidelity, trial.proposal.replicate)
        known = self._answers.setdefault(key, {})
        count = trial.outcome.notes.get(f"repeats.{metric}")
        if count is not None:
            known[question] = (value, int(count))
        elif question not in known:
            known[question] = (value, 1)
        self._seconds.setdefault(key, trial.outcome.seconds)

    def _hit(self, outcome: Measurement, key: str) -> None:
        number = self._counts["reused"]
        self._counts["reused"] += 1
        self._seconds_saved += max(0.0, self._seconds.get(key, 0.0) - outcome.seconds)
        if self._forget and stream(self._seed, "forget", number).random() < self._forget:
            self._counts["forgotten"] += self._answers.pop(key, None) is not None

    def _compare(self, outcome: Measurement) -> None:
        """Count a re-check, and a collision when any value is further off than noise."""
        off = [
            abs(outcome.values[note.removeprefix("known.")] - known) > self._noise
            for note, known in outcome.notes.items()
            if note.startswith("known.")
        ]
        self._counts["rechecks"] += bool(off)
        self._counts["collisions"] += any(off)

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Answer from memory where possible, else ask the wrapped evaluator; outside a study."""
        return [self._one(proposal, seed) for proposal in proposals]

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        known = self.recall(proposal)
        asked = None
        if known.remaining is not None:
            (asked,) = self._evaluator.evaluate([known.remaining], seed=seed)
        outcome = known.complete(asked)
        self.remember(Trial(0, proposal, outcome))
        return outcome

    def statistics(self) -> dict[str, Any]:
        """What the memory has done so far.

        ``reused`` answers, wholly or for some of their metrics; ``partial_hits``: evaluations that went into
        the mean of a known key; ``evaluations`` in all; ``seconds_saved``, ``forgotten`` keys, ``rechecks``
        and the ``collisions`` that they found, and the ``answers`` that are kept.
        """
        answers = sum(len(known) for known in self._answers.values())
        return {**self._counts, "seconds_saved": self._seconds_saved, "answers": answers}


def _claims(proposal: Proposal, keys_of: Mapping[str, str]) -> frozenset[str]:
    """What evaluating metrics of a proposal will answer, by metric and its key."""
    return frozenset(f"{k} {m} {proposal.fidelity} {proposal.replicate}" for m, k in keys_of.items())

"""Who measures: the evaluator contract, a user's own function as one, and several as one."""

from __future__ import annotations

import inspect
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, final

from nas.errors import BadInput, must, unknown_metric
from nas.proposal import Failure, Measurement, Outcome, Proposal, Trial
from nas.rng import derive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import nn

    from nas.architecture import Architecture, Fixed
    from nas.space import Space
    from nas.task import Split


class Evaluator(ABC):
    """Measures metrics of candidates.

    Attributes:
        metrics: what it can measure.
        functional: those that depend only on the computed function, such as accuracy; they may be shared
            between architectures that compute the same one.
        measured: clock readings, never exactly repeatable; evaluated with the machine to themselves.
        cheap: pure metrics that cost under 5 ms a candidate; strategies may ask for them freely.
        predicted: what a model says instead of the clock; a front says so of its members.
        multi_fidelity: metrics whose evaluation costs in proportion to the fidelity; others ignore it.
        pure: whether evaluating changes nothing; False for shared weights in training.
        batched: whether many proposals at once cost less than one by one.
        builds: whether it may build candidates' modules; False for look-ups.
    """

    metrics: frozenset[str] = frozenset()
    functional: frozenset[str] = frozenset()
    measured: frozenset[str] = frozenset()
    cheap: frozenset[str] = frozenset()
    predicted: frozenset[str] = frozenset()
    multi_fidelity: frozenset[str] = frozenset()
    pure: ClassVar[bool] = True
    batched: ClassVar[bool] = False
    builds: ClassVar[bool] = True

    @abstractmethod
    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Measure, in order.

        Args:
            proposals: each asks for metrics among `metrics`.
            seed: the run's; weights derive from (seed, architecture key, replicate), data order from
                (seed, replicate, fidelity), so that order and batching cannot change a result.

        Raises:
            Exception: whatever a single broken candidate raises; the executor makes it a `Failure`.
        """

    def recall(self, proposal: Proposal) -> Recall:
        """What is known without evaluating."""
        return Recall(proposal)

    def remember(self, trial: Trial) -> None:  # noqa: B027 - a hook that most leave empty
        """Take note of a finished trial; called in the order of appending."""

    @property
    def worker(self) -> Evaluator:
        """What does the evaluating, shipped to where evaluations run."""
        return self

    @property
    def timed(self) -> frozenset[str]:
        """Metrics evaluated with the machine to themselves: clock readings, and what is found with them."""
        return self.metrics if self.measured else frozenset()


class Trainer(Evaluator):
    """An evaluator whose trained modules can be had again exactly as they were scored."""

    @abstractmethod
    def load(self, proposal: Proposal, weights: Path) -> nn.Module:
        """The module of a proposal with these weights, in evaluation mode."""

    @abstractmethod
    def score(self, proposal: Proposal, weights: Path, split: Split) -> Mapping[str, float]:
        """Its metrics on a split."""


class StepEvaluator(Evaluator):
    """An evaluator whose evaluating trains shared weights, one group of proposals a step.

    Its trials are tallied, not stored: the weights are the result, and are kept beside the tally.

    Attributes:
        whole: False while a step is under way, and after one was cut: its weights then belong to no step.
    """

    pure: ClassVar[bool] = False
    whole: bool = True

    @abstractmethod
    def keep(self, path: Path) -> None:
        """Write everything from which `take_up` goes on exactly; the file is whole or not there."""

    @abstractmethod
    def take_up(self, path: Path) -> None:
        """Go on from what `keep` wrote.

        Raises:
            StorageError: the file cannot be read.
            BadInput: it is of other shared weights.
        """

    @abstractmethod
    def settle(self) -> None:
        """Leave in the shared weights what is to be used of them, such as their average."""


@final
class Recall:
    """What is known of a proposal before it is evaluated.

    Args:
        remaining: what is left to evaluate; None when everything is known.
        values: the known values.
        key: under which they were found; None when nothing was.
        claims: keys of the answers that evaluating ``remaining`` will give; another proposal that claims
            one of them in the meantime waits for it.
        running: mean and number of earlier evaluations of a metric, which ``remaining`` adds one to.
        expected: known values that evaluating ``remaining`` is to confirm.
    """

    __slots__ = ("claims", "expected", "key", "remaining", "running", "values")

    def __init__(
        self,
        remaining: Proposal | None,
        values: Mapping[str, float] | None = None,
        key: str | None = None,
        claims: frozenset[str] = frozenset(),
        running: Mapping[str, tuple[float, int]] | None = None,
        expected: Mapping[str, float] | None = None,
    ) -> None:
        self.remaining = remaining
        self.values = values or {}
        self.key = key
        self.claims = claims
        self.running = running or {}
        self.expected = expected or {}

    def complete(self, outcome: Outcome | None) -> Outcome:
        """The whole outcome, from what was known and what was evaluated.

        A running mean is told in place of the last value and noted as ``repeats.<metric>``, the evaluations
        in it; what was expected is noted as ``known.<metric>``. Such outcomes count as evaluated.
        """
        borrowed = frozenset(self.values)
        if outcome is None:
            return Measurement(dict(self.values), reused=self.key, borrowed=borrowed)
        if isinstance(outcome, Failure):
            return outcome
        reused = self.key
        if self.running or self.expected:
            outcome, reused = self._noted(outcome), None
        if reused is None and not borrowed:
            return outcome
        values = {**self.values, **outcome.values}
        return replace(outcome, values=values, reused=reused, borrowed=borrowed)

    def _noted(self, outcome: Measurement) -> Measurement:
        values = dict(outcome.values)
        notes = {**outcome.notes, **{f"known.{m}": value for m, value in self.expected.items()}}
        for metric, (mean, count) in self.running.items():
            if metric in values:
                values[metric] = mean + (values[metric] - mean) / (count + 1)
                notes[f"repeats.{metric}"] = count + 1
        return replace(outcome, values=values, notes=notes)


@final
class FunctionEvaluator(Evaluator):
    """A user's own function as an evaluator.

    Args:
        function: called with those of ``architecture``, ``model`` (built with seeded weights), ``seed``,
            ``fidelity``, ``replicate`` and ``proposal`` that its signature names; a single other parameter
            receives the architecture. Returns a mapping of metric to number, or one number.
        metrics: names of what it returns; one name for a plain number.
        space: needed where the function takes ``model``.
        functional, measured, cheap: as in `Evaluator`; by default no metric is shared, measured or cheap.
        elsewhere: metrics that others measure; a result that holds one is refused, not overruled in silence.

    Raises:
        BadInput: no metric is named, or the function takes ``model`` and there is no space.
    """

    def __init__(
        self,
        function: Callable[..., Mapping[str, float] | float],
        metrics: Sequence[str] | str,
        *,
        space: Space | None = None,
        functional: Sequence[str] = (),
        measured: Sequence[str] = (),
        cheap: Sequence[str] = (),
        elsewhere: Sequence[str] = (),
    ) -> None:
        self._names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
        if not self._names:
            raise must("metrics", "name what the function returns", metrics)
        self.metrics = frozenset(self._names)
        self.functional, self.measured, self.cheap = map(frozenset, (functional, measured, cheap))
        self._elsewhere = tuple(elsewhere)
        self._function = function
        self._space = space
        self._takes = _parameters(function)
        self.multi_fidelity = self.metrics if "fidelity" in self._takes.values() else frozenset()
        if "model" in self._takes and space is None:
            raise must("space", "be given to a function that takes 'model'", None)

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Call the function once per proposal."""
        return [self._one(proposal, seed) for proposal in proposals]

    def _one(self, proposal: Proposal, seed: int) -> Outcome:
        offered: dict[str, Any] = {
            "architecture": proposal.candidate,
            "proposal": proposal,
            "fidelity": proposal.fidelity,
            "replicate": proposal.replicate,
            "seed": derive(seed, "function", proposal.candidate.key, proposal.replicate) % 2**31,
        }
        if "model" in self._takes:
            assert self._space is not None
            offered["model"] = seeded_module(self._space, proposal, seed)
        start = time.perf_counter()
        result = self._function(**{name: offered[source] for name, source in self._takes.items()})
        seconds = time.perf_counter() - start
        values = self._values(result)
        return Measurement({m: values[m] for m in proposal.metrics}, seconds)

    def _values(self, result: Mapping[str, float] | float) -> Mapping[str, float]:
        if not isinstance(result, Mapping):
            if len(self._names) > 1:
                raise must("the function", f"return a mapping with {sorted(self.metrics)}", result)
            return {self._names[0]: float(result)}
        missing = self.metrics - set(result)
        if missing:
            raise must("the function's result", f"hold {sorted(missing)[0]!r}", sorted(result))
        for name in self._elsewhere:
            if name in result:
                remedy = "set the function's attribute metrics to the names of all that it measures itself"
                raise must("the function's result", f"leave {name!r} to the toolkit", sorted(result), remedy)
        return {name: float(result[name]) for name in self.metrics}


_OFFERED = ("architecture", "model", "seed", "fidelity", "replicate", "proposal")


def _parameters(function: Callable[..., Any]) -> dict[str, str]:
    """Which offer each parameter of the function receives."""
    parameters = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY)
    ]
    takes = {p.name: p.name for p in parameters if p.name in _OFFERED}
    others = [p.name for p in parameters if p.name not in _OFFERED and p.default is p.empty]
    if len(others) == 1 and "architecture" not in takes and "model" not in takes:
        return {others[0]: "architecture", **takes}
    if others:
        raise must("the function", f"take parameters among {', '.join(_OFFERED)}", others[0])
    return takes


def check_measured(asked: Iterable[str], metrics: Iterable[str]) -> None:
    """Refuse what is not among the metrics of an evaluator.

    Raises:
        UnknownMetric: one that is asked for is not.
    """
    for metric in asked:
        if metric not in metrics:
            raise unknown_metric(metric, metrics)


def seeded_module(space: Space, proposal: Proposal, seed: int) -> Any:
    """The candidate's module with weights that derive from (seed, architecture key, replicate) only.

    They are drawn on the CPU. The caller's torch generators are left as they were, those of devices, too.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the devices' generators as well, which nothing here puts back
        torch.default_generator.manual_seed(
            derive(seed, "weights", proposal.candidate.key, proposal.replicate)
        )
        return space.module(proposal.candidate)


@final
class Combined(Evaluator):
    """Several evaluators as one; each metric is measured by the first that can.

    Args:
        evaluators: at least one; asked in order for what a proposal needs of them.

    Raises:
        BadInput: there is none, or one of several trains shared weights.
    """

    def __init__(self, evaluators: Sequence[Evaluator]) -> None:
        if not evaluators:
            raise must("evaluators", "hold at least one", evaluators)
        if len(evaluators) > 1 and not all(e.pure for e in evaluators):
            raise must("evaluators", "be pure to be combined", [type(e).__name__ for e in evaluators])
        self.evaluators = tuple(evaluators)
        self._owner: dict[str, Evaluator] = {}
        for evaluator in self.evaluators:
            for metric in sorted(evaluator.metrics):
                self._owner.setdefault(metric, evaluator)
        self.metrics = frozenset(self._owner)
        self.functional = frozenset(m for m, e in self._owner.items() if m in e.functional)
        self.measured = frozenset(m for m, e in self._owner.items() if m in e.measured)
        self.cheap = frozenset(m for m, e in self._owner.items() if m in e.cheap)
        self.predicted = frozenset(m for m, e in self._owner.items() if m in e.predicted)
        self.multi_fidelity = frozenset(m for m, e in self._owner.items() if m in e.multi_fidelity)

    def evaluate(self, proposals: Sequence[Proposal], *, seed: int) -> list[Outcome]:
        """Ask each owner for its metrics of all proposals, and join the answers."""
        outcomes: list[Outcome | None] = [None] * len(proposals)
        for evaluator in self.evaluators:
            asked: list[tuple[int, Proposal]] = []
            for i, proposal in enumerate(proposals):
                own = [m for m in proposal.metrics if self.owner(m) is evaluator]
                if own and not isinstance(outcomes[i], Failure):
                    asked.append((i, proposal.asking(own)))
            if asked:
                answers = evaluator.evaluate([p for _, p in asked], seed=seed)
                for (i, _), answer in zip(asked, answers, strict=True):
                    outcomes[i] = joined(outcomes[i], answer)
        assert all(outcome is not None for outcome in outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    def remember(self, trial: Trial) -> None:
        """Let each take note of a finished trial."""
        for evaluator in self.evaluators:
            evaluator.remember(trial)

    @property
    def timed(self) -> frozenset[str]:
        """Metrics of those evaluators that take clock readings."""
        return frozenset(m for m, e in self._owner.items() if m in e.timed)

    def owner(self, metric: str) -> Evaluator:
        """The evaluator that measures a metric.

        Raises:
            UnknownMetric: none does.
        """
        try:
            return self._owner[metric]
        except KeyError:
            raise unknown_metric(metric, self.metrics) from None


def joined(first: Outcome | None, second: Outcome) -> Outcome:
    """Two parts of one proposal's answer as one; a failure when either is."""
    if first is None:
        return second
    seconds = first.seconds + second.seconds
    if isinstance(first, Failure) or isinstance(second, Failure):
        return replace(first if isinstance(first, Failure) else second, seconds=seconds)
    return Measurement(
        values={**first.values, **second.values},
        seconds=seconds,
        gradient=first.gradient or second.gradient,
        vectors={**first.vectors, **second.vectors},
        weights=first.weights or second.weights,
        notes={**first.notes, **second.notes},
    )


@final
class Known:
    """The cheap pure metrics of an evaluator, which a strategy asks for freely and unrecorded.

    Args:
        evaluator: its `cheap` metrics are offered.
        seed: the run's.
    """

    def __init__(self, evaluator: Evaluator, seed: int) -> None:
        self._evaluator = evaluator
        self._seed = seed
        self.metrics = evaluator.cheap

    def values(
        self, architectures: Sequence[Architecture | Fixed], metrics: Sequence[str]
    ) -> list[Mapping[str, float]]:
        """Metric values in order; NaN where a candidate could not be measured.

        Raises:
            UnknownMetric: a metric is not cheap.
        """
        check_measured(metrics, self.metrics)
        proposals = [Proposal(a, tuple(metrics)) for a in architectures]
        return [self._row(p, metrics) for p in proposals]

    def _row(self, proposal: Proposal, metrics: Sequence[str]) -> Mapping[str, float]:
        try:
            (outcome,) = self._evaluator.evaluate([proposal], seed=self._seed)
        except BadInput:
            raise
        except Exception:
            return dict.fromkeys(metrics, math.nan)
        return outcome.values if isinstance(outcome, Measurement) else dict.fromkeys(metrics, math.nan)

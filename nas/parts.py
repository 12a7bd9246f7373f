"""A search as it is asked for, and the finished parts it is put together from."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, final

from nas import executors, keys, registry
from nas.architecture import Architecture, Fixed
from nas.attainable import check_attainable
from nas.budget import Budget
from nas.errors import BadInput, Incompatible, must, unknown, unknown_metric
from nas.evaluator import Combined, Evaluator, FunctionEvaluator, Known, Trainer, seeded_module
from nas.history import earlier_trials
from nas.inflight import InFlight
from nas.keys import KEYS
from nas.memo import POLICIES, Memoized
from nas.objective import Objective, parse_objectives
from nas.proposal import Proposal
from nas.rng import stream
from nas.space import Space
from nas.strategies.warm_start import WarmStart
from nas.strategy import Strategy, check_pair
from nas.study import Study
from nas.target import Target
from nas.task import Task

if TYPE_CHECKING:
    from nas.history import History
    from nas.proposal import Trial

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")


@final
@dataclass
class Search:
    """What to search, for whom and for how long; each part is finished, a name, or a mapping of settings.

    Args:
        space: a `Space`, its name, ``{name: …}``, ``{factory: …}`` or ``{join: [spaces]}``.
        objectives: such as ``"max accuracy, min latency_ms < 2"``.
        budget: when to stop.
        task: the data; ``digits`` where an evaluator needs one and none is given.
        target: the machine.
        evaluators: in order of precedence; objectives that they do not cover get the default evaluator of
            the metric.
        strategy: who proposes.
        memo: which answers are shared: ``off``, a name among `nas.keys.KEYS`, or ``{key: numeric, …}`` with
            settings of that key and of `Memoized`.
        baseline: choices of an architecture, ``{factory: "package:name"}`` of a trained module, or None.
        executor: where evaluations run.
        batch: trials told together; None tells each as it ends.
        seed: rules everything that is random.
        warm_start: folder of an earlier run whose trials the strategy is told first.
        formats: exporters that will write the front; checked before anything runs.
        folder: that file references start from.
    """

    space: Any
    objectives: Any = "max accuracy"
    budget: Budget = field(default_factory=lambda: Budget(trials=64))
    task: Any = None
    target: Any = "host"
    evaluators: Sequence[Any] = ()
    strategy: Any = "evolution"
    memo: Any = "functional"
    baseline: Any = None
    executor: Any = "here"
    batch: int | None = None
    seed: int = 0
    warm_start: Path | None = None
    formats: Sequence[str] = ()
    folder: Path = field(default_factory=Path.cwd)


@final
class Parts:
    """The finished parts of a search.

    Args:
        search: what was asked.
        folder: of the run, for weights and logs; None where nothing will be evaluated.

    Raises:
        BadInput: a part cannot be made, with the path of its place in the config.
        Incompatible: the strategy cannot search this space for these objectives.
        UnknownMetric: an objective that no evaluator measures.
    """

    def __init__(self, search: Search, folder: Path | None = None) -> None:
        self.search = search
        self.folder = folder
        self.objectives: tuple[Objective, ...] = _at("objectives", parse_objectives, search.objectives)
        self.offers: dict[str, Any] = {"objectives": self.objectives, "folder": folder}
        self.target = self._made("target", "target", search.target)
        self.task: Task | None = self._task()
        self.space: Space = _at("space", self._space, search.space)
        self.offers["space"] = self.space
        self.evaluators = self._evaluators()
        probe = _at("space", self._probe, search.seed)
        self.evaluator = self.evaluators[0] if len(self.evaluators) == 1 else Combined(self.evaluators)
        self.offers["known"] = Known(self.evaluator, search.seed)
        self.strategy: Strategy = self._made("strategy", "strategy", search.strategy)
        reason = check_pair(self.strategy, _label(search.strategy), self.space, probe, self.objectives)
        if reason is not None:
            raise Incompatible(f"{reason}; 'nas list pairs' shows what works", "strategy")
        if search.warm_start is not None:
            self.strategy = _at("warm_start", self._warm, search.warm_start)
        self.baseline = _at("baseline", self._baseline, search.baseline)
        self.memoized = self._memoized()
        if search.formats:
            _at("export.formats", self.exporters, search.formats)
        self.study()  # what a study refuses is refused here, before a folder is made

    def study(self, history: History | None = None, observer: Callable[[Trial], None] | None = None) -> Study:
        """The study of these parts."""
        return Study(
            self.space,
            self.objectives,
            self.memoized,
            self.strategy,
            history=history,
            executor=_at("executor", executors.create, self.search.executor),
            seed=self.search.seed,
            baseline=self.baseline,
            batch=self.search.batch,
            logs=None if self.folder is None else self.folder / "logs",
            in_flight=None if self.folder is None else InFlight(self.folder / "inflight.json", self.space),
            observer=observer,
        )

    def check_attainable(self) -> None:
        """Refuse bounds on cheap metrics that no architecture seems to meet.

        Raises:
            Infeasible: with the nearest value found.
        """
        rng = stream(self.search.seed, "attainable")
        check_attainable(self.space, self.objectives, self.offers["known"], rng)

    def exporters(self, formats: Sequence[str]) -> list[Callable[..., list[Path]]]:
        """The exporters of these formats.

        Raises:
            BadInput: a format is unknown, or no weights are kept that could be exported.
        """
        found = [registry.load("exporter", name) for name in formats]
        self.trainer()
        return found

    def trainer(self) -> Trainer:
        """The evaluator that keeps weights.

        Raises:
            BadInput: there is none.
        """
        for evaluator in self.evaluators:
            if isinstance(evaluator, Trainer):
                return evaluator
        raise must("evaluators", "hold one that keeps weights", "none", "use {name: training}")

    def _made(self, kind: str, where: str, spec: object) -> Any:
        made = _at(where, lambda s: registry.create(kind, s, self.offers, folder=self.search.folder), spec)
        if not isinstance(made, CONTRACTS[kind]):
            raise must(where, f"be a nas.{CONTRACTS[kind].__name__}", made)
        return made

    def _task(self) -> Task | None:
        """The task; none where nothing but the user's own functions and evaluators is to measure."""
        self.offers["target"] = self.target
        evaluators = self.search.evaluators
        own = bool(evaluators) and not any(isinstance(e, str | Mapping | type) for e in evaluators)
        needed = self.search.task is not None or not own
        task = self._made("task", "task", self.search.task or "digits") if needed else None
        self.offers["task"] = task
        return task

    def _space(self, spec: object) -> Space:
        if isinstance(spec, Mapping) and "join" in spec:
            if set(spec) != {"join"}:
                raise must("space", "have join: alone", dict(spec))
            parts = {_label(s): _at(f"join.{i}", self._space, s) for i, s in enumerate(spec["join"])}
            if len(parts) != len(spec["join"]):
                raise must("space.join", "name each space once", [_label(s) for s in spec["join"]])
            joined: Space = registry.create("space", {"name": "join", "parts": parts})
            return joined
        space: Space = registry.create("space", spec, self.offers, folder=self.search.folder)
        if not isinstance(space, Space):
            raise must("it", "be a nas.Space", space)
        return space

    def _probe(self, seed: int) -> Architecture:
        """A random architecture, built where modules will be, so that what no model can have is refused now.

        A model that breaks otherwise is left to become a failure of its own trial.
        """
        probe = self.space.sample(stream(seed, "probe"))
        if self.task is not None and any(e.builds for e in self.evaluators):
            with contextlib.suppress(_Broken):
                _built(self.space, probe)
        return probe

    def _evaluators(self) -> list[Evaluator]:
        """The given evaluators, and the default ones of the objectives that those do not measure."""
        from nas.estimators import MEASURES

        given = [self._one_evaluator(f"evaluators.{i}", e) for i, e in enumerate(self.search.evaluators)]
        covered = {m for e in given for m in e.metrics}
        for o in self.objectives:
            if o.metric in covered:
                continue
            if o.metric not in MEASURES:
                raise unknown_metric(o.metric, covered | set(MEASURES)).at("objectives")
            if self.task is None:
                raise must("task", f"be given to measure {o.metric} on its inputs", None)
            added = self._made("evaluator", f"evaluators ({MEASURES[o.metric]})", MEASURES[o.metric])
            covered |= added.metrics
            given.append(added)
        return given

    def _one_evaluator(self, where: str, spec: Any) -> Evaluator:
        if isinstance(spec, str | Mapping):
            factory, _, settings = _at(
                where, lambda s: registry.resolve("evaluator", s, self.search.folder), spec
            )
            if not settings and _measures_itself(factory):
                spec = factory
        if isinstance(spec, str | Mapping | Evaluator | type) or not callable(spec):
            made: Evaluator = self._made("evaluator", where, spec)
            return made
        metrics = _function_metrics(spec, [o.metric for o in self.objectives])
        return _at(where, lambda f: FunctionEvaluator(f, metrics, space=self.space), spec)

    def _memoized(self) -> Evaluator:
        memo = self.search.memo
        if memo in ("off", None) or not self.evaluator.pure:
            return self.evaluator
        if isinstance(memo, str) and memo not in KEYS:
            raise unknown("memo", memo, [*KEYS, "off"]).at("memo")
        return _at("memo", self._memo, dict(memo) if isinstance(memo, Mapping) else {"key": memo})

    def _memo(self, settings: dict[str, Any]) -> Memoized:
        """The wrapper; what are no settings of its own are those of the key."""
        policies = {name: settings.pop(name) for name in POLICIES if name in settings}
        key = settings.pop("key", "functional")
        if isinstance(key, str):
            key = keys.create(key, self.space, self.task, **settings)
        elif settings:
            raise unknown("setting of memo", next(iter(settings)), POLICIES)
        return Memoized(self.evaluator, self.space, key, seed=self.search.seed, **policies)

    def _warm(self, run: Path) -> Strategy:
        """The strategy, told first what an earlier run found, by its copy in this folder if there is one."""
        copy = None if self.folder is None else self.folder / WARM_START
        journal = copy if copy is not None and copy.is_file() else run / "journal.log"
        if not journal.is_file():
            raise must("it", "be the folder of a run", str(run))
        trials, foreign = earlier_trials(journal, self.space)
        warm = WarmStart(self.strategy, trials, self.space, self.objectives)
        left_out = dict(warm.unfit) | ({"outside the space": foreign} if foreign else {})
        if not warm.fitting:
            raise must("it", "hold trials of this space and these objectives", left_out)
        log.info("warm start: %d trials, left out: %s", warm.fitting, left_out)
        self.offers["warm start"] = f"{warm.fitting} trials of {run}, {sum(left_out.values())} left out"
        return warm

    def _baseline(self, given: Any) -> Architecture | Fixed | None:
        if given is None:
            return None
        if isinstance(given, Architecture | Fixed):
            return given
        if not isinstance(given, Mapping):
            raise must("baseline", "map decisions to values or have factory:", given)
        if "factory" in given:
            text, in_file = given["factory"], registry.source_file(given["factory"], self.search.folder)
            factory = registry.reference(text, self.search.folder)
            return Fixed(text if in_file is None else factory)
        return self.space.architecture(given)


WARM_START = "warm_start.log"
"""Copy of the earlier run's journal in a run's folder, so that a resumed run begins with the same trials."""

CONTRACTS: Mapping[str, type] = {
    "task": Task,
    "target": Target,
    "evaluator": Evaluator,
    "strategy": Strategy,
}
"""What a plugin of each kind must be."""


class _Broken(Exception):
    """A probe whose build raised something else than a refusal."""


def _built(space: Space, probe: Architecture) -> None:
    try:
        seeded_module(space, Proposal(probe, ("probe",)), 0)
    except BadInput:
        raise
    except Exception as error:
        raise _Broken from error


def _measures_itself(factory: Any) -> bool:
    """Whether what a config refers to is a function of candidates, and not one that makes an evaluator."""
    return inspect.isfunction(factory) and not {"architecture", "model"}.isdisjoint(
        inspect.signature(factory).parameters
    )


def _function_metrics(function: Any, objectives: Sequence[str]) -> Sequence[str]:
    """What a function returns: its ``metrics`` attribute, else the objectives that only training can tell."""
    from nas.estimators import MEASURES

    own = [m for m in objectives if MEASURES.get(m, "training") == "training"]
    return tuple(getattr(function, "metrics", own or objectives))


def _label(spec: Any) -> str:
    if isinstance(spec, str):
        return spec
    if isinstance(spec, Mapping):
        return str(spec.get("name") or str(spec.get("factory", "")).rpartition(":")[2].lower())
    return type(spec).__name__.lower()


def _at(where: str, make: Callable[[S], T], given: S) -> T:
    """What ``make`` makes of ``given``; errors carry the path of its place in the config."""
    try:
        return make(given)
    except BadInput as error:
        raise error.at(where) from error

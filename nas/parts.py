"""A search as it is asked for, and the finished parts it is put together from."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, final

from nas import executors, keys, registry
from nas.architecture import Architecture, Fixed
from nas.attainable import check_attainable
from nas.budget import Budget, Price
from nas.earlier import copied, earlier
from nas.errors import BadInput, Incompatible, must, unknown, unknown_metric
from nas.evaluator import (
    Combined,
    Evaluator,
    FunctionEvaluator,
    Known,
    StepEvaluator,
    Trainer,
    seeded_module,
)
from nas.feasibility import bands, check_calibrated, limited
from nas.feasible import Within, baseline_values, bounded
from nas.files import Files, FolderFiles
from nas.inflight import InFlight
from nas.keys import KEYS
from nas.memo import POLICIES, Memoized
from nas.objective import Objective, cautious, parse_objectives
from nas.proposal import Proposal
from nas.rng import derive, stream
from nas.space import Space
from nas.stage import Stage
from nas.stopping import Stop
from nas.strategies.warm_start import WarmStart
from nas.strategy import Strategy, check_pair
from nas.study import Study
from nas.target import Target
from nas.task import Task

if TYPE_CHECKING:
    from nas.history import History
    from nas.proposal import Trial
    from nas.supernet import Supernet

log = logging.getLogger(__name__)

STAGE = ("strategy", "evaluators", "budget")
"""Settings of a stage."""

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
        warm_start: folder of an earlier run whose trials the strategy is told first; or ``storage`` and
            ``run`` of one in a database.
        formats: exporters that will write the front; checked before anything runs.
        folder: that file references start from.
        stop: a `Stop` or its settings: ends the search when the front hardly grows; None never does.
        price_per_hour: of a device, for what a search costs; None where that does not matter.
        currency: of the price.
        accept_uncalibrated: whether times may be bounded on a target that only its datasheet describes.
        storage: URL of the database that keeps the run; a journal file in the run's folder when None.
        run: name in the database; that of the run's folder when None.
        artifacts: folder for weights and exports of all runs, a folder each; the run's folder when None.
        stages: trainings of the space's supernet that come before the search, each with ``strategy`` and
            perhaps ``evaluators`` (one, `paths` when left out) and ``budget``.
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
    warm_start: Path | Mapping[str, str] | None = None
    formats: Sequence[str] = ()
    folder: Path = field(default_factory=Path.cwd)
    stop: Any = None
    price_per_hour: float | None = None
    currency: str = ""
    accept_uncalibrated: bool = False
    storage: str | None = None
    run: str | None = None
    artifacts: Path | None = None
    stages: Sequence[Mapping[str, Any]] = ()

    @property
    def price(self) -> Price | None:
        """What a device costs, where that is known."""
        return None if self.price_per_hour is None else Price(self.price_per_hour, self.currency)


@final
class Parts:
    """The finished parts of a search.

    Args:
        search: what was asked.
        folder: of the run, for logs and weights; None where nothing will be evaluated.
        files: that keep what is in flight; those of the folder when None.

    Attributes:
        artifacts: where weights, checkpoints and exports are; None where there is no folder.

    Raises:
        BadInput: a part cannot be made, with the path of its place in the config.
        Incompatible: the strategy cannot search this space for these objectives.
        UnknownMetric: an objective that no evaluator measures.
    """

    def __init__(self, search: Search, folder: Path | None = None, files: Files | None = None) -> None:
        self.search = search
        self.folder = folder
        self.artifacts = _artifacts(search, folder)
        self._files = FolderFiles(folder) if files is None and folder is not None else files
        given = _at("objectives", parse_objectives, search.objectives)
        self.offers: dict[str, Any] = {"objectives": given, "folder": self.artifacts}
        self.target: Target = self._made("target", "target", search.target)
        self.objectives: tuple[Objective, ...] = limited(given, self.target)
        self.offers["objectives"] = self.objectives
        if not search.accept_uncalibrated:
            check_calibrated(self.objectives, self.target)
        self.task: Task | None = self._task()
        self.space: Space = _at("space", self._space, search.space)
        self.offers["space"] = self.space
        self.offers["supernet"] = registry.Later(self._supernet)
        self.evaluators = self._evaluators()
        probe = _at("space", self._probe, search.seed)
        self.evaluator = self.evaluators[0] if len(self.evaluators) == 1 else Combined(self.evaluators)
        self.objectives = self.offers["objectives"] = self._cautious()
        self.offers["known"] = Known(self.evaluator, search.seed)
        self.baseline = _at("baseline", self._baseline, search.baseline)
        self.offers["space"] = self._within()  # the strategy's alone: the baseline may lie beyond the bounds
        self.strategy: Strategy = self._made("strategy", "strategy", search.strategy)
        self.offers["space"] = self.space
        reason = check_pair(self.strategy, _label(search.strategy), self.space, probe, self.objectives)
        if reason is not None:
            raise Incompatible(f"{reason}; 'nas list pairs' shows what works", "strategy")
        if search.warm_start is not None:
            self.strategy = _at("warm_start", self._warm, search.warm_start)
        self.stages: tuple[Stage, ...] = tuple(self._stage(i, s) for i, s in enumerate(search.stages))
        self.untrained: Sequence[Stage] = self.stages  # as far as this session has done nothing about it
        self.memoized = self._memoized()
        self.stop: Stop | None = _at("stop", _stop, search.stop)
        if search.budget.cost is not None and search.price is None:
            raise must("budget.cost", "have a price", None, "set price_per_hour:")
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
            in_flight=None if self._files is None else InFlight(self._files, self.space),
            observer=observer,
            stop=self.stop,
            price=self.search.price,
        )

    @property
    def bands(self) -> Mapping[str, float]:
        """The factor within which objectives that are guesses are to be taken."""
        return bands(self.objectives, self.target)

    def check_attainable(self) -> None:
        """Refuse bounds on cheap metrics that no architecture seems to meet.

        Raises:
            Infeasible: with the nearest value found.
        """
        rng = stream(self.search.seed, "attainable")
        check_attainable(self.space, self.objectives, self.offers["known"], rng)

    def trained(self) -> None:
        """Take up shared weights that an earlier session trained, where evaluating needs them now.

        Raises:
            StorageError: they are not there.
        """
        stages, self.untrained = self.untrained, ()
        for stage in stages:
            stage.take_up()

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
        """The given evaluators, the user's own first, and the default ones of what those do not measure."""
        from nas.estimators import MEASURES

        specs = sorted(enumerate(self.search.evaluators), key=lambda numbered: _by_name(numbered[1]))
        given = [self._one_evaluator(f"evaluators.{i}", spec) for i, spec in specs]
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
        metrics, elsewhere = _function_metrics(spec, [o.metric for o in self.objectives])
        own = partial(FunctionEvaluator, metrics=metrics, space=self.space, elsewhere=elsewhere)
        return _at(where, own, spec)

    def _supernet(self) -> Supernet:
        """The shared weights of the space, one for all stages and evaluators of the run."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(self.search.seed, "supernet"))
            supernet = self.space.supernet()
        if supernet is None:
            raise Incompatible(f"needs a space with a supernet; {type(self.space).__name__} has none")
        return supernet

    def _stage(self, number: int, spec: Mapping[str, Any]) -> Stage:
        """A training of the supernet, made of its settings."""
        where = f"stages.{number}"
        for key in spec:
            if key not in STAGE:
                raise unknown("setting", key, STAGE).at(where)
        evaluators = spec.get("evaluators") or ["paths"]
        if len(evaluators) != 1:
            raise must(f"{where}.evaluators", "be one that trains", [_label(e) for e in evaluators])
        evaluator = self._made("evaluator", f"{where}.evaluators.0", evaluators[0])
        if not isinstance(evaluator, StepEvaluator):
            raise must(f"{where}.evaluators.0", "train shared weights", _label(evaluators[0]), "use paths")
        if "strategy" not in spec:
            raise must(f"{where}.strategy", "be given", None, "such as uniform or sandwich")
        strategy: Strategy = self._made("strategy", f"{where}.strategy", spec["strategy"])
        label = _label(spec["strategy"])
        if missing := strategy.needs - self.space.offers(self.space.sample(stream(0, "probe"))):
            reason = f"{label} needs a space with {', '.join(sorted(missing))}"
            raise Incompatible(f"{reason}; {type(self.space).__name__} has none", f"{where}.strategy")
        given = spec.get("budget") or {"trials": sys.maxsize}  # the strategy knows when it is through
        return Stage(
            label=label,
            space=self.space,
            strategy=strategy,
            evaluator=evaluator,
            budget=_at(f"{where}.budget", lambda g: Budget(**g), given),
            seed=derive(self.search.seed, "stage", number),
            folder=None if self.artifacts is None else self.artifacts / "stages" / str(number),
        )

    def _cautious(self) -> tuple[Objective, ...]:
        """The objectives, bounded at the far end of an interval where a metric's own evaluator gives one."""
        found: list[Objective] = []
        for o in self.objectives:
            owner = next(e for e in self.evaluators if o.metric in e.metrics)
            found += cautious([o], owner.metrics - {other.metric for other in self.objectives})
        return tuple(found)

    def _within(self) -> Space:
        """The space, within the bounds that cost little to tell."""
        known = self.offers["known"]
        reference = baseline_values(self.baseline, self.objectives, known)
        if not bounded(self.objectives, known, reference):
            return self.space
        return Within(self.space, self.objectives, known, reference)

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

    def _warm(self, run: Path | Mapping[str, str]) -> Strategy:
        """The strategy, told first what an earlier run found, by its copy in this folder if there is one."""
        copy = None if self.folder is None else self.folder / WARM_START
        known = copied(copy) if copy is not None and copy.is_file() else earlier(run)
        trials, foreign = known.trials(self.space)
        warm = WarmStart(self.strategy, trials, self.space, self.objectives)
        left_out = dict(warm.unfit) | ({"outside the space": foreign} if foreign else {})
        if not warm.fitting:
            raise must("it", "hold trials of this space and these objectives", left_out)
        log.info("warm start: %d trials, left out: %s", warm.fitting, left_out)
        told, others = f"{warm.fitting} trials of {known.words}", sum(left_out.values())
        self.offers["warm start"] = f"{told}, {others} left out"
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


def _stop(given: Any) -> Stop | None:
    if given is None or isinstance(given, Stop):
        return given
    known = [f.name for f in fields(Stop)]
    if not isinstance(given, Mapping) or "hypervolume_gain" not in given:
        raise must("it", "set a hypervolume_gain", given, "such as {hypervolume_gain: 0.001, over: 100}")
    for name in given:
        if name not in known:
            raise unknown("setting of stop", str(name), known)
    return Stop(**given)


def _artifacts(search: Search, folder: Path | None) -> Path | None:
    if search.artifacts is None or folder is None:
        return folder
    return search.artifacts / (search.run or folder.resolve().name)


def _by_name(spec: Any) -> bool:
    """Whether what a config gives is a registered plugin, and nothing of the user's own."""
    return isinstance(spec, str) or (isinstance(spec, Mapping) and "name" in spec)


def _measures_itself(factory: Any) -> bool:
    """Whether what a config refers to is a function of candidates, and not one that makes an evaluator."""
    return inspect.isfunction(factory) and not {"architecture", "model"}.isdisjoint(
        inspect.signature(factory).parameters
    )


def _function_metrics(function: Any, objectives: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What a function returns, and the objectives that others measure unless it says that it does.

    That is its ``metrics`` attribute, else the objectives that only training can tell.
    """
    from nas.estimators import MEASURES

    declared = getattr(function, "metrics", None)
    if declared is not None:
        return (declared,) if isinstance(declared, str) else tuple(declared), ()
    own = [m for m in objectives if MEASURES.get(m, "training") == "training"] or objectives
    return own, [m for m in objectives if m not in own]


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

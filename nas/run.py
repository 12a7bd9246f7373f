"""A search in a folder that holds all that it leaves behind."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from nas import registry, sources
from nas.budget import Budget
from nas.database_store import DatabaseStore
from nas.earlier import earlier
from nas.errors import BadInput, StorageError, must
from nas.files import FolderFiles
from nas.history import History, MemoryHistory
from nas.parts import WARM_START, Parts, Search
from nas.result import Result, versions
from nas.store import CONFIG, DESCRIPTION, JOURNAL, FolderStore, Request, Store
from nas.watch import Watch

if TYPE_CHECKING:
    from nas.front import Front, Member
    from nas.proposal import Trial
    from nas.study import Study
    from nas.tally import Tally

log = logging.getLogger(__name__)

PRUNE_EVERY = 16
"""Trials after which weights that no member of the front needs are deleted."""
STEP_SECONDS = 1.0
"""Who watches a training hears of it no more often than this."""
SETTLED = ("task", "target", "evaluators", "strategy", "memo", "baseline")
"""Settings that a run keeps for good; the budget, the executor and what to export may change."""


@final
class Run:
    """A search, its folder and its store: config, versions, trials, logs, weights and front.

    Without a storage the folder is the store. With one, what describes the run is kept in the database and
    copied into the folder, so that it can be continued anywhere.

    Args:
        search: what to search.
        folder: where everything is kept; None keeps trials in memory, and weights until the front goes.
        config: the search as plain values, written to the store.
        observer: called with each trial.
        trained: called with a stage's label and its tally while it trains.

    Raises:
        StorageError: the folder or the database cannot be used, or another process works on the run.
        BadInput: the store holds another search.
    """

    def __init__(
        self,
        search: Search,
        folder: Path | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        observer: Callable[[Trial], None] | None = None,
        trained: Callable[[str, Tally], None] | None = None,
    ) -> None:
        if folder is None and search.storage is not None:
            raise must("out", "be given with a storage", None, "the run has the name of its folder")
        self.folder = Path(tempfile.mkdtemp(prefix="nas-")) if folder is None else folder
        self.store = store_of(search, self.folder)
        self._folder_store = self.store if isinstance(self.store, FolderStore) else FolderStore(self.folder)
        self._watch: Watch | None = None
        self._observer, self._trained = observer, trained
        self._training: Study | None = None
        self._dropped: set[str] = set()
        try:
            if self.store.exists:
                self.store.mirror(self.folder)
            self.parts = Parts(search, self.folder, self.store)
            self.parts.check_attainable()
            self._own()
            self._describe(config)
            self.history = self._history() if folder is not None else MemoryHistory()
            self.study = self.parts.study(self.history, self._observe)
            if folder is not None:
                self._watch = Watch(self.store, self._asked, lambda error: self.stop(str(error)))
        except BaseException:
            self.close()
            if folder is None:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.result = Result(self.parts, self.history, self.folder)
        if folder is None:
            # The front holds the result, so that it can be exported; the weights go when both do.
            weakref.finalize(self.result, shutil.rmtree, self.folder, ignore_errors=True)

    def train(self) -> None:
        """Train shared weights, stage after stage, as far as that was not done before.

        Raises:
            RunFailed: too many steps in a row could not be taken.
            StorageError: weights of an earlier session cannot be read.
        """
        for i, stage in enumerate(self.parts.untrained):
            if self.study.stopped:
                return
            label = f"stage {i + 1} of {len(self.parts.stages)} ({stage.label})"
            self._training = stage.study(self._step_observer(label))
            try:
                stage.train(self._training)
            finally:
                if self._training.stopped:
                    self.study.stop(self._training.ended)
                self._training = None
        self.parts.untrained = ()

    def search(self) -> Front:
        """Search within the budget, measure the front again, and write it down.

        Shared weights are trained first where there are stages that were not.
        """
        self.train()
        self.study.run(self.parts.search.budget)
        self.study.confirm(self._lost)
        return self.write()

    def write(self) -> Front:
        """Write the front as it stands, and drop weights that no member needs.

        Raises:
            StorageError: another process has taken the run over.
        """
        self.store.check()
        front = self.result.front()
        self._prune(front)
        data = {**front.to_json(), "ended": self.study.ended, "spent": asdict(self.study.spent)}
        write_text(self.folder / "front.json", json.dumps(data, indent=2) + "\n")
        return front

    def stop(self, reason: str = "interrupted") -> None:
        """Let what is evaluated now end, and begin nothing more; for signal handlers and other threads."""
        self._active.stop(reason)

    def abandon(self, reason: str = "interrupted") -> None:
        """End at once with a `KeyboardInterrupt`; for signal handlers of the thread that searches."""
        self._active.abandon(reason)

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._active.stopped

    @property
    def _active(self) -> Study:
        """What runs now: the search, or a training before it."""
        return self.study if self._training is None else self._training

    def _step_observer(self, label: str) -> Callable[[Tally], None] | None:
        told = self._trained
        if told is None:
            return None
        heard = time.monotonic()

        def observe(tally: Tally) -> None:
            nonlocal heard
            if time.monotonic() - heard >= STEP_SECONDS:
                heard = time.monotonic()
                told(label, tally)

        return observe

    def close(self) -> None:
        """Let another process work on the run."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self.store.release()
        self._folder_store.release()

    def _own(self) -> None:
        """Take the folder, and the run where it is elsewhere."""
        self._folder_store.own()
        if self.store is not self._folder_store:
            self.store.own()

    def _asked(self, request: Request) -> None:
        """Do what another process asks for; in the thread of the watch."""
        log.info("asked to %s", request)
        if request == "stop":
            self.stop("stopped")
        elif request == "pause":
            self._active.pause()
        else:
            self._active.go_on()

    def _describe(self, config: Mapping[str, Any] | None) -> None:
        """Write what the run is; refuse a store that holds another search."""
        description: dict[str, Any] = {
            "identity": _identity(self.parts),
            "versions": versions(),
            "machine": {"host": platform.node(), "cpu": platform.machine(), "cores": os.cpu_count()},
            "threads": self.parts.target.threads,
            "repeatable": self.parts.task is None or self.parts.task.repeatable,
        }
        try:
            known = self.store.read(DESCRIPTION)
            if known is not None:
                self._check_same(description["identity"], json.loads(known))
            else:
                self.store.keep(DESCRIPTION, _text(description))
            sources.keep(self.parts.search, self.folder)
            self._keep_warm_start()
            if config is not None:
                named = {"run": self.store.run} if isinstance(self.store, DatabaseStore) else {}
                self.store.keep(CONFIG, _text({**config, **named}))
        except BadInput:
            raise
        except (OSError, ValueError) as error:
            raise StorageError(f"the run's folder {self.folder} cannot be used: {error}") from error
        if self.store is not self._folder_store:
            self._send_copies()

    def _send_copies(self) -> None:
        """Keep in the database what was copied into the folder, and the other way round."""
        local = FolderFiles(self.folder)
        copies = [f"{sources.FOLDER}/{path.name}" for path in (self.folder / sources.FOLDER).glob("*")]
        for name in (*copies, WARM_START):
            content = local.read(name)
            if content is not None and self.store.read(name) is None:
                self.store.keep(name, content)
        self.store.mirror(self.folder)

    def _check_same(self, identity: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        for name, value in identity.items():
            before = known["identity"].get(name)
            if before != json.loads(json.dumps(value)):
                remedy = "start a new run with another --out"
                raise must(f"{name} of the run in {self.folder}", f"stay {before!r}", value, remedy)

    def _keep_warm_start(self) -> None:
        """Copy the trials that the strategy began with: the earlier run may go on, this one must repeat."""
        begun_with, copy = self.parts.search.warm_start, self.folder / WARM_START
        if begun_with is not None and not copy.is_file():
            earlier(begun_with).keep(copy)

    def _history(self) -> History:
        history = self.store.history(self.parts.space, self.parts.objectives, "owner")
        if history.repaired:
            log.warning("cut %d bytes of a torn last line from %s", history.repaired, self.folder / JOURNAL)
        return history

    def _observe(self, trial: Trial) -> None:
        # While the front is confirmed, whoever leaves it may come back.
        if trial.role != "confirm" and len(self.history.trials) % PRUNE_EVERY == 0:
            self._prune(self.result.front())
        if self._observer is not None:
            self._observer(trial)

    def _lost(self, member: Member) -> bool:
        """Whether weights were kept of this member and dropped later."""
        return member.weights is not None and not self.result.kept(member)

    def _prune(self, front: Front) -> None:
        """Delete weights of trials on no front; lower fidelities keep theirs until they are continued."""
        kept = [*front, front.baseline] if front.baseline else list(front)
        needed = {m.weights.name for m in kept if m.weights} | self._dropped
        continued = {trial.proposal.continues for trial in self.history.trials}
        for trial in self.history.trials:
            weights = getattr(trial.outcome, "weights", None)
            done = trial.proposal.fidelity == 1.0 or trial.number in continued
            if weights is not None and done and weights.name not in needed:
                (self.result.weights / weights.name).unlink(missing_ok=True)
                self._dropped.add(weights.name)


def search(
    *,
    space: Any,
    objectives: Any = "max accuracy",
    task: Any = None,
    evaluator: Any = (),
    strategy: Any = "evolution",
    target: Any = "host",
    accept_uncalibrated: bool = False,
    trials: int | None = None,
    budget: Budget | Mapping[str, Any] | None = None,
    memo: Any = "functional",
    baseline: Any = None,
    executor: Any = "here",
    batch: int | None = None,
    seed: int = 0,
    warm_start: str | Path | Mapping[str, str] | None = None,
    stop: Any = None,
    stages: Sequence[Mapping[str, Any]] = (),
    price_per_hour: float | None = None,
    currency: str = "",
    storage: str | None = None,
    artifacts: str | Path | None = None,
    out: str | Path | None = None,
) -> Front:
    """Search, and give the front.

    Args:
        space, objectives, task, strategy, target, memo, baseline, executor, batch, seed, warm_start, stop,
            stages, price_per_hour, currency, storage, artifacts, accept_uncalibrated: as in `Search`.
        evaluator: an evaluator, a function such as an existing training loop, or a list of them.
        trials: a budget of that many trials; 64 without any budget.
        budget: a `Budget` or its limits.
        out: the run's folder; a search that it holds already is continued. None keeps trials in memory and
            weights in a temporary folder that goes with the front.

    Raises:
        BadInput: something cannot be used as given.
        RunFailed: the first ten evaluations all failed.
    """
    evaluators = list(evaluator) if isinstance(evaluator, list | tuple) else [evaluator]
    settings = Search(
        space=space,
        objectives=objectives,
        budget=_budget(trials, budget),
        task=task,
        target=target,
        accept_uncalibrated=accept_uncalibrated,
        evaluators=evaluators,
        strategy=strategy,
        memo=memo,
        baseline=baseline,
        executor=executor,
        batch=batch,
        seed=seed,
        warm_start=Path(warm_start) if isinstance(warm_start, str) else warm_start,
        stop=stop,
        stages=stages,
        price_per_hour=price_per_hour,
        currency=currency,
        storage=storage,
        artifacts=None if artifacts is None else Path(artifacts),
    )
    run = Run(settings, None if out is None else Path(out))
    try:
        return run.search()
    finally:
        run.close()


def _budget(trials: int | None, budget: Budget | Mapping[str, Any] | None) -> Budget:
    if isinstance(budget, Budget):
        given = {f.name: getattr(budget, f.name) for f in fields(budget)}
    else:
        given = dict(budget or {})
    if trials is not None:
        given["trials"] = trials
    return Budget(**given) if given else Budget(trials=64)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _identity(parts: Parts) -> dict[str, Any]:
    """What must stay as it is for trials of a run to be comparable."""
    search = parts.search
    return {
        "seed": search.seed,
        "space": parts.space.signature,
        "objectives": [str(o) for o in parts.objectives],
        "data": "" if parts.task is None else parts.task.fingerprint(),
        "batch": search.batch,
        **{name: _plain(getattr(search, name)) for name in SETTLED},
        **({"stages": _plain(list(search.stages))} if search.stages else {}),
        **{f"source file {name}": digest for name, digest in sources.digests(search).items()},
    }


def _plain(spec: Any) -> Any:
    """A spec as JSON values; finished objects by their type, files by their name."""
    if isinstance(spec, Mapping):
        return {str(key): _plain(value) for key, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [_plain(value) for value in spec]
    if isinstance(spec, str):
        path = registry.source_file(spec, Path())
        return spec if path is None else f"{path.name}:{spec.rpartition(':')[2]}"
    if isinstance(spec, int | float | bool | None):
        return spec
    return spec.__qualname__ if isinstance(spec, type) else type(spec).__name__


def _text(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()


def store_of(search: Search, folder: Path, writer: str = "owner") -> Store:
    """Where the run of a search lives: in its folder, or in the storage that it names."""
    if search.storage is None:
        return FolderStore(folder)
    return DatabaseStore(search.storage, search.run or folder.resolve().name, writer)


def owner_of(folder: Path) -> str | None:
    """The process that works in a run's folder, as "pid on host"; None when there is none."""
    return FolderStore(folder).owner()

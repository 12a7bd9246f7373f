"""A search in a folder that holds all that it leaves behind."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from nas import registry, sources
from nas.budget import Budget
from nas.errors import BadInput, StorageError, must
from nas.history import History, MemoryHistory, OptunaHistory
from nas.parts import WARM_START, Parts, Search
from nas.result import Result, versions

if TYPE_CHECKING:
    from nas.front import Front, Member
    from nas.proposal import Trial

log = logging.getLogger(__name__)

PRUNE_EVERY = 16
"""Trials after which weights that no member of the front needs are deleted."""
SETTLED = ("task", "target", "evaluators", "strategy", "memo", "baseline")
"""Settings that a run keeps for good; the budget, the executor and what to export may change."""


@final
class Run:
    """A search and its folder: config, versions, journal, logs, weights and front.

    Args:
        search: what to search.
        folder: where everything is kept; None keeps trials in memory, and weights until the front goes.
        config: the search as plain values, written to the folder.
        observer: called with each trial.

    Raises:
        StorageError: the folder cannot be written, or another process works in it.
        BadInput: the folder holds another search.
    """

    def __init__(
        self,
        search: Search,
        folder: Path | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        observer: Callable[[Trial], None] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nas-")) if folder is None else folder
        self._lock: int | None = None
        self._observer = observer
        self._dropped: set[str] = set()
        try:
            self.parts = Parts(search, self.folder)
            self.parts.check_attainable()
            self._lock = _locked(self.folder)
            self._describe(config)
            self.history = self._history() if folder is not None else MemoryHistory()
            self.study = self.parts.study(self.history, self._observe)
        except BaseException:
            self.close()
            if folder is None:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.result = Result(self.parts, self.history, self.folder)
        if folder is None:
            # The front holds the result, so that it can be exported; the weights go when both do.
            weakref.finalize(self.result, shutil.rmtree, self.folder, ignore_errors=True)

    def search(self) -> Front:
        """Search within the budget, measure the front again, and write it down."""
        self.study.run(self.parts.search.budget)
        self.study.confirm(self._lost)
        return self.write()

    def write(self) -> Front:
        """Write the front as it stands, and drop weights that no member needs."""
        front = self.result.front()
        self._prune(front)
        data = {**front.to_json(), "ended": self.study.ended, "spent": asdict(self.study.spent)}
        write_text(self.folder / "front.json", json.dumps(data, indent=2) + "\n")
        return front

    def close(self) -> None:
        """Let another process work in the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _describe(self, config: Mapping[str, Any] | None) -> None:
        """Write what the run is; refuse a folder that holds another search."""
        path = self.folder / "run.json"
        description = {
            "identity": _identity(self.parts),
            "versions": versions(),
            "machine": {"host": platform.node(), "cpu": platform.machine(), "cores": os.cpu_count()},
            "threads": self.parts.target.threads,
            "repeatable": self.parts.task is None or self.parts.task.repeatable,
        }
        try:
            if path.is_file():
                self._check_same(description["identity"], json.loads(path.read_text(encoding="utf-8")))
            else:
                write_text(path, json.dumps(description, indent=2) + "\n")
            sources.keep(self.parts.search, self.folder)
            self._keep_warm_start()
            if config is not None:
                write_text(self.folder / "config.json", json.dumps(config, indent=2) + "\n")
        except BadInput:
            raise
        except (OSError, ValueError) as error:
            raise StorageError(f"the run's folder {self.folder} cannot be used: {error}") from error

    def _check_same(self, identity: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        for name, value in identity.items():
            before = known["identity"].get(name)
            if before != json.loads(json.dumps(value)):
                remedy = "start a new run with another --out"
                raise must(f"{name} of the run in {self.folder}", f"stay {before!r}", value, remedy)

    def _keep_warm_start(self) -> None:
        """Copy the journal that the strategy began with: the earlier run may go on, this one must repeat."""
        earlier, copy = self.parts.search.warm_start, self.folder / WARM_START
        if earlier is not None and not copy.is_file():
            shutil.copy2(earlier / "journal.log", copy)

    def _history(self) -> History:
        journal = self.folder / "journal.log"
        history = OptunaHistory(journal, self.parts.space, self.parts.objectives, folder=self.folder)
        if history.repaired:
            log.warning("cut %d bytes of a torn last line from %s", history.repaired, journal)
        return history

    def _observe(self, trial: Trial) -> None:
        # While the front is confirmed, whoever leaves it may come back.
        if trial.role != "confirm" and len(self.history.trials) % PRUNE_EVERY == 0:
            self._prune(self.result.front())
        if self._observer is not None:
            self._observer(trial)

    def _lost(self, member: Member) -> bool:
        """Whether weights were kept of this member and dropped later."""
        return member.weights is not None and not (self.folder / "weights" / member.weights.name).is_file()

    def _prune(self, front: Front) -> None:
        """Delete weights of trials on no front; lower fidelities keep theirs to continue from."""
        kept = [*front, front.baseline] if front.baseline else list(front)
        needed = {m.weights.name for m in kept if m.weights} | self._dropped
        for trial in self.history.trials:
            weights = getattr(trial.outcome, "weights", None)
            if weights is not None and trial.proposal.fidelity == 1.0 and weights.name not in needed:
                (self.folder / "weights" / weights.name).unlink(missing_ok=True)
                self._dropped.add(weights.name)


def search(
    *,
    space: Any,
    objectives: Any = "max accuracy",
    task: Any = None,
    evaluator: Any = (),
    strategy: Any = "evolution",
    target: Any = "host",
    trials: int | None = None,
    budget: Budget | Mapping[str, Any] | None = None,
    memo: Any = "functional",
    baseline: Any = None,
    executor: Any = "here",
    batch: int | None = None,
    seed: int = 0,
    warm_start: str | Path | None = None,
    out: str | Path | None = None,
) -> Front:
    """Search, and give the front.

    Args:
        space, objectives, task, strategy, target, memo, baseline, executor, batch, seed, warm_start: as in
            `Search`.
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
        evaluators=evaluators,
        strategy=strategy,
        memo=memo,
        baseline=baseline,
        executor=executor,
        batch=batch,
        seed=seed,
        warm_start=None if warm_start is None else Path(warm_start),
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


def _locked(folder: Path) -> int:
    """Make the run's folder and take its lock, which the process holds until it ends."""
    try:
        for name in ("logs", "weights"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            owner = (folder / "lock").read_text().strip() or "that has just started"
            raise StorageError(f"{folder} is in use by process {owner}; wait for it or stop it") from None
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()} on {platform.node()}\n".encode())
    except OSError as error:
        raise StorageError(f"the run's folder {folder} cannot be written: {error}") from error
    return lock


def owner_of(folder: Path) -> str | None:
    """The process that works in a run's folder, as "pid on host"; None when there is none."""
    try:
        with (folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip()
    except OSError:
        return None
    return None

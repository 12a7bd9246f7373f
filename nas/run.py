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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from nas import registry
from nas.errors import StorageError, must
from nas.history import History, MemoryHistory, OptunaHistory
from nas.parts import Parts, Search
from nas.proposal import Measurement, Trial
from nas.result import Result, versions
from nas.study import Budget

if TYPE_CHECKING:
    from nas.front import Front

log = logging.getLogger(__name__)


@final
class Run:
    """A search and its folder: config, versions, journal, logs, weights and front.

    Args:
        search: what to search.
        folder: where everything is kept; None keeps trials in memory, and weights until the run goes.
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
        self.folder = _temporary(self) if folder is None else folder
        self.parts = Parts(search, self.folder)
        self._lock: int | None = _locked(self.folder)
        self._observer = observer
        self._dropped: set[str] = set()
        self._describe(config)
        self.history = self._history() if folder is not None else MemoryHistory()
        self.study = self.parts.study(self.history, self._observe)
        self.result = Result(self.parts, self.history, self.folder)

    def search(self) -> Front:
        """Search within the budget, measure the front again, and write it down."""
        self.study.run(self.parts.search.budget)
        self.study.confirm()
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
        identity = self._identity(config)
        known = json.loads(path.read_text())["identity"] if path.is_file() else identity
        for name, value in identity.items():
            if known.get(name) != value:
                raise must(
                    f"the {name} of {self.folder}",
                    f"stay what it was, {known.get(name)!r}",
                    value,
                    "start a new run with another --out",
                )
        description = {
            "identity": identity,
            "versions": versions(),
            "machine": {"host": platform.node(), "cpu": platform.machine(), "cores": os.cpu_count()},
            "threads": self.parts.target.threads,
            "repeatable": self.parts.task is None or self.parts.task.repeatable,
        }
        try:
            if config is not None:
                write_text(self.folder / "config.json", json.dumps(config, indent=2) + "\n")
                copy_sources(_sources(config), self.folder)
            if not path.is_file():
                write_text(path, json.dumps(description, indent=2) + "\n")
        except OSError as error:
            raise StorageError(f"the run's folder {self.folder} cannot be written: {error}") from error

    def _identity(self, config: Mapping[str, Any] | None) -> dict[str, Any]:
        task = self.parts.task
        return {
            "seed": self.parts.search.seed,
            "space": self.parts.space.signature,
            "objectives": [str(o) for o in self.parts.objectives],
            "data": "" if task is None else task.fingerprint(),
            "batch": self.parts.search.batch,
            "sources": {path.name: file_digest(path) for path in _sources(config or {})},
        }

    def _history(self) -> History:
        journal = self.folder / "journal.log"
        history = OptunaHistory(journal, self.parts.space, self.parts.objectives, folder=self.folder)
        if history.repaired:
            log.warning("cut %d bytes of a torn last line from %s", history.repaired, journal)
        return history

    def _observe(self, trial: Trial) -> None:
        if isinstance(trial.outcome, Measurement) and trial.outcome.weights is not None:
            self._prune(self.result.front())
        if self._observer is not None:
            self._observer(trial)

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
    batch: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
) -> Front:
    """Search, and give the front.

    Args:
        space, objectives, task, strategy, target, memo, baseline, batch, seed: as in `Search`.
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
        batch=batch,
        seed=seed,
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


def copy_sources(files: Sequence[Path], folder: Path) -> None:
    """Copy a user's source files into the run."""
    for file in files:
        (folder / "sources").mkdir(exist_ok=True)
        shutil.copy2(file, folder / "sources" / file.name)


def file_digest(path: Path) -> str:
    """32 hexadecimal digits of a file's contents."""
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _sources(config: Mapping[str, Any]) -> list[Path]:
    """The files that ``./file.py:name`` references in a stored config point to."""
    found: dict[Path, None] = {}

    def visit(value: Any) -> None:
        if isinstance(value, str):
            path = registry.source_file(value, Path(config["folder"]))
            if path is not None and path.is_file():
                found[path] = None
        elif isinstance(value, Mapping | list):
            for inner in value.values() if isinstance(value, Mapping) else value:
                visit(inner)

    visit(config.get("config"))
    return list(found)


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
            owner = (folder / "lock").read_text().strip()
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


def _temporary(owner: object) -> Path:
    """A folder that is removed with its owner."""
    folder = Path(tempfile.mkdtemp(prefix="nas-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return folder

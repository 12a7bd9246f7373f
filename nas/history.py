"""Append-only trials, in memory or in an Optuna storage, and the strategy's snapshots beside them."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from nas.architecture import Architecture
from nas.database import Database
from nas.decision import Categorical, Integer, Real
from nas.errors import StorageError, must
from nas.journal import Journal
from nas.objective import goals
from nas.proposal import Failure, Trial
from nas.record import trial_from_json, trial_to_json
from nas.snapshot import save_snapshot, saved_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nas.decision import Decision
    from nas.files import Files
    from nas.objective import Objective
    from nas.space import Space

SCHEMA = 1
"""Version of the stored record; a store of another version is refused."""
STUDY = "nas"
"""Name of the Optuna study in a journal, which holds one."""


class History(ABC):
    """Trials in the order of appending; those of one batch are told together when all are there."""

    def __init__(self) -> None:
        self._trials: list[Trial] = []
        self._open: dict[int, list[Trial]] = {}
        self._batches: list[tuple[Trial, ...]] = []
        self._snapshot: tuple[Mapping[str, Any], int] | None = None

    @property
    def trials(self) -> Sequence[Trial]:
        """Every trial, in the order of appending."""
        return self._trials

    @property
    def forgotten(self) -> Mapping[str, float]:
        """What was used by told trials that are kept in no other way than by the strategy's snapshot."""
        return {}

    def append(self, trials: Sequence[Trial]) -> None:
        """Keep trials; durable on return.

        Raises:
            StorageError: the storage cannot be written; what was appended by earlier calls is safe.
        """
        if trials:
            self._store(trials)
        for trial in trials:
            self._index(trial)

    def batches(self) -> Iterator[tuple[Trial, ...]]:
        """Complete batches in the order of telling, each by position."""
        yield from self._batches

    def partial(self, batch: int) -> Mapping[int, Trial]:
        """The trials so far of a batch that is not complete, by position."""
        return {trial.position: trial for trial in self._open.get(batch, ())}

    def open_batch(self) -> tuple[int, int] | None:
        """First number and size of the newest batch that is not complete; None where there is none."""
        first = max(self._open, default=None)
        return None if first is None else (first, self._open[first][0].size)

    def save(self, state: Mapping[str, Any], told: int) -> None:
        """Keep a strategy's snapshot, taken after ``told`` trials were told, instead of the last one.

        Raises:
            StorageError: the storage cannot be written.
        """
        self._snapshot = (deepcopy(dict(state)), told)

    def saved(self) -> tuple[Mapping[str, Any], int] | None:
        """The last complete snapshot and the number of trials told before it.

        Raises:
            StorageError: it is damaged.
        """
        return self._snapshot

    @abstractmethod
    def _store(self, trials: Sequence[Trial]) -> None:
        """Make trials durable, all or none."""

    def _index(self, trial: Trial) -> None:
        self._trials.append(trial)
        if trial.size == 1:
            self._batches.append((trial,))
            return
        gathered = self._open.setdefault(trial.batch, [])
        gathered.append(trial)
        if len(gathered) == trial.size:
            del self._open[trial.batch]
            self._batches.append(tuple(sorted(gathered, key=lambda t: t.position)))


@final
class MemoryHistory(History):
    """Trials that end with the process."""

    def _store(self, trials: Sequence[Trial]) -> None:
        """Nothing to do."""


@final
class OptunaHistory(History):
    """Trials in an Optuna storage, readable by Optuna's own plots, importances and dashboard.

    Scalars of the architecture are Optuna parameters, objectives its values; a partial or low-fidelity trial
    is PRUNED, a failure FAIL; the full record is the user attribute ``record``.

    Args:
        storage: path of a journal file, a database, or its URL.
        space, objectives: of the run.
        name: of the Optuna study.
        files: where snapshots are kept; in memory when None.
        writer: "owner" repairs a torn last line and may append; "reader" leaves the file alone.

    Raises:
        StorageError: it cannot be opened, or was written for another space, objectives or version.
    """

    def __init__(
        self,
        storage: str | Path | Database,
        space: Space,
        objectives: Sequence[Objective],
        *,
        name: str = STUDY,
        files: Files | None = None,
        writer: str = "owner",
    ) -> None:
        super().__init__()
        if writer not in ("owner", "reader"):
            raise must("writer", "be owner or reader", writer)
        self._name, self._writer = name, writer
        if isinstance(storage, str) and "://" in storage:
            storage = Database(storage, writer)
        self._storage = storage
        self._database = storage if isinstance(storage, Database) else None
        self._journal = None if isinstance(storage, Database) else Journal(Path(storage))
        self._space = space
        self._objectives = goals(objectives)
        self._distributions = {leaf.name: _distribution(leaf) for leaf in space.leaves}
        self._files = files
        self._appending: int | None = None
        if self._database is not None:
            self._database.guards.append(self._numbered)
        self.repaired = self._repair()
        self._study: Any = self._opened()
        for trial in self._load():
            self._index(trial)

    def _repair(self) -> int:
        """Make a journal whole that a killed owner left; gives the bytes cut."""
        if self._journal is None or self._writer == "reader":
            return 0
        try:
            return self._journal.repair()
        except OSError as error:
            raise StorageError(f"the storage {self._storage} cannot be opened: {error}") from error

    def _opened(self) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if self._writer == "reader" and self._database is None and not Path(str(self._storage)).is_file():
            raise StorageError(f"the storage {self._storage} cannot be opened: there is no such file")
        try:
            backend = self._backend()
            try:
                study = optuna.load_study(study_name=self._name, storage=backend)
            except KeyError:
                if self._writer == "reader":
                    raise
                directions = ["minimize" if o.goal == "min" else "maximize" for o in self._objectives]
                study = optuna.create_study(study_name=self._name, storage=backend, directions=directions)
            self._identify(study)
        except StorageError:
            raise
        except Exception as error:  # whatever a database driver raises
            if isinstance(error, KeyError) and self._database is not None:
                raise StorageError(f"there is no run {self._name} in {self._storage}") from None
            what = error if self._database is None else self._database.address.masked(error)
            raise StorageError(f"the storage {self._storage} cannot be opened: {what}") from None
        return study

    def _backend(self) -> Any:
        place = self._journal or self._database
        assert place is not None
        return place.storage

    def _identify(self, study: Any) -> None:
        """Check what the storage was written for, or write it into a new one."""
        known = study.user_attrs
        identity = {
            "schema": SCHEMA,
            "space": self._space.signature,
            "objectives": [f"{o.goal} {o.metric}" for o in self._objectives],
        }
        for name, value in identity.items():
            if known.get(name, value) != value:
                raise StorageError(
                    f"the storage {self._storage} holds a run of another {name} "
                    f"({known[name]!r} instead of {value!r}); start a new run with --out"
                )
        if self._writer == "owner" and not identity.keys() <= known.keys():
            _name_metrics(study, [o.metric for o in self._objectives])
            for name, value in identity.items():
                study.set_user_attr(name, value)

    def _load(self) -> Iterator[Trial]:
        for frozen in self._study.get_trials(deepcopy=False):
            record = frozen.user_attrs.get("record")
            if record is not None:
                yield trial_from_json(record, self._space)

    def append(self, trials: Sequence[Trial]) -> None:
        """Keep trials; a journal confirms them together, a database one by one."""
        for some in [trials] if self._database is None else [[trial] for trial in trials]:
            super().append(some)

    def _store(self, trials: Sequence[Trial]) -> None:
        """Append Optuna trials."""
        if self._writer == "reader":
            raise StorageError(f"the storage {self._storage} was opened to be read only")
        if self._study is None:
            self._study = self._opened()
        if self._journal is not None:
            self._add_to_journal(self._journal, trials)
        elif self._database is not None:
            for trial in trials:
                self._add_to_database(self._database, trial.number, self._frozen(trial))

    def _add_to_journal(self, journal: Journal, trials: Sequence[Trial]) -> None:
        """Append to the journal; if that is cut short, it ends where it began."""
        from optuna.exceptions import StorageInternalError

        end = journal.size
        try:
            for trial in trials:
                self._study.add_trial(self._frozen(trial))
            journal.confirm()
        except BaseException as error:
            self._study = None
            journal.cut(end)
            if not isinstance(error, OSError | StorageInternalError):
                raise
            raise StorageError(
                f"a trial cannot be appended: {error}; all {len(self._trials)} trials before it are safe, "
                "make room and resume"
            ) from error

    def _add_to_database(self, database: Database, number: int, frozen: Any) -> None:
        """Add a row, again while the database is away; one that was there before is not added twice.

        Its number is a row of its own in the same transaction: where a commit went through and only the word
        of it was lost, the second one is refused.
        """
        from sqlalchemy.exc import IntegrityError

        def add() -> None:
            try:
                self._study.add_trial(frozen)
            except IntegrityError:
                if not self._is_there(database, number):
                    raise

        self._appending = number
        try:
            database.patiently(add)
        except Exception as error:
            what = str(error) if isinstance(error, StorageError) else database.address.masked(error)
            raise StorageError(
                f"a trial cannot be appended: {what}; all {len(self._trials)} trials before it are safe"
            ) from None
        finally:
            self._appending = None

    def _numbered(self, session: Any) -> None:
        """Put the number of the trial that is being added beside it."""
        if self._appending is not None and self._database is not None:
            row = {"run": self._name, "number": self._appending}
            session.execute(self._database.trials.insert(), row)

    def _is_there(self, database: Database, number: int) -> bool:
        from sqlalchemy import select

        rows = database.trials
        asked = select(rows.c.number).where(rows.c.run == self._name, rows.c.number == number)
        with database.engine.connect() as connection:
            return connection.execute(asked).first() is not None

    def _frozen(self, trial: Trial) -> Any:
        from optuna.trial import FrozenTrial, TrialState

        candidate = trial.proposal.candidate
        values = [float(trial.values.get(o.metric, math.nan)) for o in self._objectives]
        if trial.failed:
            state = TrialState.FAIL
        elif trial.proposal.fidelity < 1.0 or not all(map(math.isfinite, values)):
            state = TrialState.PRUNED
        else:
            state = TrialState.COMPLETE
        params = candidate.to_json() if isinstance(candidate, Architecture) else {}
        attributes: dict[str, Any] = {"key": candidate.key, "record": trial_to_json(trial)}
        attributes |= {
            m: float(v) for m, v in trial.values.items() if m not in attributes and math.isfinite(v)
        }
        if isinstance(trial.outcome, Failure):
            attributes["failure"] = f"{trial.outcome.kind}: {trial.outcome.reason}"
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values if state == TrialState.COMPLETE else None,
            datetime_start=datetime.fromtimestamp(trial.started),
            datetime_complete=datetime.fromtimestamp(trial.ended),
            params=params,
            distributions={name: self._distributions[name] for name in params},
            user_attrs=attributes,
            system_attrs={},
            intermediate_values={},
        )

    def save(self, state: Mapping[str, Any], told: int) -> None:
        """Keep a snapshot, and the one before it until that is done; in memory where there are no files."""
        if self._files is None:
            super().save(state, told)
            return
        try:
            save_snapshot(self._files, state, told)
        except StorageError as error:
            raise StorageError(
                f"the strategy's snapshot cannot be written: {error}; "
                f"all {len(self._trials)} trials are safe, make room and resume"
            ) from error

    def saved(self) -> tuple[Mapping[str, Any], int] | None:
        """The last whole snapshot; a damaged one is logged and passed over."""
        return super().saved() if self._files is None else saved_snapshot(self._files)

    def close(self) -> None:
        """Let go of a database."""
        if self._database is not None:
            self._database.close()


def _distribution(leaf: Decision) -> Any:
    from optuna import distributions

    if isinstance(leaf, Categorical):
        return distributions.CategoricalDistribution(leaf.options)
    assert isinstance(leaf, Integer | Real)
    kind = distributions.IntDistribution if isinstance(leaf, Integer) else distributions.FloatDistribution
    return kind(leaf.low, leaf.high, log=leaf.log)


def _name_metrics(study: Any, names: list[str]) -> None:
    """Label the values for Optuna's plots and dashboard."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(names)

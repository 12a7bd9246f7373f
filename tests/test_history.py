"""What is kept of a run: whole, in order, in Optuna's words, and through kills and full disks."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import ToySpace, conditional_space, failed, mixed_space, plain_space, trial

from nas import Categorical, Fixed, Mixture, parse_objectives
from nas.errors import BadInput, StorageError
from nas.files import FolderFiles
from nas.history import MemoryHistory, OptunaHistory
from nas.journal import Journal, truncate_torn_tail
from nas.proposal import Failure, Measurement, Proposal, Trial
from nas.record import trial_from_json, trial_to_json
from nas.rng import stream
from nas.snapshot import PREVIOUS, SNAPSHOT, packed, unpacked

GOLDEN = Path(__file__).parent / "golden" / "journal_v1.log"
SPACE = conditional_space()
GOALS = parse_objectives("max accuracy, min params, limit ms <= 5")
NOW = 1_700_000_000.0


def sampled(i, space=SPACE):
    return space.sample(stream(i, "sampled"))


def measured(number, **changes):
    values = {"accuracy": number / 100, "params": 1000.0 - number, "ms": 1.5}
    one = trial(number, sampled(number), **values)
    return replace(
        one, started=NOW + number, ended=NOW + number + 0.5, queued=NOW, host="h", device="cpu", **changes
    )


def stored(path, n=5):
    history = OptunaHistory(path, SPACE, GOALS)
    for i in range(n):
        history.append([measured(i)])
    return history


# --- order and batches --------------------------------------------------------------------------


def test_batches_come_in_the_order_in_which_they_became_complete():
    history = MemoryHistory()
    parts = {(b, p): measured(b + p, batch=b, position=p, size=2) for b in (0, 2, 4) for p in (0, 1)}
    parts = {at: replace(one, batch=at[0], position=at[1], size=2) for at, one in parts.items()}
    for at in [(0, 1), (2, 0), (2, 1), (4, 1), (0, 0)]:
        history.append([parts[at]])
    assert [[t.position for t in batch] for batch in history.batches()] == [[0, 1], [0, 1]]
    assert [batch[0].batch for batch in history.batches()] == [2, 0]
    assert history.open_batch() == (4, 2)
    assert history.partial(4) == {1: parts[4, 1]}
    assert history.partial(0) == {}
    assert [t.number for t in history.trials] == [1, 2, 3, 5, 0]
    history.append(measured_batch(6, 3)[:1])
    assert history.open_batch() == (6, 3)  # the newest
    history.append(measured_batch(6, 3)[1:])
    history.append([parts[4, 0]])
    assert history.open_batch() is None


def measured_batch(first, size):
    return [replace(measured(first + i), batch=first, position=i, size=size) for i in range(size)]


def test_a_stored_history_comes_back_as_it_was(tmp_path):
    history = OptunaHistory(tmp_path / "j.log", SPACE, GOALS)
    trials = [
        measured(0, role="baseline"),
        *measured_batch(1, 3),
        replace(failed(4, sampled(4)), started=NOW, ended=NOW),
        trial(5, Mixture({"block.0.op": [0.1, 0.2, 0.7]}), loss=1.0),
        trial(6, Fixed("package:name"), role="baseline", accuracy=0.5, params=3.0),
        trial(7, sampled(7), accuracy=math.nan, params=-math.inf),
        *measured_batch(8, 4)[:2],
    ]
    for one in trials:
        history.append([one])
    again = OptunaHistory(tmp_path / "j.log", SPACE, GOALS)
    assert list(map(trial_to_json, again.trials)) == list(map(trial_to_json, trials))
    assert [len(b) for b in again.batches()] == [1, 3, 1, 1, 1, 1]
    assert again.open_batch() == (8, 4)
    assert set(again.partial(8)) == {0, 1}


# --- records --------------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False) | st.just(math.inf)
texts = st.text(max_size=8)
outcomes = st.one_of(
    st.builds(
        Measurement,
        st.dictionaries(st.sampled_from(["accuracy", "params", "ms"]), st.floats(), max_size=3),
        st.floats(0, 1e9),
        weights=st.none() | st.just(Path("weights/a.pt")),
        reused=st.none() | texts,
        borrowed=st.frozensets(st.sampled_from(["accuracy", "params"])),
        notes=st.dictionaries(texts, st.none() | st.integers() | texts | st.booleans(), max_size=2),
    ),
    st.builds(
        Failure,
        st.sampled_from(["error", "timeout", "memory", "killed", "diverged"]),
        texts,
        st.floats(0, 1e9),
    ),
)


@st.composite
def trials(draw):
    space = draw(st.sampled_from([plain_space(), SPACE, mixed_space()]))
    candidate = draw(
        st.integers(0, 50).map(lambda i: sampled(i, space))
        | st.just(Fixed("a.b:c"))
        | st.lists(st.floats(0, 9), min_size=1).map(lambda w: Mixture({"d": w}))
    )
    proposal = Proposal(
        candidate,
        draw(st.sampled_from([("accuracy",), ("params", "accuracy")])),
        fidelity=draw(st.floats(1e-6, 1)),
        replicate=draw(st.integers(0, 9)),
        gradient=draw(st.sampled_from(["none", "first", "unrolled"])),
        samples=draw(st.none() | st.lists(st.integers(0, 99)).map(tuple)),
        continues=draw(st.none() | st.integers(0, 99)),
    )
    times = draw(st.tuples(*[st.floats(0, 2e9)] * 3))
    return space, Trial(
        draw(st.integers(0, 10**6)),
        proposal,
        draw(outcomes),
        draw(st.sampled_from(["search", "baseline", "confirm"])),
        draw(st.integers(0, 9)),
        draw(st.integers(0, 9)),
        draw(st.integers(1, 9)),
        draw(texts),
        draw(texts),
        *times,
        draw(st.integers(1, 9)),
        draw(st.floats(0, 1e9)),
    )


@given(trials())
def test_a_trial_survives_json(given_trial):
    space, one = given_trial
    text = json.dumps(trial_to_json(one), allow_nan=False)
    again = trial_from_json(json.loads(text), space)
    assert repr(again) == repr(one)  # by repr, since NaN is not equal to itself
    assert again.proposal == one.proposal


def test_values_of_numpy_are_stored_as_numbers(tmp_path):
    history = OptunaHistory(tmp_path / "j.log", SPACE, GOALS)
    history.append([trial(0, sampled(0), accuracy=np.float32(0.5), params=np.int64(7))])
    assert OptunaHistory(tmp_path / "j.log", SPACE, GOALS).trials[0].values == {
        "accuracy": 0.5,
        "params": 7.0,
    }


def test_gradients_and_vectors_are_told_and_not_stored():
    one = trial(0, sampled(0), accuracy=0.5)
    one = replace(one, outcome=replace(one.outcome, gradient={"a": np.ones(2)}, vectors={"b": np.ones(3)}))
    again = trial_from_json(trial_to_json(one), SPACE).outcome
    assert (again.gradient, dict(again.vectors)) == (None, {})


# --- kills ----------------------------------------------------------------------------------------


def test_a_line_torn_at_any_byte_costs_only_its_own_trial(tmp_path):
    stored(tmp_path / "whole.log", 3)
    whole = (tmp_path / "whole.log").read_bytes()
    before = whole[:-1].rfind(b"\n") + 1
    path = tmp_path / "torn.log"
    cuts = range(before, len(whole), 29) if len(whole) - before > 600 else range(before, len(whole))
    for cut in [*cuts, len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:cut])
        history = OptunaHistory(path, SPACE, GOALS)
        assert (len(history.trials), history.repaired) == (2, cut - before)
        history.append([measured(2)])
        assert len(OptunaHistory(path, SPACE, GOALS, writer="reader").trials) == 3
    path.write_bytes(whole)
    history = OptunaHistory(path, SPACE, GOALS)
    assert (len(history.trials), history.repaired) == (3, 0)


def test_a_journal_cut_anywhere_can_be_continued(tmp_path):
    stored(tmp_path / "whole.log", 2)
    whole, path = (tmp_path / "whole.log").read_bytes(), tmp_path / "cut.log"
    for cut in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:cut])
        history = OptunaHistory(path, SPACE, GOALS)
        n = len(history.trials)
        history.append([measured(n)])
        assert len(OptunaHistory(path, SPACE, GOALS).trials) == n + 1
        with pytest.raises(StorageError, match="another space"):  # the identity was completed, too
            OptunaHistory(path, plain_space(), GOALS)


@given(
    st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"")), max_size=4), st.binary(max_size=9)
)
def test_truncating_cuts_after_the_last_whole_line(tmp_path_factory, lines, tail):
    path = tmp_path_factory.getbasetemp() / "tail.log"
    tail = tail.replace(b"\n", b"")
    whole = b"".join(line + b"\n" for line in lines)
    path.write_bytes(whole + tail)
    assert truncate_torn_tail(path) == len(tail)
    assert path.read_bytes() == whole


def test_truncating_looks_further_back_than_one_block(tmp_path):
    path = tmp_path / "long.log"
    path.write_bytes(b"first\n" + b"x" * 200_000)
    assert truncate_torn_tail(path) == 200_000
    assert path.read_bytes() == b"first\n"
    assert truncate_torn_tail(tmp_path / "none.log") == 0


def test_the_lock_of_a_killed_owner_is_not_waited_for(tmp_path):
    stored(tmp_path / "j.log", 1)
    (tmp_path / "j.log.lock").symlink_to(tmp_path / "j.log")
    history = OptunaHistory(tmp_path / "j.log", SPACE, GOALS)
    assert not (tmp_path / "j.log.lock").is_symlink()  # else: half a minute
    history.append([measured(1)])


# --- full disks ------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch):
    """A switch: while it is on, half of what is written to a journal reaches the disk."""
    on, append = [False], Journal.append_logs

    def half(self, logs):
        if not on[0]:
            return append(self, logs)
        with self._path.open("ab") as file:
            file.write(json.dumps(logs[0])[:100].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "append_logs", half)
    return on


def test_a_full_disk_says_what_is_safe_and_can_be_left_behind(tmp_path, full_disk):
    history = stored(tmp_path / "j.log", 3)
    size = (tmp_path / "j.log").stat().st_size
    full_disk[0] = True
    for _ in range(2):
        with pytest.raises(StorageError, match=r"No space left on device; all 3 trials before it are safe"):
            history.append([measured(3)])
        assert (tmp_path / "j.log").stat().st_size == size
        assert len(history.trials) == 3
    full_disk[0] = False
    history.append([measured(3)])
    assert [t.number for t in OptunaHistory(tmp_path / "j.log", SPACE, GOALS).trials] == [0, 1, 2, 3]


def test_trials_that_ended_together_are_confirmed_together_or_not_at_all(tmp_path, monkeypatch):
    history, synced, sync = stored(tmp_path / "j.log", 1), [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), sync(file)))
    history.append([measured(1), measured(2), measured(3)])
    assert len(synced) == 1
    append, calls = Journal.append_logs, []

    def second(self, logs):
        calls.append(logs)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append_logs", second)
        with pytest.raises(StorageError, match="all 4 trials before"):
            history.append([measured(4), measured(5), measured(6)])
    history.append([measured(4)])
    assert [t.number for t in OptunaHistory(tmp_path / "j.log", SPACE, GOALS).trials] == [0, 1, 2, 3, 4]


def test_an_interrupted_append_leaves_no_trace(tmp_path, monkeypatch):
    history = stored(tmp_path / "j.log", 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            history.append([measured(2)])
    history.append([measured(2)])
    assert [t.number for t in OptunaHistory(tmp_path / "j.log", SPACE, GOALS).trials] == [0, 1, 2]


def test_the_journal_grows_linearly(tmp_path):
    history, sizes = OptunaHistory(tmp_path / "j.log", plain_space(), GOALS), []
    for i in range(200):
        history.append(
            [replace(trial(i, sampled(i, plain_space()), accuracy=0.5, params=1.0), started=NOW, ended=NOW)]
        )
        sizes.append((tmp_path / "j.log").stat().st_size)
    first, second = sizes[99] - sizes[0], sizes[199] - sizes[100]
    assert second < 1.05 * first


# --- strangers -------------------------------------------------------------------------------------


def test_another_run_is_refused(tmp_path):
    stored(tmp_path / "j.log", 1)
    with pytest.raises(StorageError, match=r"another space .*start a new run with --out"):
        OptunaHistory(tmp_path / "j.log", plain_space(), GOALS)
    with pytest.raises(StorageError, match="another objectives"):
        OptunaHistory(tmp_path / "j.log", SPACE, parse_objectives("min accuracy, min params"))
    OptunaHistory(
        tmp_path / "j.log", SPACE, parse_objectives("max accuracy >= 0.5, min params")
    )  # another bound


def test_another_version_is_refused(tmp_path, monkeypatch):
    stored(tmp_path / "j.log", 1)
    monkeypatch.setattr("nas.history.SCHEMA", 2)
    with pytest.raises(StorageError, match=r"another schema \(1 instead of 2\)"):
        OptunaHistory(tmp_path / "j.log", SPACE, GOALS, writer="reader")


def test_a_reader_changes_nothing(tmp_path):
    path = tmp_path / "j.log"
    with pytest.raises(StorageError, match="there is no such file"):
        OptunaHistory(path, SPACE, GOALS, writer="reader")
    stored(path, 2)
    with path.open("ab") as file:
        file.write(b'{"half')
    before = path.read_bytes(), path.stat().st_mtime_ns, sorted(tmp_path.iterdir())
    reader = OptunaHistory(path, SPACE, GOALS, writer="reader")
    assert (len(reader.trials), reader.repaired) == (2, 0)
    with pytest.raises(StorageError, match="read only"):
        reader.append([measured(2)])
    assert (path.read_bytes(), path.stat().st_mtime_ns, sorted(tmp_path.iterdir())) == before


def test_what_is_no_journal_is_named(tmp_path):
    (tmp_path / "j.log").write_text("not a journal\nat all\n")
    with pytest.raises(StorageError, match=r"j\.log cannot be opened"):
        OptunaHistory(tmp_path / "j.log", SPACE, GOALS)
    with pytest.raises(StorageError, match="cannot be opened"):
        OptunaHistory(tmp_path / "no folder" / "j.log", SPACE, GOALS)
    with pytest.raises(BadInput, match="writer must be owner or reader"):
        OptunaHistory(tmp_path / "j.log", SPACE, GOALS, writer="both")


def test_a_database_keeps_the_same(tmp_path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    stored(url, 3)
    again = OptunaHistory(url, SPACE, GOALS)
    assert [t.number for t in again.trials] == [0, 1, 2]
    assert again.trials[1].proposal == measured(1).proposal
    with pytest.raises(StorageError, match="another space"):
        OptunaHistory(url, plain_space(), GOALS)


# --- Optuna's own eyes ------------------------------------------------------------------------------


def test_optuna_reads_the_study_as_its_own(tmp_path):
    history = OptunaHistory(tmp_path / "j.log", SPACE, GOALS)
    for i in range(30):
        history.append([measured(i)])
    low = measured(30)
    history.append([replace(low, proposal=replace(low.proposal, fidelity=0.5))])
    history.append([failed(31, sampled(31))])
    history.append([trial(32, sampled(32), accuracy=math.nan, params=1.0)])
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "j.log"))
    study = optuna.load_study(study_name="nas", storage=optuna.storages.JournalStorage(backend))
    states = [t.state.name for t in study.trials]
    assert states == ["COMPLETE"] * 30 + ["PRUNED", "FAIL", "PRUNED"]
    assert study.metric_names == ["accuracy", "params"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [t.number for t in study.best_trials] == [29]
    assert study.trials[3].params == sampled(3).to_json()
    assert study.trials[3].user_attrs["ms"] == 1.5
    assert study.trials[31].user_attrs["failure"] == "error: as planned"
    with pytest.warns(UserWarning, match="to achieve low"):  # it says which end is the good one
        ranks = optuna.importance.get_param_importances(
            study, target=lambda t: t.values[0], evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
    assert set(ranks) <= set(SPACE.by_name)
    assert sum(ranks.values()) > 0


def test_a_stored_journal_of_this_version_is_always_readable(tmp_path):
    """The file is of the first release; if this fails, SCHEMA must be raised and old files converted."""
    path = tmp_path / "j.log"
    shutil.copy(GOLDEN, path)
    for writer in ("reader", "owner"):
        history = OptunaHistory(path, SPACE, GOALS, writer=writer)
        assert list(map(trial_to_json, history.trials)) == list(map(trial_to_json, golden_trials()))
    history.append([measured(9)])


def golden_trials():
    """What is in the file: every kind of trial, each of another architecture."""
    low = golden(2)
    return [
        golden(0, role="baseline"),
        replace(
            golden(1),
            outcome=replace(
                golden(1).outcome,
                reused="ab12",
                borrowed=frozenset({"accuracy"}),
                weights=Path("weights/a.pt"),
            ),
        ),
        replace(low, proposal=replace(low.proposal, fidelity=0.25, replicate=2, continues=1)),
        replace(golden(3), outcome=Failure("diverged", "loss became nan", 0.5)),
        replace(golden(4), outcome=Measurement({"accuracy": math.nan, "params": 3.0})),
        *(golden(n, batch=5, position=n - 5, size=3) for n in (5, 7)),
        golden(8, role="confirm"),
    ]


def golden(n, **changes):
    choices = {leaf.name: leaf.values[(n + i) % len(leaf.values)] for i, leaf in enumerate(SPACE.leaves)}
    return replace(
        measured(n, **changes), proposal=Proposal(SPACE.architecture(choices), ("accuracy", "params", "ms"))
    )


def test_options_of_every_type_are_stored(tmp_path):
    space = ToySpace([Categorical("a", (None, True, 2, 2.5, "x"))])
    history = OptunaHistory(tmp_path / "j.log", space, parse_objectives("min loss"))
    for i, value in enumerate(space.leaves[0].values):
        history.append([trial(i, space.architecture({"a": value}), loss=1.0)])
    again = OptunaHistory(tmp_path / "j.log", space, parse_objectives("min loss"))
    assert [t.proposal.candidate["a"] for t in again.trials] == [None, True, 2, 2.5, "x"]


# --- snapshots --------------------------------------------------------------------------------------

STATE = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "nested": {"list": [1, 2.5, None, True, "x", {"deep": np.zeros(0)}]},
    "infinite": math.inf,
}


def test_snapshots_come_back_with_their_types():
    state, told = unpacked(packed(STATE, 17))
    assert told == 17
    np.testing.assert_array_equal(state["weights"], STATE["weights"])
    assert state["weights"].dtype == np.float32
    assert state["nested"]["list"][:5] == [1, 2.5, None, True, "x"]
    assert state["nested"]["list"][5]["deep"].shape == (0,)
    assert state["infinite"] == math.inf


@pytest.mark.parametrize("value", [object(), np.array([object()]), {1: "a"}, {"a": {2}}])
def test_snapshots_hold_no_objects(tmp_path, value):
    history = kept(tmp_path)
    history.save(STATE, 1)
    with pytest.raises(BadInput, match="a snapshot must hold arrays, and JSON values"):
        history.save({"a": value}, 2)
    assert history.saved()[1] == 1


def kept(folder):
    """A history that keeps its snapshots in a folder."""
    return OptunaHistory(folder / "j.log", SPACE, GOALS, files=FolderFiles(folder))


def test_a_snapshot_is_replaced_at_once(tmp_path, monkeypatch):
    history = kept(tmp_path)
    history.save({"a": 1}, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(StorageError, match=r"snapshot cannot be written: .*No space left"):
            history.save({"a": 2}, 2)
    assert kept(tmp_path).saved() == ({"a": 1}, 1)


def damaged(whole):
    middle = len(whole) // 2
    changed = bytearray(whole)
    changed[middle] ^= 1
    return [b"", b"text", whole[:middle], whole[:-5], bytes(changed), whole[:60] + b"\0" * 300 + whole[360:]]


def test_a_damaged_snapshot_is_named_and_the_one_before_is_taken(tmp_path, caplog):
    history = kept(tmp_path)
    history.save({**STATE, "n": 1}, 1)
    history.save({**STATE, "n": 2}, 2)
    path = tmp_path / SNAPSHOT
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        caplog.clear()
        state, told = history.saved()
        assert (state["n"], told) == (1, 1)
        assert f"{SNAPSHOT} in {tmp_path} is passed over" in caplog.text
    history.save({**STATE, "n": 3}, 3)  # the damaged one never takes the place of the good one
    path.write_bytes(b"")
    assert history.saved()[1] == 1
    (tmp_path / PREVIOUS).write_bytes(b"")
    assert history.saved() is None


def test_a_snapshot_without_a_checksum_is_still_read(tmp_path):
    head, _, npz = packed(STATE, 5).partition(b"\n")
    assert head.startswith(b"nas snapshot ")
    (tmp_path / SNAPSHOT).write_bytes(npz)  # as versions before wrote it
    assert kept(tmp_path).saved()[1] == 5


def test_a_snapshot_in_memory_is_a_copy():
    history, state = MemoryHistory(), {"weights": np.zeros(2)}
    assert history.saved() is None
    history.save(state, 3)
    state["weights"] += 1
    assert history.saved()[0]["weights"].tolist() == [0, 0]
    assert history.saved()[1] == 3

"""Runs in folders and databases: one owner at a time, what others ask, and storages that go away."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import exc, text
from test_history import GOALS, SPACE, measured

import nas
from nas.database import Address, Database, hidden
from nas.database_store import DatabaseStore
from nas.errors import BadInput, StorageError
from nas.parts import Search
from nas.run import Run
from nas.store import FolderStore
from nas.watch import Watch


@pytest.fixture(scope="module")
def server(survival):
    """A PostgreSQL server."""
    if reason := survival.postgres.missing():
        pytest.skip(reason)
    started = survival.postgres.Server()
    yield started
    started.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The address of a database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.db'}"
    return request.getfixturevalue("server").url


@pytest.fixture
def store(url, request):
    """Opens the run of this test; what is opened is closed."""
    opened = []
    name = f"{request.node.name} {time.time_ns()}"

    def make(writer="owner"):
        opened.append(DatabaseStore(url, name, writer))
        return opened[-1]

    yield make
    for one in opened:
        one.release()


def history(one):
    return one.history(SPACE, GOALS, "owner")


# --- contents -------------------------------------------------------------------------------------------


def kept_in(one):
    one.own()
    assert one.read("a") is None
    one.keep("a", b"first")
    one.keep("a", bytes(range(256)))
    one.note("b", b"")
    assert (one.read("a"), one.read("b")) == (bytes(range(256)), b"")
    one.move("a", "b")
    one.move("nothing", "b")
    assert (one.read("a"), one.read("b")) == (None, bytes(range(256)))
    one.drop("b")
    one.drop("b")
    assert one.read("b") is None


def test_contents_of_a_folder_are_replaced_moved_and_dropped(tmp_path):
    kept_in(FolderStore(tmp_path / "run"))


def test_contents_of_a_database_are_replaced_moved_and_dropped(store, monkeypatch):
    monkeypatch.setattr("nas.database_store.PART", 100)
    kept_in(store())


def test_runs_of_one_database_are_apart(url):
    one, two = (DatabaseStore(url, f"{name}{time.time_ns()}") for name in "ab")
    one.own()
    two.own()
    one.keep("x", b"1")
    assert two.read("x") is None
    for number in (0, 1):
        history(one).append([measured(number)])
    assert len(history(two).trials) == 0
    one.release()
    two.release()


# --- one owner at a time ----------------------------------------------------------------------------------


def test_a_second_owner_is_refused_with_the_first_ones_process_and_host(store):
    first, second = store(), store()
    first.own()
    assert second.owner() == f"{os.getpid()} on {os.uname().nodename}"
    with pytest.raises(StorageError, match=rf"is in use by process {os.getpid()} on .*wait 30 s"):
        second.own()
    first.release()
    assert second.owner() is None
    second.own()


def test_of_several_that_start_at_once_one_owns_the_run(store):
    ones = [store() for _ in range(4)]
    for _ in range(3):
        gate, owners, refused = threading.Barrier(len(ones)), [], []

        def start(one, gate=gate, owners=owners, refused=refused):
            gate.wait()
            try:
                one.own()
                owners.append(one)
            except StorageError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=start, args=(one,)) for one in ones]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(owners) == 1
        assert all("is in use by process" in why or "locked" in why for why in refused)
        owners[0].release()


def test_an_owner_that_was_taken_for_dead_changes_nothing_any_more(store, monkeypatch):
    stale, fresh = store(), store()
    stale.own()
    old = history(stale)
    old.append([measured(0)])
    monkeypatch.setattr("nas.database_store.LEASE", -1.0)  # as if it had been silent for long
    fresh.own()
    monkeypatch.undo()
    new = history(fresh)
    new.append([measured(1)])
    taken = rf"was taken over by process {os.getpid()} on "
    for change in (
        lambda: stale.keep("config.json", b"stale"),
        lambda: stale.drop("config.json"),
        stale.check,
        stale.beat,
        lambda: old.append([measured(2)]),
        lambda: old.save({"a": 1}, 1),
    ):
        with pytest.raises(StorageError, match=taken):
            change()
    stale.release()  # which is not the fresh one's lease
    assert fresh.owner() is not None
    new.append([measured(2)])
    assert [t.number for t in history(fresh).trials] == [0, 1, 2]
    assert fresh.read("config.json") is None


def test_a_lease_that_cannot_be_given_back_is_said_and_runs_out(store, monkeypatch, caplog):
    one = store()
    one.own()

    def gone(_):
        raise exc.OperationalError("UPDATE", {}, Exception("it is gone"))

    with monkeypatch.context() as away:
        away.setattr(type(one.database.engine), "begin", gone)
        one.release()
    (said,) = [record.getMessage() for record in caplog.records if record.name == "nas.database_store"]
    assert "could not be given back" in said
    assert "it is gone" in said
    assert "take it over 30 s after its last sign of life" in said
    assert one.owner() is not None  # until then
    one.release()  # which is no owner any more
    assert len([r for r in caplog.records if r.name == "nas.database_store"]) == 1


DYING = """
import os, signal, sys
sys.path[:0] = {path!r}
from nas.database_store import DatabaseStore
DatabaseStore({url!r}, {name!r}).own()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_who_only_looks_for_an_owner_does_not_keep_one_from_starting(tmp_path):
    first = FolderStore(tmp_path)
    first.own()
    first.release()
    with (tmp_path / "lock").open() as glance:
        fcntl.flock(glance, fcntl.LOCK_SH)
        threading.Timer(0.03, lambda: fcntl.flock(glance, fcntl.LOCK_UN)).start()
        later = FolderStore(tmp_path)
        later.own()
    later.release()


def test_nobody_waits_for_a_killed_owner_of_this_machine(store):
    one = store()
    code = DYING.format(path=sys.path, url=one.database.address._url, name=one.run)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert one.owner() is None
    one.own()


def test_an_owner_of_another_machine_is_waited_for(store, monkeypatch):
    one = store()
    one.own()
    monkeypatch.setattr("nas.database_store._here", lambda pid: f"another-boot pid:[1] {pid} 1")
    with pytest.raises(StorageError, match="is in use"):
        store().own()


# --- storages that go away ---------------------------------------------------------------------------------


def test_a_trial_whose_commit_was_not_heard_of_is_not_appended_twice(store, monkeypatch):
    one = store()
    one.own()
    kept = history(one)
    add, calls = kept._study.add_trial, []

    def unheard(frozen):
        calls.append(1)
        add(frozen)
        if len(calls) == 1:
            raise exc.OperationalError("COMMIT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(kept._study, "add_trial", unheard)
    kept.append([measured(0)])
    kept.append([measured(1)])
    assert len(calls) == 3
    assert [t.number for t in history(one).trials] == [0, 1]


def test_patience_ends_and_says_what_is_safe(store, monkeypatch, caplog):
    monkeypatch.setattr("nas.database.PATIENCE", 0.5)
    one = store()
    one.own()
    kept = history(one)
    kept.append([measured(0)])

    def gone(_):
        raise exc.OperationalError("INSERT", {}, Exception("it is gone"))

    monkeypatch.setattr(kept._study, "add_trial", gone)
    with pytest.raises(StorageError, match=r"is away for .*it is gone; all 1 trials before it are safe"):
        kept.append([measured(1)])
    assert "is away, trying again" in caplog.text


@pytest.mark.slow
def test_a_search_outlives_a_server_that_is_stopped_for_ten_seconds(survival, server):
    found = survival.away(server, size=60)
    assert found["survived"], found["faults"]


@pytest.mark.parametrize("batch", [8, None])
def test_a_killed_driver_whose_folder_is_gone_loses_nothing_that_was_appended(survival, url, batch):
    straight = survival.uninterrupted(batch, 40)
    killed = survival.kill_once(1, batch, "driver", straight, 40, url=url)
    assert killed.survived, killed.why
    assert killed.lost <= 2


# --- what others ask ---------------------------------------------------------------------------------------


def test_requests_are_heard_and_forgotten_by_the_next_owner(store, tmp_path):
    for owner, other in ((store(), store("reader")), (FolderStore(tmp_path), FolderStore(tmp_path))):
        owner.own()
        assert owner.beat() == "run"
        for request in ("pause", "run", "stop"):
            other.ask(request)
            assert (owner.beat(), other.request()) == (request, request)
        owner.release()
        owner.own()
        assert owner.request() == "run"
        owner.release()


def test_a_watch_says_what_is_new_and_when_the_run_is_lost(store, monkeypatch):
    monkeypatch.setattr("nas.watch.POLL", 0.01)
    one, other, heard, lost = store(), store(), [], threading.Event()
    one.own()
    watch = Watch(one, heard.append, lambda _: lost.set())
    for request in ("pause", "run"):
        one.ask(request)
        until(lambda r=request: heard[-1:] == [r])
    monkeypatch.setattr("nas.database_store.LEASE", -1.0)
    other.own()
    assert lost.wait(20)
    watch.close()
    assert heard == ["pause", "run"]


def until(condition, seconds=60):
    deadline = time.time() + seconds
    while not condition():
        assert time.time() < deadline, "it never came true"
        time.sleep(0.01)


class Numbers(nas.Space):
    decisions = (nas.Integer("n", 0, 10**6),)

    def build(self, a):
        raise NotImplementedError


def slowly(architecture):
    import time

    time.sleep(0.05)
    return float(architecture["n"])


def searching(folder, storage=None, **settings):
    """A search in a thread that never ends by itself, and what it left."""
    wanted = Search(
        Numbers(), "max accuracy", nas.Budget(trials=10**5), evaluators=[slowly], strategy="random",
        memo="off", storage=storage, **settings,
    )  # fmt: skip
    run = Run(wanted, folder)
    thread = threading.Thread(target=run.search)
    thread.start()
    return run, thread


@pytest.mark.parametrize(
    "settings",
    [{}, {"batch": 4}, {"batch": 4, "executor": {"name": "processes", "workers": 2}},
     {"executor": {"name": "processes", "workers": 2}}],
)  # fmt: skip
def test_a_paused_search_begins_nothing_goes_on_and_is_stopped(tmp_path, monkeypatch, caplog, settings):
    monkeypatch.setattr("nas.watch.POLL", 0.02)
    clock = time.perf_counter()
    run, thread = searching(tmp_path / "run", **settings)
    other = FolderStore(tmp_path / "run")
    try:
        until(lambda: len(run.history.trials) >= 3)
        other.ask("pause")
        until(lambda: run.study.paused and not run.study._running.busy)
        time.sleep(0.2)
        paused = len(run.history.trials)
        time.sleep(0.5)
        assert len(run.history.trials) == paused
        assert run.study.rested >= 0.5
        other.ask("run")
        until(lambda: len(run.history.trials) >= paused + 3)
        assert run.study.rested < time.perf_counter() - clock
        said = [record.getMessage() for record in caplog.records if record.name == "nas.study"]
        assert said == [f"paused after {paused} trials; nas resume goes on", "going on"]
    finally:
        other.ask("stop")
        thread.join(60)
        run.close()
    assert not thread.is_alive()
    assert run.study.ended == "stopped"
    numbers = [t.number for t in run.history.trials]
    assert len(set(numbers)) == len(numbers)
    assert not any(t.failed for t in run.history.trials)
    assert run.study.spent.wall_seconds < time.perf_counter() - clock - 0.4  # the pause does not count


def test_a_pause_changes_nothing_that_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.watch.POLL", 0.02)
    run, thread = searching(tmp_path / "paused", batch=4)
    for _ in range(3):
        for request in ("pause", "run"):
            run.store.ask(request)
            time.sleep(0.15)
    until(lambda: len(run.history.trials) >= 24)
    run.store.ask("stop")
    thread.join(60)
    run.close()
    straight = nas.search(
        space=Numbers(),
        evaluator=slowly,
        strategy="random",
        memo="off",
        trials=24,
        batch=4,
        out=tmp_path / "s",
    )  # fmt: skip
    assert straight
    paused = {t.number: t.proposal for t in run.history.trials}
    reader = FolderStore(tmp_path / "s").history(Numbers(), nas.parse_objectives("max accuracy"), "reader")
    assert all(paused[t.number] == t.proposal for t in reader.trials if t.role == "search")


def test_a_search_whose_lease_was_lost_ends_with_the_new_owners_name(url, tmp_path, monkeypatch):
    monkeypatch.setattr("nas.watch.POLL", 0.02)
    name = f"lost{time.time_ns()}"
    wanted = Search(
        Numbers(), budget=nas.Budget(trials=10**5), evaluators=[slowly], strategy="random", storage=url
    )
    run, failed = Run(wanted, tmp_path / name), []

    def search():
        try:
            run.search()
        except StorageError as error:
            failed.append(str(error))

    thread = threading.Thread(target=search)
    thread.start()
    until(lambda: len(run.history.trials) >= 2)
    other = DatabaseStore(url, name)
    monkeypatch.setattr("nas.database_store.LEASE", -1.0)
    other.own()
    thread.join(60)
    run.close()
    assert f"was taken over by process {os.getpid()}" in failed[0]
    assert not (tmp_path / name / "front.json").exists()
    other.release()


# --- searches ----------------------------------------------------------------------------------------------


def test_a_search_is_continued_in_another_folder_by_its_name(url, tmp_path):
    name, calls = f"moved{time.time_ns()}", []

    def score(architecture):
        calls.append(1)
        return float(architecture["n"])

    given = {"space": Numbers(), "evaluator": score, "strategy": "random", "memo": "off", "storage": url}
    front = nas.search(**given, trials=5, out=tmp_path / "one" / name)
    assert not (tmp_path / "one" / name / "journal.log").exists()
    shutil.rmtree(tmp_path / "one")
    again = nas.search(**given, trials=8, out=tmp_path / "two" / name)
    assert len(calls) == 8
    assert [m.trial for m in front] == [m.trial for m in again] or len(again.candidates) == 8
    with pytest.raises(BadInput, match=r"seed of the run in .* must stay 0"):
        nas.search(**given, trials=8, seed=1, out=tmp_path / "three" / name)
    with pytest.raises(BadInput, match="out must be given with a storage"):
        nas.search(**given)


TRAINED = {
    "space": "mlp",
    "task": {"name": "digits", "limit": 60},
    "evaluator": {"name": "training", "epochs": 1},
    "objectives": "max accuracy, min params",
    "trials": 4,
}


def test_weights_are_found_on_a_fresh_node_under_the_artifacts(tmp_path):
    given = {**TRAINED, "storage": f"sqlite:///{tmp_path}/r.db", "artifacts": tmp_path / "shared"}
    front = nas.search(**given, out=tmp_path / "one" / "run")
    assert {p.name for p in (tmp_path / "shared" / "run" / "weights").iterdir()} == {
        m.weights.name for m in front
    }
    shutil.rmtree(tmp_path / "one")
    again = nas.search(**given, out=tmp_path / "two" / "run")
    assert [m.trial for m in again] == [m.trial for m in front]  # none was trained again
    assert again.export(tmp_path / "out", ["json"])


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: whole[:900] + b"x" + whole[901:]])
def test_damaged_weights_are_named_and_trained_again(tmp_path, damage, caplog):
    front = nas.search(**TRAINED, out=tmp_path / "run")
    member = front[0]
    path = tmp_path / "run" / "weights" / member.weights.name
    whole = path.read_bytes()
    for _ in range(2):  # also what was trained again once already
        path.write_bytes(damage(whole))
        named = (
            rf"weights of trial \d+, {path}, are not as they were written; train them again with: nas resume"
        )
        with pytest.raises(StorageError, match=named):
            front.export(tmp_path / "out", ["json"])
        again = nas.search(**TRAINED, out=tmp_path / "run")
        assert f"{path}, are damaged" in caplog.text
        assert path.read_bytes() == whole
        assert again.export(tmp_path / "out", ["json"])


def test_weights_without_a_checksum_are_still_used(tmp_path):
    front = nas.search(**TRAINED, out=tmp_path / "run")
    journal = tmp_path / "run" / "journal.log"
    journal.write_text(journal.read_text().replace("weights_checksum", "another_note"))
    again = nas.search(**TRAINED, out=tmp_path / "run")
    assert [m.trial for m in again] == [m.trial for m in front]
    assert again.export(tmp_path / "out", ["json"])


# --- addresses ---------------------------------------------------------------------------------------------

SECRET = "p@ss/w:rd%&x"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://u:${P}@h/d", "postgresql://u:${P}@h/d"),
        ("postgresql://u:secret@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:sec@r/et@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:a${P}@h/d", "postgresql://u:***@h/d"),
        ("mysql+pymysql://u:secret@h/d?ssl=1", "mysql+pymysql://u:***@h/d?ssl=1"),
        ("postgresql://h/d?user=u&password=secret", "postgresql://h/d?user=u&password=***"),
        ("postgresql://h/d?password=${P}", "postgresql://h/d?password=${P}"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("${P}", "${P}"),
    ],
)
def test_an_address_shows_no_password(given, shown):
    assert str(Address(given)) == shown
    assert hidden(f"error at {given} or so") == f"error at {shown} or so"
    assert hidden(shown) == shown


def test_variables_are_looked_up_where_they_stand(monkeypatch, tmp_path):
    from sqlalchemy import make_url

    monkeypatch.setenv("P", SECRET)
    monkeypatch.setenv("HERE", str(tmp_path))
    address = Address("postgresql+psycopg2://u:${P}@h:5/d")
    assert make_url(address.opened()).password == SECRET
    assert address.masked(ValueError(f"no {SECRET} at\nall")) == "no *** at"
    assert Address("sqlite:///${HERE}/a.db").opened() == f"sqlite:///{tmp_path}/a.db"
    monkeypatch.setenv("WHOLE", "postgresql+psycopg2://u:abc@h/d")
    whole = Address("${WHOLE}")
    assert whole.opened() == "postgresql+psycopg2://u:abc@h/d"
    assert whole.masked(ValueError("abc and postgresql+psycopg2://u:abc@h/d")) == "*** and ***"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("redis://u:secret@h", r"must be a URL of SQLite, PostgreSQL or MySQL, got 'redis://u:\*\*\*@h'"),
        (
            "postgresql://u:${NO_SUCH_VARIABLE}@h/d",
            r"variables that are set, got '\$\{NO_SUCH_VARIABLE\}'",
        ),
        ("postgresql://u:***@h/d", "must have its password.*passwords are never kept"),
        (
            "postgresql://u:secret@h:port/d",
            r"be a URL as SQLAlchemy takes it, got 'postgresql://u:\*\*\*@h",
        ),
        ("mysql+nosuchdriver://u:secret@h/d", r"got|cannot be opened"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(given, says):
    with pytest.raises((BadInput, StorageError), match=says) as refused:
        Database(given)
    assert "secret" not in str(refused.value)


def test_a_reader_makes_nothing(tmp_path, url):
    with pytest.raises(StorageError, match="there is no such file"):
        DatabaseStore(f"sqlite:///{tmp_path}/none.db", "run", "reader")
    assert not (tmp_path / "none.db").exists()
    Database(url).close()
    reader = DatabaseStore(url, "nothing", "reader")
    assert not reader.exists
    with pytest.raises(StorageError, match="there is no run nothing in"):
        reader.history(SPACE, GOALS, "reader")
    with pytest.raises(StorageError, match="cannot be written by whoever does not own it"):
        reader.keep("x", b"")
    reader.release()


def test_what_a_dashboard_would_write_is_refused(store):
    one = store()
    one.own()
    history(one).append([replace(measured(0))])
    reader = store("reader")
    storage = reader.database.storage
    study = storage.get_study_id_from_name(one.run)
    assert len(storage.get_all_trials(study)) == 1
    with pytest.raises(StorageError, match="read only"):
        storage.set_study_user_attr(study, "note", "hello")
    assert "note" not in storage.get_study_user_attrs(study)
    with one.database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM nas_trials")).scalar_one() >= 1


def test_an_absent_server_is_a_storage_error_that_shows_nothing(monkeypatch, caplog):
    pytest.importorskip("psycopg2")
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("P", SECRET)
    with pytest.raises(StorageError, match=r"\$\{P\}@127.0.0.1:1/d cannot be opened: .*refused") as refused:
        Database("postgresql+psycopg2://u:${P}@127.0.0.1:1/d")
    assert SECRET not in str(refused.value) + caplog.text
    assert refused.value.__cause__ is None

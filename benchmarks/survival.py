"""Does a search survive kill -9 at any moment, the loss of its folder or storage, and damaged files?

    python benchmarks/survival.py [--kills N]

Three times N searches (N = 50: 15 minutes on two cores) of 200 cheap evaluations on two processes, each
killed once at a random moment; half of them tell batches of 8, half tell each trial as it ends. Two times N
keep their trials in a journal: the driver is killed in one half, a worker in the other, and a search whose
driver was killed is started again in its folder. N are in a database (PostgreSQL where there is one, else
SQLite): the driver is killed, its folder deleted, and the search continued from the database in another one.

A search survived when it ended with all its trials, none that was appended before the kill was lost, changed
or evaluated again, none failed, no worker outlived its driver by more than five seconds, and, with batches,
the front is that of a search that nobody killed; without batches, what was in flight when the driver was
killed was evaluated under its own number.

Besides: a journal torn at 20 places of its last line and continued; a file of weights truncated and resumed;
and a database that goes away for 10 s in the middle of a search.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import postgres
import psutil
from record import record

from nas import Categorical, Space, parse_objectives
from nas.database_store import DatabaseStore
from nas.earlier import copied
from nas.front import Front
from nas.inflight import LEDGER
from nas.journal import truncate_torn_tail
from nas.record import trial_to_json
from nas.rng import stream
from nas.testing.problems import Shifted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nas.proposal import Trial

TRIALS = 200
BATCH = 8
KILLS = 50
OBJECTIVES = "min near, min cost"
CUTS = 20
AWAY = 10.0
"""Seconds for which the database is stopped."""


class Many(Space):
    """Enough architectures that a search seldom asks for one twice."""

    decisions = tuple(Categorical(f"d{i}", tuple(range(8))) for i in range(8))

    def build(self, architecture: Any) -> Any:
        """Never asked for."""
        raise NotImplementedError("nothing here is trained")


SPACE = Many()


def search(folder: Path, batch: int | None, trials: int, storage: str | None = None) -> None:
    """Begin or go on with a search, in this process."""
    import nas

    problem, evaluated = Shifted(SPACE, 0), str(folder.parent.parent / "evaluated")

    def evaluate(architecture: Any) -> Any:
        with open(evaluated, "a") as file:  # noqa: PTH123 - runs in a worker, with what is in its own text
            file.write(architecture.key + "\n")
        time.sleep(stream(0, architecture.key).uniform(0.002, 0.02))
        return problem(architecture)

    evaluate.metrics = ("near", "cost")  # type: ignore[attr-defined]
    nas.search(
        space=SPACE,
        objectives=OBJECTIVES,
        evaluator=evaluate,
        strategy={"name": "evolution", "population": 24},
        executor={"name": "processes", "workers": 2},
        trials=trials,
        batch=batch,
        storage=storage,
        out=folder,
    )


@dataclass
class Killed:
    """What one kill did."""

    survived: bool
    lost: int
    why: str
    seconds: float


def kill_once(
    seed: int, batch: int | None, victim: str, straight: list[Any], size: int = TRIALS, url: str | None = None
) -> Killed:
    """Run a search, kill its driver or a worker once, let it end, and look at what it left.

    Args:
        seed: of the moment.
        batch: of the search.
        victim: "driver" or "worker".
        straight: the front of a search that nobody killed.
        size: trials that are asked for.
        url: of the database that keeps the search; then the folder of a killed driver is deleted.
    """
    with TemporaryDirectory() as place, _stored_in(_fresh(place), url) as one:
        dice, clock = random.Random(seed), time.time()
        driver = started(one, batch, size)
        moment = dice.randrange(1, size - 10)
        while appended(one) < moment and driver.poll() is None:
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.05))
        workers = [p for p in psutil.Process(driver.pid).children() if "popen_loky" in " ".join(p.cmdline())]
        if victim == "worker":
            dice.choice(workers).kill()
            code = driver.wait(300)
            why = faults(one, [], set(), [], code, batch, straight, size)
            return Killed(not why, sum(t["attempts"] > 1 for t in trials(one)), why, time.time() - clock)
        driver.kill()
        driver.wait()
        _, alive = psutil.wait_procs(workers, timeout=5)
        if alive:
            return Killed(False, 0, "workers outlived their driver", time.time() - clock)
        before, again = trials(one), ledger(one)
        evaluated = Path(place) / "evaluated"
        old = evaluated.read_text().split()
        if url is not None:
            shutil.rmtree(one.folder)
            one.folder = Path(place) / "two" / one.folder.name
        code = started(one, batch, size).wait(300)
        fresh = evaluated.read_text().split()[len(old) :]
        why = faults(one, before, set(fresh), again, code, batch, straight, size)
        return Killed(not why, len(set(old) - keys(before)), why, time.time() - clock)


@dataclass
class Place:
    """Where a search is: its folder, and its database where it has one."""

    folder: Path
    url: str | None = None
    store: DatabaseStore | None = None


@contextmanager
def _stored_in(folder: Path, url: str | None) -> Iterator[Place]:
    one = Place(folder, url)
    if url is not None:
        one.store = DatabaseStore(url, folder.name)  # makes the tables; it never takes the lease
    try:
        yield one
    finally:
        if one.store is not None:
            one.store.release()


def _fresh(place: str) -> Path:
    """A folder whose name no other run in the database has."""
    return Path(place) / "one" / f"run-{time.time_ns():x}"


def faults(
    one: Place,
    before: list[dict[str, Any]],
    fresh: set[str],
    flying: list[dict[str, Any]],
    code: int,
    batch: int | None,
    straight: list[Any],
    size: int,
) -> str:
    """What is wrong with what a search left; empty where nothing is.

    Args:
        one: where the search is.
        before: trials that were stored when its driver was killed.
        fresh: keys of the architectures that were evaluated afterwards.
        flying: what was in flight, as far as that was kept.
        code: with which it ended.
        batch: of the search.
        straight: the front of a search that nobody killed.
        size: trials that were asked for.
    """
    after = {t["number"]: t for t in trials(one)}
    done = {t["number"] for t in before}
    owed = [job for job in flying if job["number"] not in done]
    found = {
        f"ended with code {code}": code != 0,
        "trials are missing": sorted(after) != list(range(len(after))) or len(after) < size,
        "an appended trial changed": any(after.get(t["number"]) != t for t in before),
        "an appended trial was evaluated again": bool(fresh & keys(before)),
        "an evaluation failed": any("failure" in t for t in after.values()),
        "what was in flight was not evaluated under its number": any(
            after.get(job["number"], {}).get("proposal") != job["proposal"] for job in owed
        ),
        "the front differs": batch is not None and front(one) != straight,
    }
    return "; ".join(text for text, wrong in found.items() if wrong)


def keys(stored: list[dict[str, Any]]) -> set[str]:
    return {SPACE.architecture(t["proposal"]["architecture"]).key for t in stored}


def started(one: Place, batch: int | None, size: int) -> subprocess.Popen[bytes]:
    words = [str(one.folder), str(batch or 0), str(size), *([one.url] if one.url else [])]
    return subprocess.Popen(
        [sys.executable, __file__, "search", *words], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def appended(one: Place) -> int:
    if one.store is not None:
        from sqlalchemy import func, select

        rows = one.store.database.trials
        with one.store.database.engine.connect() as connection:
            counted = select(func.count()).where(rows.c.run == one.store.run)
            return int(connection.execute(counted).scalar_one())
    journal = one.folder / "journal.log"
    return journal.read_bytes().count(b'"record"') if journal.is_file() else 0


def _trials(one: Place) -> list[Trial]:
    """The stored trials, of a journal from a copy without a torn last line."""
    if one.store is not None:
        return list(one.store.history(SPACE, parse_objectives(OBJECTIVES), "reader").trials)
    copy = one.folder / "copy.log"
    shutil.copyfile(one.folder / "journal.log", copy)
    truncate_torn_tail(copy)
    return copied(copy).trials(SPACE)[0]


def trials(one: Place) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(trial_to_json(t))) for t in _trials(one)]


def ledger(one: Place) -> list[dict[str, Any]]:
    """What was in flight; in batches the same questions are asked again, so it is not looked at."""
    path = one.folder / LEDGER
    content = one.store.read(LEDGER) if one.store else path.read_bytes() if path.is_file() else None
    found: list[dict[str, Any]] = [] if content is None else json.loads(content)
    return found


def front(one: Place) -> list[Any]:
    members = Front(_trials(one), parse_objectives(OBJECTIVES))
    return [(m.trial, m.candidate.key, dict(m.values)) for m in members]


def uninterrupted(batch: int | None, size: int = TRIALS) -> list[Any]:
    with TemporaryDirectory() as place:
        one = Place(Path(place) / "one" / "run")
        assert started(one, batch, size).wait(300) == 0
        return front(one)


def torn_journal(size: int = TRIALS) -> dict[str, Any]:
    """Tear the last line of a journal at several places, and let the search go on."""
    with TemporaryDirectory() as place:
        one = Place(Path(place) / "one" / "run")
        assert started(one, BATCH, size // 2).wait(300) == 0
        before = trials(one)
        whole = (one.folder / "journal.log").read_bytes()
        last = whole[:-1].rfind(b"\n") + 1
        cuts = [last + 1 + (len(whole) - last - 2) * i // (CUTS - 1) for i in range(CUTS)]
        survived = 0
        for cut in cuts:
            (one.folder / "journal.log").write_bytes(whole[:cut])
            code = started(one, BATCH, size // 2).wait(300)
            survived += code == 0 and [t["proposal"] for t in trials(one)] == [t["proposal"] for t in before]
        return {"cuts": len(cuts), "survived": survived}


def truncated_weights() -> dict[str, Any]:
    """Truncate the weights of a member of a front, and resume."""
    import nas
    from nas.errors import StorageError

    with TemporaryDirectory() as place:
        given = {
            "space": "mlp", "task": {"name": "digits", "limit": 60}, "trials": 4, "out": Path(place) / "run",
            "evaluator": {"name": "training", "epochs": 1}, "objectives": "max accuracy, min params",
        }  # fmt: skip
        member = nas.search(**given)[0]
        path = Path(place) / "run" / "weights" / member.weights.name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        front = nas.search(**given)
        front.export(Path(place) / "out", ["json"])
        path.write_bytes(whole[:-1])
        try:
            front.export(Path(place) / "again", ["json"])
            named = False
        except StorageError as error:
            named = str(path) in str(error) and f"trial {front[0].trial}" in str(error)
        return {"trained_again_to_the_same": whole == path.read_bytes() + whole[-1:], "named": named}


def away(server: postgres.Server, size: int = TRIALS) -> dict[str, Any]:
    """Stop the database for a while in the middle of a search."""
    with TemporaryDirectory() as place, _stored_in(_fresh(place), server.url) as one:
        driver = started(one, None, size)
        while appended(one) < size // 2 and driver.poll() is None:
            time.sleep(0.005)
        before = trials(one)
        server.stop()
        timer = threading.Timer(AWAY, server.start)
        timer.start()
        code = driver.wait(300)
        timer.join()
        why = faults(one, before, set(), [], code, None, [], size)
        return {"seconds": AWAY, "survived": not why, "faults": why}


def several(kills: int, name: str, batch: int | None, victim: str, url: str | None) -> dict[str, Any]:
    """Kill so many searches."""
    straight = uninterrupted(batch)
    found = [kill_once(seed, batch, victim, straight, url=url) for seed in range(kills)]
    figures = {
        "kills": len(found),
        "survived": sum(k.survived for k in found),
        "faults": sorted({k.why for k in found if k.why}),
        "evaluations_lost_most": max(k.lost for k in found),
        "seconds_mean": round(sum(k.seconds for k in found) / len(found), 2),
    }
    print(name, victim, figures, flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=KILLS, help="of each half of the searches")
    kills = max(2, parser.parse_args().kills)
    figures: dict[str, Any] = {"trials": TRIALS, "workers": 2}
    reason = postgres.missing()
    server = None if reason else postgres.Server()
    try:
        with TemporaryDirectory() as place:
            url = f"sqlite:///{place}/runs.db" if server is None else server.url
            for name, batch in (("batch_of_8", BATCH), ("asynchronous", None)):
                for victim in ("driver", "worker"):
                    figures[f"{name}_{victim}"] = several(kills // 2, name, batch, victim, None)
                key = f"{name}_driver_and_folder_{'sqlite' if server is None else 'postgresql'}"
                figures[key] = several(kills // 2, key, batch, "driver", url)
        figures["torn_journal"] = torn_journal()
        figures["truncated_weights"] = truncated_weights()
        figures["database_away"] = {"skipped": reason} if server is None else away(server)
        for name in ("torn_journal", "truncated_weights", "database_away"):
            print(name, figures[name], flush=True)
    finally:
        if server is not None:
            server.close()
    record("survival", figures, seeds=range(kills))


if __name__ == "__main__":
    if sys.argv[1:2] == ["search"]:
        search(Path(sys.argv[2]), int(sys.argv[3]) or None, int(sys.argv[4]), *sys.argv[5:6])
    else:
        main()

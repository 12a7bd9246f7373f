"""Does a search survive kill -9, of its driver and of its workers, at any moment?

    python benchmarks/survival.py

100 searches of 200 cheap evaluations on two processes, each killed once at a random moment: the driver in one
half, a worker in the other; 50 of the searches tell batches of 8, 50 tell each trial as it ends. A search
whose driver was killed is started again in its folder. It survived when it ended with all its trials, none
that was appended before the kill was lost, changed or evaluated again, none failed, no worker outlived its
driver by more than five seconds, and, with batches, the front is that of a search that nobody killed; without
batches, what was in flight when the driver was killed was evaluated under its own number.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from record import record

from nas import Categorical, Space, parse_objectives
from nas.front import Front
from nas.history import earlier_trials, trial_to_json, truncate_torn_tail
from nas.rng import stream
from nas.testing.problems import Shifted

TRIALS = 200
BATCH = 8
KILLS = 50
OBJECTIVES = "min near, min cost"


class Many(Space):
    """Enough architectures that a search seldom asks for one twice."""

    decisions = tuple(Categorical(f"d{i}", tuple(range(8))) for i in range(8))

    def build(self, architecture: Any) -> Any:
        """Never asked for."""
        raise NotImplementedError("nothing here is trained")


SPACE = Many()


def search(folder: Path, batch: int | None, trials: int) -> None:
    """Begin or go on with a search, in this process."""
    import nas

    problem, evaluated = Shifted(SPACE, 0), str(folder.parent / "evaluated")

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
        out=folder,
    )


@dataclass
class Killed:
    """What one kill did."""

    survived: bool
    lost: int
    why: str
    seconds: float


def kill_once(seed: int, batch: int | None, victim: str, straight: list[Any], size: int = TRIALS) -> Killed:
    """Run a search, kill its driver or a worker once, let it end, and look at what it left."""
    with TemporaryDirectory() as place:
        folder, dice, clock = Path(place) / "run", random.Random(seed), time.time()
        driver = started(folder, batch, size)
        moment = dice.randrange(1, size - 10)
        while appended(folder) < moment and driver.poll() is None:
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.05))
        workers = [p for p in psutil.Process(driver.pid).children() if "popen_loky" in " ".join(p.cmdline())]
        if victim == "worker":
            dice.choice(workers).kill()
            code = driver.wait(300)
            why = faults(folder, [], set(), [], code, batch, straight, size)
            return Killed(not why, sum(t["attempts"] > 1 for t in trials(folder)), why, time.time() - clock)
        driver.kill()
        driver.wait()
        _, alive = psutil.wait_procs(workers, timeout=5)
        if alive:
            return Killed(False, 0, "workers outlived their driver", time.time() - clock)
        before, again = trials(folder), ledger(folder)
        old = (folder.parent / "evaluated").read_text().split()
        code = started(folder, batch, size).wait(300)
        fresh = (folder.parent / "evaluated").read_text().split()[len(old) :]
        why = faults(folder, before, set(fresh), again, code, batch, straight, size)
        return Killed(not why, len(set(old) - keys(before)), why, time.time() - clock)


def faults(
    folder: Path,
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
        folder: of the search.
        before: trials that were stored when its driver was killed.
        fresh: keys of the architectures that were evaluated afterwards.
        flying: what was in flight, as far as that was kept.
        code: with which it ended.
        batch: of the search.
        straight: the front of a search that nobody killed.
        size: trials that were asked for.
    """
    after = {t["number"]: t for t in trials(folder)}
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
        "the front differs": batch is not None and front(folder) != straight,
    }
    return "; ".join(text for text, wrong in found.items() if wrong)


def keys(stored: list[dict[str, Any]]) -> set[str]:
    return {SPACE.architecture(t["proposal"]["architecture"]).key for t in stored}


def started(folder: Path, batch: int | None, size: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, __file__, "search", str(folder), str(batch or 0), str(size)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def appended(folder: Path) -> int:
    journal = folder / "journal.log"
    return journal.read_bytes().count(b'"record"') if journal.is_file() else 0


def trials(folder: Path) -> list[dict[str, Any]]:
    """The stored trials, read from a copy without a torn last line."""
    copy = folder / "copy.log"
    shutil.copyfile(folder / "journal.log", copy)
    truncate_torn_tail(copy)
    return [json.loads(json.dumps(trial_to_json(t))) for t in earlier_trials(copy, SPACE)[0]]


def ledger(folder: Path) -> list[dict[str, Any]]:
    path = folder / "inflight.json"
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return found


def front(folder: Path) -> list[Any]:
    found, _ = earlier_trials(folder / "journal.log", SPACE)
    members = Front(found, parse_objectives(OBJECTIVES))
    return [(m.trial, m.candidate.key, dict(m.values)) for m in members]


def uninterrupted(batch: int | None, size: int = TRIALS) -> list[Any]:
    with TemporaryDirectory() as place:
        folder = Path(place) / "run"
        assert started(folder, batch, size).wait(300) == 0
        return front(folder)


def main() -> None:
    figures: dict[str, Any] = {"trials": TRIALS, "workers": 2}
    for name, batch in (("batch_of_8", BATCH), ("asynchronous", None)):
        straight = uninterrupted(batch)
        for victim in ("driver", "worker"):
            seeds = [seed for seed in range(KILLS) if (seed % 2 == 0) == (victim == "driver")]
            found = [kill_once(seed, batch, victim, straight) for seed in seeds]
            figures[f"{name}_{victim}"] = {
                "kills": len(found),
                "survived": sum(k.survived for k in found),
                "faults": sorted({k.why for k in found if k.why}),
                "evaluations_lost_most": max(k.lost for k in found),
                "seconds_mean": round(sum(k.seconds for k in found) / len(found), 2),
            }
            print(name, victim, figures[f"{name}_{victim}"], flush=True)
    record("survival", figures, seeds=range(KILLS))


if __name__ == "__main__":
    if sys.argv[1:2] == ["search"]:
        search(Path(sys.argv[2]), int(sys.argv[3]) or None, int(sys.argv[4]))
    else:
        main()

"""``nas status`` and ``nas resume --budget``: what runs, what was used, whether to go on, and more of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from commands import OWN
from test_study import LOSS, ask_loss, sampled
from toys import failed, trial

from nas import Budget
from nas.budget import Price
from nas.inflight import Job
from nas.proposal import Measurement
from nas.report.ledger import accounted, bill, ledger
from nas.report.standing import in_flight, last_tenth, rate

A, B, C, D = sampled(4)


def timed(number, started, ended, candidate=A, batch=None, **more):
    t = trial(number, candidate, loss=1.0)
    batch = number if batch is None else batch
    return replace(t, queued=started, started=started, ended=ended, batch=batch, **more)


# --- what runs, and how fast ----------------------------------------------------------------------------


def test_what_is_stored_no_longer_runs_and_what_waits_began_when_another_ended():
    jobs = [Job(i, p, "search", 0, i, 3, 100.0) for i, p in enumerate(ask_loss([A, B, C]))]
    stored = [timed(0, 100.0, 130.0, batch=0, size=3)]
    assert [(job.number, job.since) for job in in_flight(jobs, [])] == [(0, 100.0), (1, 100.0), (2, 100.0)]
    assert [(job.number, job.since) for job in in_flight(jobs, stored)] == [(1, 130.0), (2, 130.0)]
    alone = [Job(7, jobs[0].proposal, "search", 7, 0, 1, 50.0)]
    assert [(job.number, job.since) for job in in_flight(alone, stored)] == [(7, 50.0)]


def test_the_rate_leaves_pauses_out_and_counts_what_runs_at_once():
    one_by_one = [timed(i, 10.0 * i, 10.0 * i + 9) for i in range(6)]
    assert rate(one_by_one) == pytest.approx(3600 * 6 / 59)
    later = [timed(6 + i, 5000.0 + 10 * i, 5009.0 + 10 * i) for i in range(6)]
    assert rate([*one_by_one, *later]) == pytest.approx(3600 * 12 / 118)
    assert rate([timed(i, 0.0, 36.0) for i in range(5)]) == pytest.approx(500)
    assert rate([]) is None


# --- whether to go on -----------------------------------------------------------------------------------


def tenth(losses, budget, price=None, seconds=10.0):
    trials = [
        replace(trial(i, c, loss=v), started=seconds * i, ended=seconds * (i + 1))
        for i, (c, v) in enumerate(zip(sampled(len(losses)), losses, strict=True))
    ]
    return last_tenth(trials, LOSS, budget, price)


def test_the_last_tenth_is_of_the_limit_that_is_nearest_to_its_end():
    losses = [float(v) for v in range(40, 0, -1)]
    last = tenth(losses, Budget(trials=40))
    assert (last.limit, last.used, last.trials, last.seconds) == ("trials", 1.0, 4, 40.0)
    last = tenth(losses, Budget(trials=400, seconds=1e6, device_seconds=800))
    assert (last.limit, last.used, last.trials) == ("device_seconds", 0.5, 8)
    last = tenth(losses, Budget(wall_seconds=1000))
    assert (last.limit, last.used, last.trials) == ("wall_seconds", pytest.approx(0.4), 10)


def test_what_was_gained_is_hypervolume_of_the_whole_run():
    last = tenth([10.0, *[8.0] * 8, 6.0], Budget(trials=10))
    assert last.trials == 1
    assert last.before == pytest.approx((10.4 - 8) / 4.4)  # the box ends a tenth of its span beyond 10
    assert last.now == pytest.approx(1.0)
    assert last.gained == pytest.approx(2.0 / 2.4)
    assert last.text(Price(360.0, "EUR")).startswith("1 trial gained 83 % of hypervolume for 1.00 EUR; ")


@pytest.mark.parametrize(
    ("losses", "budget", "advice"),
    [
        ([3.0], Budget(trials=10), "too early to say"),
        ([3.0, 2.0] * 10, Budget(trials=20), "nothing was gained: going on is hardly worth it"),
        ([3.0] * 18 + [2.0] * 2, Budget(trials=20), r"at most as much \(1,000 %\).*worth going on$"),
        ([103.0, 1.5] + [1.0] * 16 + [0.5] * 2, Budget(trials=20), "go on only where that matters"),
        ([1003.0, 1.5] + [1.0] * 16 + [0.9] * 2, Budget(trials=20), "hardly worth it$"),
        ([float("nan")] * 10, Budget(trials=10), "nothing within the bounds was found yet"),
        ([float("nan")] * 9 + [1.0], Budget(trials=10), "something was found at last: worth going on"),
    ],
)
def test_advice_says_what_another_tenth_would_bring(losses, budget, advice):
    import re

    assert re.search(advice, tenth(losses, budget).advice)


# --- what was used --------------------------------------------------------------------------------------


def test_the_bill_counts_failures_and_lost_attempts_as_lost():
    wrong = replace(failed(1, B), started=0.0, ended=900.0)
    again = timed(0, 0.0, 1800.0, attempts=2, lost_seconds=900.0)
    known = replace(trial(2, A, loss=1.0), outcome=Measurement({"loss": 1.0}, reused="k", borrowed={"loss"}))
    books = ledger([again, wrong, known])
    assert bill(books, None) == "1 device-hours, 0.5 of them lost"
    assert bill(books, Price(3.0, "EUR")).endswith("; 3.00 EUR at 3 EUR an hour, 1.50 EUR of it lost")
    assert accounted(books, Price(3.0)) == {
        "device_hours": {"spent": 1.0, "lost": 0.5},
        "money": {"spent": 3.0, "lost": 1.5, "currency": ""},
    }


def test_status_says_what_was_used_and_what_it_cost(nas):
    nas.write(
        "priced.yaml",
        'space: {factory: "./own.py:Tiny"}\nobjectives: "max accuracy"\n'
        'evaluators: [{factory: "./own.py:odd_fails"}]\nstrategy: random\nbudget: {trials: 20}\n'
        "price_per_hour: 36000\ncurrency: EUR\nstop: {hypervolume_gain: 0.5, over: 40}\n",
    )
    assert nas("search", "priced.yaml", "--out", "run").code == 0
    lines = {line[:15].strip(): line[15:].strip() for line in nas("status", "run").out.splitlines()}
    said = json.loads(nas("status", "run", "--json").out)
    assert lines["failed"] == f"{said['failures']['error']}: {said['failures']['error']} error"
    assert lines["stop"] == "too early to judge over 40 trials; ends below 50 %"
    assert said["stop"] == {"hypervolume_gain": 0.5, "over": 40}
    assert said["stop_gain"] is None
    assert lines["used"].endswith("EUR of it lost")
    assert said["money"]["spent"] == pytest.approx(36000 * said["device_hours"]["spent"])
    assert 0 < said["money"]["lost"] < said["money"]["spent"]
    assert said["money"]["currency"] == "EUR"
    assert said["used"] == {"trials": 1.0}
    assert said["last_tenth"]["trials"] == 2
    assert said["trials_per_hour"] > 0
    assert said["reused"]["whole"] > 0
    front = json.loads(nas("front", "run", "--json").out)
    assert front["money"] == said["money"]
    assert nas("front", "run").out.splitlines()[-1].startswith("used: ")
    assert nas("report", "run").code == 0
    assert "36000 EUR an hour" in (nas.folder / "run" / "report.html").read_text()


def test_status_names_the_rule_that_ended_a_search(nas):
    nas.write("quick.yaml", (nas.folder / "quick.yaml").read_text().replace("trials: 6", "trials: 500"))
    rule = "stop={hypervolume_gain: 0.2, over: 5}"
    assert nas("search", "quick.yaml", "--out", "run", "--set", rule).code == 0
    ended = json.loads((nas.folder / "run" / "front.json").read_text())
    assert ended["ended"].startswith("stopped by rule: gained ")
    assert ended["spent"]["trials"] < 500
    said = nas("status", "run").out
    assert said.startswith("ended: stopped by rule\n")
    assert said.endswith("continue with: nas resume run --set stop=null\n")  # else it would end at once
    assert nas("resume", "run").code == 0
    again = json.loads((nas.folder / "run" / "front.json").read_text())
    assert again["spent"]["trials"] == ended["spent"]["trials"]
    assert nas("resume", "run", "--set", "stop=null", "--budget", "trials=40").code == 0
    assert json.loads((nas.folder / "run" / "front.json").read_text())["spent"]["trials"] == 40


SLOW = OWN.replace("0.3 * fidelity", "30.0 if architecture['act'] == 'tanh' else 0.0")


@pytest.mark.parametrize("batch", ["null", 4])
def test_what_runs_now_is_seen_from_another_process(nas, batch):
    nas.write("own.py", SLOW)
    nas.write("slow.yaml", (nas.folder / "quick.yaml").read_text().replace(":width", ":sleeps"))
    words = [sys.executable, "-m", "nas", "search", "slow.yaml", "--out", "run", "--set", f"batch={batch}"]
    started = time.time()
    process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    try:
        while time.time() < started + 60:
            said = nas("status", "run", "--json") if (nas.folder / "run" / "inflight.json").exists() else None
            shown = json.loads(said.out) if said is not None and said.code == 0 else {}
            if shown.get("running") and shown["running"][0]["architecture"]["act"] == "tanh":
                break
            time.sleep(0.1)
        (running,) = shown["running"]
        assert shown["state"] == f"running as process {shown['owner']}"
        assert running["number"] == shown["spent"]["trials"]
        assert started < running["since"] < time.time()
        numbers = [job["number"] for job in shown["queued"]]
        whole = 4 if batch == 4 else 1
        assert numbers == list(range(running["number"] + 1, (running["number"] // whole + 1) * whole))
        line = next(x for x in nas("status", "run").out.splitlines() if x.startswith("evaluating"))
        assert f"trial {running['number']} for " in line
        assert line.endswith(f"width={running['architecture']['width']} act=tanh")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    lines = nas("status", "run").out.splitlines()
    assert lines[0] == "stopped"
    assert any(line.split()[:2] == ["was", "evaluating"] for line in lines)


# --- more of it -----------------------------------------------------------------------------------------


def test_a_larger_budget_is_kept_for_later(quick):
    assert quick("resume", "run", "--budget", "trials=9", "--budget", "wall_seconds=600").code == 0
    config = json.loads((quick.folder / "run" / "config.json").read_text())["config"]
    assert config["budget"] == {"trials": 9, "wall_seconds": 600}
    assert json.loads((quick.folder / "run" / "front.json").read_text())["spent"]["trials"] == 9


@pytest.mark.parametrize("given", ["trials=4", "trials=6"])
def test_a_budget_that_is_used_up_is_refused_and_changes_nothing(quick, given):
    before = (quick.folder / "run" / "config.json").read_bytes()
    answer = quick("resume", "run", "--budget", given)
    assert answer.code == 2
    assert "budget.trials must exceed the 6 that are used up" in answer.err
    assert (quick.folder / "run" / "config.json").read_bytes() == before


def test_another_limit_does_not_lift_the_one_that_was_reached(quick):
    answer = quick("resume", "run", "--budget", "wall_seconds=600")
    assert answer.code == 2
    assert "budget.trials must exceed the 6 that are used up, got 6" in answer.err


@pytest.mark.parametrize(
    ("given", "error"),
    [("trials", "--budget must read LIMIT=VALUE, got 'trials'"), ("trial=9", "did you mean 'trials'")],
)
def test_what_is_no_limit_is_refused(quick, given, error):
    answer = quick("resume", "run", "--budget", given)
    assert answer.code == 2
    assert error in answer.err

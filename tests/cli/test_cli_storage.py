"""Runs in a database from the command line: on another machine, paused, stopped, their passwords hidden."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from html import unescape
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from commands import OWN

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import postgres

sys.path.pop(0)

SLOW = """\
space: {factory: "./own.py:Tiny"}
task: {name: digits, limit: 60}
objectives: "max accuracy, min params"
evaluators: [{factory: "./own.py:sleeps"}]
memo: "off"
strategy: random
budget: {trials: 12}
"""


@pytest.fixture(scope="module")
def server():
    if reason := postgres.missing():
        pytest.skip(reason)
    started = postgres.Server()
    yield started
    started.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request):
    """The address of a database."""
    return "sqlite:///runs.db" if request.param == "sqlite" else request.getfixturevalue("server").url


@pytest.fixture
def name():
    """A name that no other run of the database has."""
    return f"run{time.time_ns():x}"


def test_a_run_is_read_and_continued_by_its_name_alone(nas, url, name):
    done = nas("search", "quick.yaml", "--storage", url, "--out", f"runs/{name}")
    assert done.code == 0, done.err
    there = ["--storage", url, "--run", name]
    again = nas("search", "quick.yaml", "--storage", url, "--out", f"elsewhere/{name}")
    assert again.code == 2
    assert "must be new in the storage" in again.err
    shutil.rmtree("runs")
    Path("own.py").unlink()
    for command in ("status", "front", "logs"):
        assert nas(command, *there).code == 0
    assert "trials          6 of 6" in nas("status", *there).out
    assert "trial 3" in nas("logs", *there, 3).out
    compared = nas("compare", *there, *there[2:])
    assert compared.code == 0
    assert f"--storage {url} --run {name}" in compared.out.replace("'", "")
    assert nas("report", *there, "--out", "report.html").code == 0
    page = Path("report.html").read_text().partition("<script")[0]
    assert f"nas compare --storage {url} --run {name}" in unescape(page).replace("'", "")
    assert "/nas-" not in page  # where readers keep their copies
    assert not Path("runs").exists()  # readers leave nothing
    more = nas("resume", *there, "--set", "budget.trials=9")
    assert more.code == 0, more.err
    assert "continuing after 6 trials" in more.out
    assert "9 trials" in more.out
    assert "trials          9 of 9" in nas("status", f"runs/{name}").out  # the folder knows its storage
    assert nas("report", *there).code == 0
    assert Path(f"runs/{name}/report.html").is_file()
    nas.write("own.py", OWN)  # which this process has loaded, and may have to send to workers of other tests


def test_looking_again_and_again_keeps_nothing_open(nas, name, monkeypatch):
    Path("copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", "copies")
    url = f"sqlite:///{nas.folder}/runs.db"
    assert nas("search", "quick.yaml", "--storage", url, "--out", f"runs/{name}").code == 0

    def kept():
        files = [str(file.resolve()) for file in Path("/proc/self/fd").iterdir()]
        return files.count(f"{nas.folder.resolve()}/runs.db"), len(list(Path("copies").iterdir()))

    before = kept()
    for _ in range(3):
        assert nas("status", "--storage", url, "--run", name).code == 0
    assert kept() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status"], "the run must be given as RUN, or as --storage URL and --run NAME"),
        (["status", "--run", "a"], "the run must be given as RUN"),
        (["status", "--storage", "sqlite:///none.db", "--run", "a"], "there is no such file"),
        (["stop", "run"], "the run must be running"),
        (["pause", "run"], "the run must be running"),
        (["compare"], "RUN must name at least one run"),
        (["search", "quick.yaml", "--storage", "redis://x"], "storage must be a URL of SQLite"),
    ],
)
def test_what_names_no_run_is_refused(quick, words, says):
    done = quick(*words)
    assert done.code in (1, 2)
    assert says in done.err


def test_a_run_of_another_name_in_the_same_database_is_named(quick):
    assert quick("search", "quick.yaml", "--storage", "sqlite:///r.db", "--out", "one").code == 0
    done = quick("status", "--storage", "sqlite:///r.db", "--run", "two")
    assert (done.code, "--run must name a run in sqlite:///r.db, got 'two'" in done.err) == (2, True)


def started(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "nas", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def until(condition, process):
    deadline = time.time() + 120
    while not condition():
        assert time.time() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize("place", ["folder", "postgresql"])
def test_a_search_is_paused_resumed_and_stopped_from_another_terminal(nas, request, name, place):
    nas.write("slow.yaml", SLOW)
    folder = f"runs/{name}"
    there = [folder]
    words = ["search", "slow.yaml", "--out", folder]
    if place == "postgresql":
        url = request.getfixturevalue("server").url
        there, words = ["--storage", url, "--run", name], [*words, "--storage", url]
    process = started(*words)
    try:
        until(lambda: "running as process" in nas("status", *there).out, process)
        owner = f"{process.pid} on {os.uname().nodename}"
        refused = nas("resume", *there)
        assert refused.code == 1
        assert f"in use by process {owner}" in refused.err
        assert f"asked process {owner} to pause" in nas("pause", *there).out
        assert "paused as process" in nas("status", *there).out
        changed = nas("resume", *there, "--budget", "trials=20")
        assert changed.code == 2
        assert "must have ended before its settings change" in changed.err
        assert "paused as process" in nas("status", *there).out
        assert f"process {owner} goes on with it" in nas("resume", *there).out
        assert "running as process" in nas("status", *there).out
        assert f"asked process {owner} to stop" in nas("stop", *there).out
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1, out + err
    assert "error: stopped; all finished trials are safe. Continue with: nas resume" in err.replace("\n", " ")
    assert nas("stop", *there).code == 2
    more = nas("resume", *there)
    assert more.code == 0, more.err
    assert "12 trials" in more.out


def test_no_password_is_printed_logged_or_written(nas, server, name, tmp_path):
    there = ["--storage", server.url, "--run", name]
    plain = server.url.replace("${NAS_TEST_PASSWORD}", quote(postgres.PASSWORD, safe=""))
    wrong = server.url.replace(str(server.port), "1")
    said = [
        nas("search", "quick.yaml", "--storage", server.url, "--out", f"runs/{name}"),
        nas("search", "quick.yaml", "--storage", plain, "--out", f"runs/{name}-plain"),
        *(nas(command, *there) for command in ("status", "front", "logs", "report", "stop")),
        nas("search", "quick.yaml", "--storage", wrong, "--out", "wrong"),
        nas("search", "quick.yaml", "--storage", plain.replace("nas:", "nobody:"), "--out", "wrong"),
        nas("search", "quick.yaml", "--set", f"storage={{url: '{plain}'}}", "--out", "wrong"),
        nas("status", f"runs/{name}-plain"),
        nas("resume", f"runs/{name}-plain"),
    ]
    assert [answer.code for answer in said] == [0, 0, 0, 0, 0, 0, 2, 1, 1, 2, 2, 2]
    assert "passwords are never kept" in said[-1].err
    assert nas("resume", f"runs/{name}-plain", "--storage", plain).code == 0
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    shown = "".join(answer.out + answer.err for answer in said)
    for secret in (postgres.PASSWORD, quote(postgres.PASSWORD, safe=""), quote_plus(postgres.PASSWORD)):
        assert secret not in shown
        assert secret.encode() not in written
    assert b"${NAS_TEST_PASSWORD}" in (tmp_path / "runs" / name / "config.json").read_bytes()

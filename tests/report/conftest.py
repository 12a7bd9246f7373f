"""Runs that reports are written of, and a browser that opens them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from html import unescape

import pytest
from report_runs import search

from nas.report.html import report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Three runs that differ in seed, and a random search."""
    place = tmp_path_factory.mktemp("runs")
    found = [search(place / f"seed{seed}", seed) for seed in range(3)]
    return [*found, search(place / "random", 0, ["strategy=random"])]


@pytest.fixture(scope="session")
def page(runs):
    """The report of the first run, held against the random search."""
    return report(runs[0], [runs[-1]])


@pytest.fixture
def browse(tmp_path):
    """Open a page in headless Chromium, run a script in it, and give what the script returns."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"needs a browser on the path: {', '.join(BROWSERS)}")

    def open_page(text, script, width=1200):
        watch = (
            "<script>window.wrong = []; addEventListener('error', e => wrong.push(e.message));"
            "for (const level of ['error', 'warn']) console[level] = (...a) => wrong.push(a.join(' '));"
            "</script>"
        )
        ask = (
            "<script>drawn.then(async () => {"
            f"const found = await (async () => {{{script}}})();"
            "found.wrong = wrong; found.loaded = performance.getEntriesByType('resource').map(r => r.name);"
            "const pre = document.createElement('pre'); pre.id = 'found';"
            "pre.textContent = JSON.stringify(found); document.body.append(pre);"
            "}).catch(e => { document.body.append('FAILED ' + e.stack); });</script>"
        )
        page = tmp_path / "page.html"
        text = text.replace("<head>", f"<head>{watch}", 1)
        page.write_text(text.replace("</body>", f"{ask}</body>"), encoding="utf-8")
        start = time.perf_counter()
        done = subprocess.run(
            [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
             "--virtual-time-budget=10000", "--dump-dom", page.as_uri()],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        answer = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
        assert answer, done.stdout[-2000:] + done.stderr[-2000:]
        return {**json.loads(unescape(answer[1])), "seconds": time.perf_counter() - start}

    return open_page

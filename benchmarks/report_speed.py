"""How long does a report of 5,000 trials take to write and to open, and how large is it?

Claims, on the space of NAS-Bench-201 (graphs, six decisions) with two goals, a limit and failures: the page
is at most 15 MB, and opens in at most 3 s in headless Chromium without a graphics card: from the start of
loading until the front is drawn, by the browser's own clock. Other plots are drawn when they come near to
what is seen; when all are, if that is asked for at once, is shown beside it. Needs a Chromium on the path.
About 6 minutes on two cores, most of it for making the runs.

    python benchmarks/report_speed.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import re
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from record import record

from nas import Budget, FunctionEvaluator
from nas.parts import Parts, Search
from nas.report.html import report
from nas.result import Result
from nas.rng import derive
from nas.run import Run

if TYPE_CHECKING:
    from nas.architecture import Architecture

SEEDS = range(5)
TRIALS = 5_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WEIGHTS = {"nor_conv_3x3": 9, "nor_conv_1x1": 3, "avg_pool_3x3": 1}
CLOCK = """<script>
drawn.then(drawAll).then(() => requestAnimationFrame(() => {
  const at = name => performance.getEntriesByName(name)[0].startTime;
  console.log(`DRAWN ${at("front")} ${at("all")}`);
}));
</script>"""


def measure(architecture: Architecture) -> dict[str, float]:
    """A score that grows with the size, with scatter, and a failure now and then."""
    luck = derive(0, "luck", architecture.key) % 10_000 / 10_000
    if luck < 0.02:
        raise ValueError("out of luck")
    size = sum(WEIGHTS.get(str(op), 0) for op in architecture.values())
    return {
        "score": 0.5 + 0.4 * (size / 54) ** 0.5 + 0.1 * luck,
        "cost": 1 + size + luck,
        "size": float(size),
    }


def searched(folder: Path, seed: int) -> Result:
    """A finished run of 5,000 trials."""
    search = Search(
        space="nasbench201",
        task="digits",
        objectives="max score, min cost, limit size <= 40",
        evaluators=[FunctionEvaluator(measure, ("score", "cost", "size"))],
        strategy={"name": "random"},
        memo="architecture",
        budget=Budget(trials=TRIALS),
        seed=seed,
    )
    run = Run(search, folder)
    try:
        run.search()
    finally:
        run.close()
    return Result(Parts(search, folder), run.history, folder)


def opened(page: Path, browser: str) -> tuple[float, float]:
    """Seconds until the front is drawn, and until every plot is."""
    text = page.read_text(encoding="utf-8")
    copy = page.with_name("timed.html")
    copy.write_text(text.replace("</body>", f"{CLOCK}</body>"), encoding="utf-8")
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", "--enable-logging=stderr", copy.as_uri()]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr is not None
            try:
                for line in running.stderr:
                    found = re.search(r"DRAWN ([\d.]+) ([\d.]+)", line)
                    if found:
                        return float(found[1]) / 1e3, float(found[2]) / 1e3
            finally:
                running.terminate()
    raise RuntimeError("the browser ended before the plots were drawn")


def main() -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"needs a browser on the path: {', '.join(BROWSERS)}")
    rows = []
    with TemporaryDirectory() as place:
        for seed in SEEDS:
            result = searched(Path(place) / f"seed{seed}", seed)
            start = time.perf_counter()
            page = result.folder / "report.html"
            page.write_text(report(result), encoding="utf-8")
            write_s, size = time.perf_counter() - start, page.stat().st_size
            front_s, all_s = opened(page, browser)
            rows.append({"write_s": write_s, "mb": size / 1e6, "front_s": front_s, "all_s": all_s})
            print({name: round(value, 2) for name, value in rows[-1].items()}, flush=True)
    figures = {name: round(median(row[name] for row in rows), 3) for name in rows[0]}
    worst = {f"worst_{name}": round(max(row[name] for row in rows), 3) for name in rows[0]}
    version = subprocess.run(
        [browser, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    print(
        f"front drawn after {figures['front_s']} s (bar: at most 3 s), all plots after {figures['all_s']} s, "
        f"{figures['mb']} MB (bar: at most 15 MB)"
    )
    record(
        "report_speed",
        {"trials": TRIALS, "load": os.getloadavg(), "browser": version, **figures, **worst},
        list(SEEDS),
    )


if __name__ == "__main__":
    main()

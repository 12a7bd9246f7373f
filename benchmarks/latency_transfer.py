"""Does a device follow from a few nets measured on it better than by ridge regression on other devices?

    python benchmarks/latency_transfer.py

The devices of HELP (Lee et al. 2021) on NAS-Bench-201 and FBNet, each the target in turn, predicted from the
full tables of the others and from k nets measured on it, 10 seeds. All GTX and Titan cards at all batch
sizes are one family, which is left out together. Networks of NAS-Bench-201 whose Pixel 3 reading is below
1 ms are left out on all devices: the phone folded cells that carry nothing. Every figure is on the same 2,000
random nets that were not measured, a mean over devices and seeds.

``ours`` is `nas.kernels.transfer` with the nets it chooses. Beside it:

* ``ridge``: ridge regression on z-scored log predictions of the sources (a linear model of each source on
  one-hot encodings, fitted to its whole table), on k random nets; ``_loo`` with the penalty by leave-one-out
  errors, ``_1`` with penalty 1, ``_table`` on the sources' tables instead of predictions. ``chosen_…`` are
  the same on our nets.
* ``counts``: ridge regression on operation counts from scratch; ``nearest``: the source that correlates best
  on the k nets, scaled to them; ``macs``: multiply-accumulates of FBNet's blocks and of NAS-Bench-201's
  cells, scaled by their median.

``coverage`` is the share of nets within the 90 % interval. Fewer than 10 nets have no 90 % quantile of their
own errors, so that with 5 the interval rests on the sources alone. About 3 minutes on one core.
"""

from __future__ import annotations

import csv
import gzip
import re
from typing import Any

import numpy as np
from imported import data_folder
from record import record
from scipy.stats import rankdata

from nas.kernels.device_prior import Sources
from nas.kernels.transfer import Transfer
from nas.rng import stream

KS = (5, 10, 20, 100)
SEEDS = range(10)
TESTED = 2000
FOLDED_MS = 1.0
GPUS = ("1080ti", "titanx", "titanxp")
OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
HELP_K10 = {
    "titan_rtx_256": 0.987, "gold_6226": 0.989, "fpga": 0.985, "pixel2": 0.802, "raspi4": 0.890,
    "eyeriss": 0.940, "mean": 0.932,
}  # fmt: skip
"""Published for HELP with k = 10 on NAS-Bench-201: other devices than those at hand, whose GPUs had GPUs
among their sources."""


def family(device: str) -> str:
    """All cards of one maker are one."""
    return "geforce" if device.rpartition("_")[0] in GPUS else device


def nasbench201() -> dict[str, Any]:
    """Choices (n, 6), options, devices and milliseconds, and multiply-accumulates."""
    folder = data_folder()
    with gzip.open(folder / "nasbench201" / "nb201.csv.gz", "rt") as file:
        cells = [re.findall(r"([a-z0-9_]+)~\d", row["arch"]) for row in csv.DictReader(file)]
    choices = np.array([[OPS.index(op) for op in cell] for cell in cells])
    found = dict(np.load(folder / "latency_devices" / "help_nb201_latency_ms.npz"))
    kept = found["pixel3"] >= FOLDED_MS
    # A 3x3 convolution does nine times the work of a 1x1 one; all of a stage have equal shapes.
    macs = 1.0 + (choices == 2).sum(axis=1) + 9.0 * (choices == 3).sum(axis=1)
    ms = np.stack(list(found.values()), axis=1)
    return {
        "choices": choices[kept], "options": 5, "devices": list(found), "ms": ms[kept], "macs": macs[kept],
        "left_out": int((~kept).sum()),
    }  # fmt: skip


FBNET = ((3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1))
"""Kernel, expansion and groups of FBNet's blocks; the ninth is a skip."""
LAYERS = [
    (16, 16, 1, 112), (16, 24, 2, 112), *[(24, 24, 1, 56)] * 3, (24, 32, 2, 56), *[(32, 32, 1, 28)] * 3,
    (32, 64, 2, 28), *[(64, 64, 1, 14)] * 3, (64, 112, 1, 14), *[(112, 112, 1, 14)] * 3, (112, 184, 2, 14),
    *[(184, 184, 1, 7)] * 3, (184, 352, 1, 7),
]  # fmt: skip
"""Channels in and out, stride and side of FBNet's 22 layers (Wu et al. 2019, table 1)."""


def fbnet() -> dict[str, Any]:
    """As `nasbench201`, with choices (5000, 22)."""
    found = dict(np.load(data_folder() / "latency_devices" / "help_fbnet_latency_ms.npz"))
    choices = found.pop("arch").astype(int)
    work = np.array([[block_macs(*layer, option) for option in range(9)] for layer in LAYERS])
    macs = work[np.arange(22), choices].sum(axis=1)
    ms = np.stack(list(found.values()), axis=1)
    return {"choices": choices, "options": 9, "devices": list(found), "ms": ms, "macs": macs, "left_out": 0}


def block_macs(inputs: int, outputs: int, stride: int, side: int, option: int) -> float:
    """Multiply-accumulates of a block: expansion, depthwise convolution, projection."""
    if option == 8:
        return 0.0 if inputs == outputs and stride == 1 else inputs * outputs * (side // stride) ** 2
    kernel, expansion, groups = FBNET[option]
    middle, after = inputs * expansion, (side // stride) ** 2
    return inputs * middle / groups * side**2 + middle * kernel**2 * after + middle * outputs / groups * after


def ridge(x: np.ndarray, y: np.ndarray, at: np.ndarray, penalties: Any = (1.0,)) -> np.ndarray:
    """Predictions with the penalty that has the least leave-one-out error."""
    middle = x.mean(axis=0)
    u, s, vt = np.linalg.svd(x - middle, full_matrices=False)
    z = u.T @ (y - y.mean())
    best = (np.inf, np.zeros(x.shape[1]))
    for penalty in penalties:
        shrunk = s**2 / (s**2 + penalty)
        leverage = (u**2 * shrunk).sum(axis=1) + 1.0 / len(y)
        error = float((((y - y.mean() - u @ (shrunk * z)) / np.maximum(1 - leverage, 1e-6)) ** 2).mean())
        best = min(best, (error, vt.T @ (s / (s**2 + penalty) * z)), key=lambda pair: pair[0])
    return (at - middle) @ best[1] + y.mean()


def scored(x: np.ndarray) -> np.ndarray:
    spread = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def nearest(logs: np.ndarray, nets: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    agreement = [np.corrcoef(logs[nets, j], y)[0, 1] for j in range(logs.shape[1])]
    source = logs[:, int(np.nanargmax(agreement))] if np.isfinite(agreement).any() else logs[:, 0]
    return source[at] + np.median(y - source[nets])


PENALTIES = np.logspace(-3, 3, 25)


def compared(
    data: dict[str, Any], target: int, transfer: Transfer, sources: dict[str, np.ndarray], k: int, seed: int
) -> dict[str, dict[str, float]]:
    """Every method on one device, k and seed."""
    rng = stream(seed, "latency transfer", data["devices"][target], k)
    n, ms = len(data["ms"]), data["ms"][:, target].astype(float)
    drawn, chosen = rng.choice(n, k, replace=False), np.array(transfer.choose(k, rng))
    at = np.setdiff1d(rng.permutation(n)[: TESTED + 200], np.concatenate([drawn, chosen]))[:TESTED]
    ours = transfer.predict(chosen, ms[chosen], at)
    found = {"ours": {**figures(ours.ms, ms[at]), **interval(ours, ms[at])}}
    same = transfer.predict(drawn, ms[drawn], at)
    found["ours_random_nets"] = {**figures(same.ms, ms[at]), **interval(same, ms[at])}
    for prefix, nets in (("", drawn), ("chosen_", chosen)):
        y, p, t = np.log(ms[nets]), sources["predictions"], sources["tables"]
        logs = {
            "ridge_loo": ridge(p[nets], y, p[at], PENALTIES),
            "ridge_1": ridge(p[nets], y, p[at]),
            "ridge_table_loo": ridge(t[nets], y, t[at], PENALTIES),
            "ridge_table_1": ridge(t[nets], y, t[at]),
            "counts": ridge(sources["counts"][nets], y, sources["counts"][at], PENALTIES),
            "nearest": nearest(sources["logs"], nets, y, at),
        }
        found |= {prefix + name: figures(np.exp(guess), ms[at]) for name, guess in logs.items()}
    macs = data["macs"]
    found["macs"] = figures(macs[at] * np.median(ms[drawn] / macs[drawn]), ms[at])
    return found


def figures(guess: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    error = np.abs(guess / truth - 1.0)
    ranks = np.corrcoef(rankdata(guess), rankdata(truth))[0, 1] if np.ptp(guess) > 0 else 0.0
    return {
        "spearman": float(ranks),
        "within_10_percent": float((error <= 0.1).mean()),
        "mape": float(error.mean()),
    }


def interval(ours: Any, truth: np.ndarray) -> dict[str, float]:
    inside = (ours.low_ms <= truth) & (truth <= ours.high_ms)
    return {"coverage": float(inside.mean()), "width": float(np.median(ours.high_ms / ours.low_ms))}


def space(name: str, data: dict[str, Any], seeds: Any = SEEDS) -> dict[str, Any]:
    """Means over devices and seeds by k and method, and by device for ours and the ridge."""
    hot = (data["choices"][:, :, None] == np.arange(data["options"])).astype(float)
    counts, hot = hot.sum(axis=1), hot.reshape(len(hot), -1)
    found: dict[int, dict[str, list[dict[str, Any]]]] = {k: {} for k in KS}
    made: dict[str, tuple[Transfer, dict[str, np.ndarray]]] = {}
    for target, device in enumerate(data["devices"]):
        own = family(device)
        if own not in made:
            others = [i for i, d in enumerate(data["devices"]) if family(d) != own]
            ms = data["ms"][:, others].astype(float)
            names = [family(data["devices"][i]) for i in others]
            logs = np.log(ms)
            x = np.c_[np.ones(len(hot)), hot]
            fitted = scored(x @ np.linalg.lstsq(x, logs, rcond=None)[0])
            tables, each = scored(logs), scored(counts)
            made[own] = (
                Transfer(Sources(ms, names, hot, counts), stream(0, "latency transfer", name, own)),
                {"predictions": fitted, "tables": tables, "logs": logs, "counts": each},
            )
        for k in KS:
            for seed in seeds:
                for method, row in compared(data, target, *made[own], k, seed).items():
                    found[k].setdefault(method, []).append({"device": device, **row})
        print(name, device, {k: round(mean(found[k]["ours"], device), 3) for k in KS}, flush=True)
    return {
        "networks": len(hot),
        "left_out": data["left_out"],
        "mean": {k: {m: means(rows) for m, rows in found[k].items()} for k in KS},
        "spearman_by_device": {
            device: {
                k: {m: mean(found[k][m], device) for m in ("ours", "ridge_loo", "ridge_1", "nearest")}
                for k in KS
            }
            for device in data["devices"]
        },
    }


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name != "device"}


def mean(rows: list[dict[str, Any]], device: str) -> float:
    return float(np.mean([row["spearman"] for row in rows if row["device"] == device]))


def main() -> None:
    found = {name: space(name, make()) for name, make in (("nasbench201", nasbench201), ("fbnet", fbnet))}
    for name, result in found.items():
        for k in KS:
            row = result["mean"][k]
            print(name, k, {m: round(v["spearman"], 4) for m, v in row.items()})
            print(name, k, {m: round(v, 3) for m, v in row["ours"].items()})
    covered = [r["mean"][k]["ours"]["coverage"] for r in found.values() for k in KS]
    print("coverage", float(np.mean(covered)), "HELP, published, k = 10:", HELP_K10)
    found["coverage"] = {"mean": float(np.mean(covered))}
    found["help_published_k10"] = HELP_K10
    record("latency_transfer", found, seeds=SEEDS)


if __name__ == "__main__":
    main()

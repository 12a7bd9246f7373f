"""How well are times of single operations predicted on a GPU, known or new?

    python benchmarks/op_latency.py

Public timings of P4, P100, T4 and A100 (the data folder's ``gpu_ops``), split by configuration: a fifth of
the different operations is held out, on all devices alike, so that no configuration is ever on both sides.

* ``held_out``: models fitted to the other four fifths on the same device, beside the roofline and
  a + c·roofline (two numbers fitted by kind and device).
* ``new_device``: each device in turn is left out; models of the three others and k ∈ {0, 20, 100} timings on
  it predict its held-out operations. Each seed draws 1,000 of the four fifths, of which k are timed that are
  spread over them (`plan`, which sees no timing). Beside it the model of k random ones
  (``model_of_random``), and the planned k timings as one common factor on the others' mean (``factor``) and
  as a + c·roofline (``line``).

MAPE in %, mean over devices and seeds. The timings of convolutions drift: on every device the same operation
took 0.3 to 0.7 ms longer at the end of a session than at its start. The models estimate that from the rows'
positions and leave it out of predictions; here it is added back by each held-out row's position, since that
is what was measured. ``conv, drift ignored`` are the figures of models that know nothing of it.

One core, about 8 minutes.
"""

from __future__ import annotations

import dataclasses
import time
from functools import cache

import numpy as np
from imported import data_folder
from record import record

from nas.kernels.op_table import GPU_OPS, read_gpu_ops
from nas.kernels.op_transfer import described, plan, transfer
from nas.kernels.predictor import OpModels, fit_line, fit_op, held
from nas.kernels.roofline import roofline_ms

DEVICES = tuple(GPU_OPS)
SEEDS = (1, 2, 3)
SPLIT = 1
SAMPLES = (0, 20, 100)
POOL = 1000
"""Operations among which those to be timed on a new device are chosen."""
OTHERS = ("softmax", "layer_norm", "relu", "gelu", "add")
BARS = {
    "held_out": {"conv2d": 12.0, "linear": 9.0, "bmm": 7.0, "others": 3.5},
    "new_device_100": {"conv2d": 14.0, "linear": 13.0, "bmm": 13.0, "others": 6.0},
}


@cache
def table(device: str, ignore_drift: bool):
    whole = read_gpu_ops(data_folder() / "gpu_ops", device)
    return dataclasses.replace(whole, position=np.zeros(len(whole.ops))) if ignore_drift else whole


@cache
def split_names(name: str):
    """The held-out operations of a kind, among those of all devices."""
    ops = [op for device in DEVICES for op in table(device, False).ops if op.name == name]
    return {op for op, out in zip(ops, held(ops, SPLIT, 0.2).tolist(), strict=True) if out}


@cache
def sides(device: str, name: str, ignore_drift: bool):
    """(Fitted to, held out) rows of a kind."""
    whole = table(device, ignore_drift)
    some = whole.only(np.array([op.name == name for op in whole.ops]))
    out = np.array([op in split_names(name) for op in some.ops])
    return some.only(~out), some.only(out)


def mape(predicted, truth) -> float:
    return 100 * float(np.abs(predicted / truth - 1).mean())


@cache
def fitted(device: str, name: str, ignore_drift: bool) -> OpModels:
    train, _ = sides(device, name, ignore_drift)
    model = fit_op(train, 0)
    return OpModels(device, "float32", "eager", train.rates, {(train.ops[0].family, name): model})


def others(device: str, name: str, ignore_drift: bool) -> list[OpModels]:
    return [fitted(d, name, ignore_drift) for d in DEVICES if d != device]


@cache
def seen(device: str, name: str, ignore_drift: bool):
    """What the models of other devices say of held-out operations."""
    _, out = sides(device, name, ignore_drift)
    return described(others(device, name, ignore_drift), out.ops, out.rates)


def on_same_device(models: OpModels, name: str, ignore_drift: bool) -> dict[str, float]:
    train, out = sides(models.device, name, ignore_drift)
    (model,) = models.models.values()
    roof = roofline_ms(out.ops, out.rates)
    a, c = fit_line(roofline_ms(train.ops, train.rates), train.median_ms)
    return {
        "model": mape(model.predict(out.ops, out.rates)[0] + model.drift * out.position, out.median_ms),
        "line": mape(a + c * roof, out.median_ms),
        "roofline": mape(roof, out.median_ms),
    }


def on_new_device(device: str, name: str, k: int, seed: int, ignore_drift: bool) -> dict[str, float]:
    train, out = sides(device, name, ignore_drift)
    sources = others(device, name, ignore_drift)
    base, at = seen(device, name, ignore_drift)
    if not k:
        return {"model": mape(np.exp(base), out.median_ms)}
    pool = train.only(np.random.default_rng(seed).permutation(len(train.ops))[:POOL])
    few = pool.only(plan(sources, pool.ops, pool.rates, k, seed))
    models = {"model": few, "model_of_random": pool.only(np.arange(k))}
    figures = {}
    for label, rows in models.items():
        found = transfer(sources, rows, out.rates, seed)
        figures[label] = mape(found.corrected(base, at) + found.drift * out.position, out.median_ms)
    factor = float(np.median(few.median_ms / np.exp(described(sources, few.ops, few.rates)[0])))
    a, c = fit_line(roofline_ms(few.ops, few.rates), few.median_ms)
    figures["factor"] = mape(factor * np.exp(base), out.median_ms)
    figures["line"] = mape(a + c * roofline_ms(out.ops, out.rates), out.median_ms)
    return figures


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(float(np.mean([row[key] for row in rows])), 2) for key in rows[0]}


def of_kind(name: str, ignore_drift: bool) -> dict[str, object]:
    models = {device: fitted(device, name, ignore_drift) for device in DEVICES}
    same = {device: on_same_device(models[device], name, ignore_drift) for device in DEVICES}
    figures: dict[str, object] = {"held_out": mean(list(same.values())), "held_out_by_device": same}
    (kind,) = models[DEVICES[0]].models
    figures["drift_ms"] = {d: round(m.models[kind].drift, 3) for d, m in models.items()}
    for k in SAMPLES:
        rows = {}
        for device in DEVICES:
            seeds = SEEDS if k else SEEDS[:1]
            rows[device] = mean([on_new_device(device, name, k, s, ignore_drift) for s in seeds])
        figures[f"new_device_{k}"] = mean(list(rows.values()))
        figures[f"new_device_{k}_by_device"] = rows
    return figures


def main() -> None:
    began = time.process_time()
    figures = {}
    for name in ("conv2d", "linear", "bmm", *OTHERS):
        figures[name] = of_kind(name, ignore_drift=False)
        show(name, figures[name])
    figures["conv2d, drift ignored"] = of_kind("conv2d", ignore_drift=True)
    show("conv2d, drift ignored", figures["conv2d, drift ignored"])
    keys = ["held_out", *(f"new_device_{k}" for k in SAMPLES)]
    figures["others"] = {key: mean([figures[name][key] for name in OTHERS]) for key in keys}
    figures["others_worst"] = {key: max(figures[name][key]["model"] for name in OTHERS) for key in keys}
    show("others", figures["others"])
    for setting, bars in BARS.items():
        for name, bar in bars.items():
            print(f"{setting:<16}{name:<8}{figures[name][setting]['model']:>7.2f} %   bar <= {bar}")
    figures["bars"], figures["cpu_minutes"] = BARS, (time.process_time() - began) / 60
    print(record("op_latency", figures, SEEDS))


def show(name: str, figures) -> None:
    keys = ["held_out", *(f"new_device_{k}" for k in SAMPLES)]
    print(name, {key: figures[key] for key in keys}, figures.get("drift_ms", ""), flush=True)


if __name__ == "__main__":
    main()

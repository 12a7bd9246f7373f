"""HW-GPT-Bench, scale s: 10,000 language models with perplexities, and their costs on 14 devices."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import must
from nas.tables.draft import Draft
from nas.tables.sources import checksum, found, no_part

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = 12
FETCH = (
    "hw_gpt_s.parquet, converted from HW-GPT-Bench (Sukthanker et al. 2024); "
    "its own files are pickles, which are not read"
)
_GPUS = ("p100", "v100", "a100", "a40", "a6000", "h100", "rtx2080", "rtx3080")


def load(path: Path, part: str | None = None) -> Draft:
    """Read the parquet file of the data folder.

    Raises:
        BadInput: the file is missing or damaged, or pyarrow is not installed.
    """
    no_part(part, "hw_gpt_bench")
    file = found(path, ("hw_gpt_bench/hw_gpt_s.parquet", "hw_gpt_s.parquet"), FETCH)
    columns = _columns(file)
    heads = [list(map(int, text.split())) for text in columns["n_head"]]
    ratios = [list(map(int, text.split())) for text in columns["mlp_ratio"]]
    decisions: dict[str, Any] = {"embed_dim": columns["embed_dim"], "bias": columns["bias"]}
    decisions["layer.count"] = columns["n_layer"]
    for i in range(LAYERS):
        decisions[f"layer.{i}.heads"] = [h[i] if i < len(h) else None for h in heads]
        decisions[f"layer.{i}.mlp_ratio"] = [r[i] if i < len(r) else None for r in ratios]
    draft = Draft(
        "hw_gpt_bench/s",
        "Sukthanker et al. 2024 (HW-GPT-Bench)",
        {file.name: checksum(file)},
        decisions,
        notes=["perplexity and accuracy are those of inherited supernet weights"],
    )
    draft.add("perplexity", np.array(columns["ppl"]))
    draft.add("next_token_accuracy", np.array(columns["acc"]))
    draft.add("params", np.array(columns["params"]), nature="static")
    draft.add("flops", np.array(columns["flops"]), nature="static")
    _devices(draft, {name.lower(): values for name, values in columns.items()})
    return draft


def _devices(draft: Draft, columns: dict[str, Any]) -> None:
    for gpu in _GPUS:
        draft.add(f"{gpu}_latency_ms", np.array(columns[f"{gpu}_gpu_lat_ms"]), "ms", "static")
        energy = np.array(columns[f"{gpu}_gpu_energy_wh"])
        draft.add(f"{gpu}_energy_wh", energy, "Wh", "static")
    for name, values in columns.items():
        if name.endswith("_cpu_lat_ms"):
            cpu = name.removesuffix("_cpu_lat_ms").removeprefix("cpu_")
            draft.add(f"{cpu}_cpu_latency_ms", np.array(values), "ms", "static")
        elif name.endswith("_mem_mb"):
            draft.add(f"{name.removesuffix('_mem_mb')}_memory_mb", np.array(values), "MB", "static")


def _columns(file: Path) -> dict[str, Any]:
    try:
        parquet, errors = import_module("pyarrow.parquet"), import_module("pyarrow").ArrowException
    except ImportError:
        raise must("pyarrow", "be installed to read parquet", None, "pip install pyarrow") from None
    try:
        columns: dict[str, Any] = parquet.read_table(file).to_pydict()
    except errors as error:
        raise must(str(file), "be a parquet file", str(error), f"fetch {FETCH}") from error
    missing = {"embed_dim", "n_layer", "n_head", "mlp_ratio", "bias", "ppl"} - set(columns)
    if missing:
        raise must(str(file), f"have the column {min(missing)}", ", ".join(columns), f"fetch {FETCH}")
    return columns

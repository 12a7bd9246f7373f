"""A folder that measures networks on another machine: models, inputs, and one program that times them."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from nas.errors import must
from nas.kernels.capture import Call, Trace
from nas.kernels.op import Op
from nas.kernels.runners.onnx_graph import exported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from nas.target import Target

SCHEMA = 1
MANIFEST, INPUTS, TRACES, PROGRAM, RESULT = (
    "manifest.json", "inputs.npz", "traces.json", "measure.py", "result.json",
)  # fmt: skip


@final
@dataclass(frozen=True)
class Item:
    """A network to be packed.

    Args:
        name: its file's name without the ending.
        module: with weights, in evaluation mode.
        example: input, shape (batch, ...).
        trace: its operations.
    """

    name: str
    module: nn.Module
    example: Tensor
    trace: Trace


def pack(folder: Path, target: Target, items: Sequence[Item]) -> Path:
    """Write networks, inputs, their hashes and the program.

    Args:
        folder: made where it is not there; files of an earlier pack are written over.
        target: the machine it is for.
        items: at least one.

    Returns:
        The manifest.

    Raises:
        BadInput: there is none, or the target's backend or dtype is one that the program does not run.
        Unsupported: a module cannot be exported.
    """
    if not items:
        raise must("the networks to pack", "be at least one", 0)
    if target.backend != "onnxruntime":
        raise must("target.backend", "be onnxruntime to be measured elsewhere", target.backend)
    if target.dtype != "float32":
        raise must("target.dtype", "be float32 to be measured elsewhere", target.dtype)
    models = {item.name: exported(item.module, item.example) for item in items}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    nets = []
    for name, model in models.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(model)
        nets.append({"name": name, **_entry(path)})
    np.savez(folder / INPUTS, allow_pickle=False, **{i.name: i.example.numpy() for i in items})
    _write(folder / TRACES, {item.name: _record(item.trace) for item in items})
    shutil.copyfile(Path(__file__).with_name(PROGRAM), folder / PROGRAM)
    manifest = {
        "schema": SCHEMA,
        "target": target.name,
        "dtype": target.dtype,
        "backend": target.backend,
        "batch_size": target.batch_size,
        "threads": target.threads,
        "nets": nets,
        "inputs": _entry(folder / INPUTS),
        "traces": _entry(folder / TRACES),
    }
    return _write(folder / MANIFEST, manifest)


def traces_of(folder: Path) -> dict[str, Trace]:
    """The operations of packed networks by their names.

    Raises:
        BadInput: the file is not there, or not the one that was packed.
    """
    path = folder / TRACES
    manifest = read_json(folder / MANIFEST)
    if not path.is_file() or sha256(path) != manifest["traces"]["sha256"]:
        raise must(str(path), "be as it was packed", "another file or none", "pack and measure again")
    return {name: _trace(record) for name, record in read_json(path).items()}


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        BadInput: there is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise must(
            str(path), "be a JSON file", "no such file" if not path.exists() else "other text"
        ) from None


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _entry(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}


def _write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def _record(trace: Trace) -> dict[str, Any]:
    """JSON values of a trace."""
    calls = [{"op": call.op.record(), "inputs": call.inputs} for call in trace.calls]
    rest = {name: getattr(trace, name) for name in ("weight_bytes", "activation_bytes", "outputs")}
    return {"calls": calls, **rest}


def _trace(record: Mapping[str, Any]) -> Trace:
    calls = tuple(
        Call(Op(**{**call["op"], "shape": tuple(call["op"]["shape"])}), tuple(call["inputs"]))
        for call in record["calls"]
    )
    return Trace(calls, record["weight_bytes"], record["activation_bytes"], tuple(record["outputs"]))


def diverse(traces: Sequence[Trace], count: int) -> list[int]:
    """Numbers of ``count`` traces that lie far from each other.

    Each next one is the farthest from those chosen, in standardised logarithms of arithmetic, bytes, and
    calls by family; the first is the nearest to the mean.

    Source: Gonzalez 1985, "Clustering to minimize the maximum intercluster distance" (farthest-first).
    """
    families = sorted({call.op.family for trace in traces for call in trace.calls})
    at = np.log1p([_amounts(trace, families) for trace in traces])
    at = (at - at.mean(axis=0)) / (at.std(axis=0) + 1e-9)
    chosen = [int(np.argmin(np.linalg.norm(at, axis=1)))]
    while len(chosen) < min(count, len(traces)):
        gaps = np.min([np.linalg.norm(at - at[i], axis=1) for i in chosen], axis=0)
        gaps[chosen] = -1.0
        chosen.append(int(np.argmax(gaps)))
    return chosen


def _amounts(trace: Trace, families: Sequence[str]) -> list[float]:
    counts = [sum(call.op.family == family for call in trace.calls) for family in families]
    return [trace.flops, sum(call.op.bytes for call in trace.calls), trace.weight_bytes, *counts]

"""The machine that latency, memory and energy refer to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeAlias, final

from nas.errors import must, unknown

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = ("float32", "float16", "bfloat16", "int8")
"""Number formats of weights and activations."""
PROVENANCES = ("measured", "calibrated", "datasheet")
ELSEWHERE = "elsewhere"
"""Device of a target on which nothing can be run from here."""
FACTOR = 2.0
"""Time and energy predicted from a datasheet alone are taken to lie within this factor of the truth."""


@final
@dataclass(frozen=True)
class Target:
    """A named profile of a machine and of how it runs a module.

    Args:
        name: as in ``nas list targets``.
        device: torch device on which measured metrics run, such as ``cpu`` or ``cuda:0``; ``elsewhere`` for
            a machine that is not this one.
        dtype: ``float32``, ``float16``, ``bfloat16`` or ``int8``; among ``peak_flops`` where there are some.
        batch_size: inputs per run, at least 1.
        threads: CPU threads of a run, at least 1.
        provenance: what stands behind its times: ``measured`` (they are clock readings), ``calibrated``
            (predictions fitted to nets that were measured on it) or ``datasheet``.
        backend: what runs the module, such as ``eager`` or ``onnxruntime``.
        description: the machine in words.
        gpu: what CUDA's name of the device must hold, so that nothing is measured on another one.
        peak_flops: floating-point (for int8, integer) operations per second by dtype, dense.
        bandwidth: of the main memory, bytes per second; 0 when unknown.
        l2_bytes: the last cache before it, or the memory on the chip; 0 when unknown.
        ram_bytes: of the main memory; 0 when unknown.
        multiprocessors: streaming multiprocessors or cores; 0 when unknown.
        limits: the most that a metric may be for a model to run there at all, such as ``model_bytes``.
        op_models: file of models fitted to timings of the machine, as ``nas profile`` writes it; none when
            empty.
        sources: where figures come from, by field.
        unsure: fields whose figures are derived or not confirmed.

    Raises:
        BadInput: a setting is out of range, or the machine does not have the dtype.
    """

    name: str = "host"
    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int = 1
    threads: int = 1
    provenance: str = "measured"
    backend: str = "eager"
    description: str = "the machine the search runs on"
    gpu: str = ""
    peak_flops: Mapping[str, float] = field(default_factory=dict, hash=False)
    bandwidth: float = 0.0
    l2_bytes: float = 0.0
    ram_bytes: float = 0.0
    multiprocessors: int = 0
    limits: Mapping[str, float] = field(default_factory=dict, hash=False)
    op_models: str = ""
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)
    unsure: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in self.dtypes:
            raise must("target.dtype", f"be one of {', '.join(self.dtypes)} on {self.name}", self.dtype)
        for name in ("batch_size", "threads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise must(f"target.{name}", "be a whole number of at least 1", value)
        if self.provenance not in PROVENANCES:
            raise must("target.provenance", "be measured, calibrated or datasheet", self.provenance)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes that it can run."""
        return tuple(self.peak_flops) or DTYPES[:3]

    def band(self, metric: str) -> float | None:
        """The factor within which a metric's values are to be taken; None where they are no guesses."""
        timed = metric.endswith(("_ms", "_mj"))
        return FACTOR if timed and self.provenance == "datasheet" else None


def host(device: str = "cpu", dtype: str = "float32", batch_size: int = 1, threads: int = 1) -> Target:
    """The machine the search runs on."""
    return Target("host", device, dtype, batch_size, threads)


Maker: TypeAlias = Callable[..., Target]


def of_file(path: Path) -> Maker:
    """What makes targets of one machine, described by a YAML file.

    Args:
        path: its keys are fields of `Target`, all but ``batch_size`` and ``threads``, which a search chooses
            together with one of the dtypes; ``name``, ``provenance``, ``peak_flops`` and ``bandwidth``
            must be given; ``op_models`` is looked for beside it.

    Raises:
        BadInput: the file cannot be read, or a key or value is wrong.
    """
    known = _read(path)

    def target(
        dtype: str = known["dtype"],
        batch_size: int = 1,
        threads: int = 1,
        backend: str = known["backend"],
        device: str = known["device"],
    ) -> Target:
        chosen = {"dtype": dtype, "batch_size": batch_size, "threads": threads}
        return Target(**{**known, **chosen, "backend": backend, "device": device})

    target()  # what a target refuses is refused with the file's name
    return target


_CHOSEN = frozenset({"batch_size", "threads"})
_NEEDED = ("name", "provenance", "peak_flops", "bandwidth")
_RATES = ("peak_flops", "limits")
_FIGURES = ("bandwidth", "l2_bytes", "ram_bytes", "multiprocessors")


def _read(path: Path) -> dict[str, Any]:
    """The fields that a file sets, checked, and the defaults of those that a search may change."""
    from nas.yaml12 import read_yaml

    data = read_yaml(path)
    if not isinstance(data, dict):
        raise must(str(path), "map fields of a target to values", data)
    allowed = {f.name for f in fields(Target)} - _CHOSEN
    for name in data:
        if name not in allowed:
            raise unknown(f"key of {path.name}", name, allowed)
    for name in _NEEDED:
        if name not in data:
            raise must(f"{path.name}: {name}", "be given", None)
    _check_figures(path.name, data)
    dtypes = data["peak_flops"]
    if data.get("op_models"):
        data["op_models"] = str(path.parent / data["op_models"])
    defaults = {"dtype": next(iter(dtypes)), "backend": "eager", "device": ELSEWHERE, "description": ""}
    return {**defaults, **data, "unsure": tuple(data.get("unsure", ()))}


def _check_figures(file: str, data: Mapping[str, Any]) -> None:
    """Refuse figures that are no positive numbers, and dtypes that nobody has."""
    for name in _RATES:
        rates = data.get(name, {})
        if not isinstance(rates, dict) or (name == "peak_flops" and not rates):
            raise must(f"{file}: {name}", "map names to numbers", rates)
        for key, value in rates.items():
            _check_positive(f"{file}: {name}.{key}", value)
    for dtype in data["peak_flops"]:
        if dtype not in DTYPES:
            raise unknown(f"dtype in {file}", dtype, DTYPES)
    for name in _FIGURES:
        if name in data:
            _check_positive(f"{file}: {name}", data[name])


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise must(name, "be a positive number", value, "rates and bytes in full, such as 3.35e12")


def companions(path: Path) -> list[Path]:
    """The files that a target's file needs beside it: its models and their header."""
    from nas.yaml12 import read_yaml

    data = read_yaml(path)
    models = data.get("op_models") if isinstance(data, dict) else None
    return [] if not models else [path.parent / models, (path.parent / models).with_suffix(".json")]


def is_file(text: str) -> bool:
    """Whether a target is named by its file."""
    return text.endswith((".yaml", ".yml"))

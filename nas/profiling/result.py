"""What came back from another machine: checked against what was sent, and made a calibrated target."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nas.errors import must
from nas.kernels.models import SHIPPED, models_of
from nas.kernels.predictor import OpModels
from nas.kernels.roofline import Rates
from nas.profiling.calibrated import Measured, composed, errors_of, write_target
from nas.profiling.pack import MANIFEST, SCHEMA, read_json, sha256, traces_of

if TYPE_CHECKING:
    from pathlib import Path

    from nas.target import Target


def imported(
    result: Path, pack: Path, target: Target, out: Path, *, drift: float = 0.1, seed: int = 0
) -> tuple[Path, dict[str, float]]:
    """Calibrate a target by the result of a pack.

    Where models of single operations are known, of the target itself or as its ``op_models``, the measured
    networks fit how they add up; else its roofline is scaled so.

    Args:
        result: file that the packed program wrote.
        pack: folder that it was packed in.
        target: as it was packed for.
        out: folder of the calibrated target.
        drift: the most that the first and the last pass may differ, as a share.
        seed: of the folds behind the intervals.

    Returns:
        The target's file, and `errors_of` the networks.

    Raises:
        BadInput: the result is of other artefacts, another target or schema version, incomplete, or of a
            machine that drifted.
    """
    data = read_json(result)
    manifest = read_json(pack / MANIFEST)
    _check(result, data, pack, manifest, target, drift)
    traces = traces_of(pack)
    nets = [Measured(name, traces[name], row["median_ms"]) for name, row in data["nets"].items()]
    models = composed(_base(target), nets, seed)
    found = errors_of(models, nets)
    about = {"machine": data["machine"], "versions": data["versions"], "date": data["date"]}
    models = replace(models, notes={**models.notes, "whole_networks": found, "measured": about})
    said = f"{len(nets)} networks measured on {data['machine']['processor']}, {data['date']}"
    return write_target(out, models, target, {**target.sources, "provenance": said}), found


def _check(result: Path, data: Any, pack: Path, manifest: Any, target: Target, drift: float) -> None:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else data
        raise must(f"{result}: schema version", f"be {SCHEMA}", found, "measure again with a new pack")
    if data["manifest"] != sha256(pack / MANIFEST):
        remedy = f"give the pack that was measured by --pack, or measure {pack} again"
        raise must(str(result), f"be of the artefacts in {pack}", "a result of other artefacts", remedy)
    if data["target"] != target.name:
        raise must(f"{result}: target", f"be {target.name}", data["target"], "name that one by --target")
    missing = {net["name"] for net in manifest["nets"]} ^ set(data["nets"])
    if missing:
        raise must(f"{result}: nets", "be those of the pack", sorted(missing), "measure again")
    if data["drift"] > drift:
        remedy = "measure again while nothing else runs there, or allow more with --max-drift"
        raise must(
            f"{result}: drift between passes", f"be at most {drift:.0%}", f"{data['drift']:.0%}", remedy
        )


def _base(target: Target) -> OpModels:
    """What is known of the target's operations before its networks were measured."""
    from pathlib import Path

    if target.op_models:
        return replace(OpModels.load(Path(target.op_models)), device=target.name)
    if target.name in SHIPPED and (target.dtype, target.backend) == ("float32", "eager"):
        return models_of(target)
    return OpModels(target.name, target.dtype, target.backend, Rates.of_target(target), {})

"""``nas profile``: measure this machine or another one, and write a target that predictions can trust."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import Json, app, errors, number, print_json, say

if TYPE_CHECKING:
    from nas.kernels.session import Patience
    from nas.profiling.nets import Source
    from nas.target import Target


@app.command("profile")
def profile_command(
    target: Annotated[str, typer.Option(help="name or file of the machine", metavar="NAME")] = "host",
    device: Annotated[str | None, typer.Option(help="cpu, or a CUDA device of this machine")] = None,
    backend: Annotated[str | None, typer.Option(help="eager, onnxruntime or openvino")] = None,
    dtype: Annotated[str | None, typer.Option(help="of weights and activations")] = None,
    plan: Annotated[str, typer.Option(help="quick (minutes) or full (a quarter of an hour)")] = "quick",
    out: Annotated[
        Path | None, typer.Option(help="folder; TARGET-BACKEND when not given", file_okay=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="measure networks of this config's space")] = None,
    seed: Annotated[int, typer.Option(help="of networks, operations and inputs")] = 0,
    max_drift: Annotated[float, typer.Option(help="the most that the clock may drift, as a share")] = 0.1,
    pack: Annotated[
        Path | None, typer.Option(help="write a folder to be measured elsewhere", file_okay=False)
    ] = None,
    nets: Annotated[int, typer.Option(help="networks in it", min=1)] = 20,
    over: Annotated[str | None, typer.Option(help="measure it there now", metavar="ssh://USER@HOST")] = None,
    result: Annotated[Path | None, typer.Option("--import", help="calibrate by a pack's result.json")] = None,
    json: Json = False,
) -> None:
    """Measure a machine and write a calibrated target, for: target: ./FOLDER/target.yaml.

    Here: operations one by one, then whole networks, on one thread; run again, it goes on where it was.
    Elsewhere: --pack writes networks with a program that needs Python and onnxruntime alone; run it over
    there, or have it run by --over, and give what it writes to --import.
    """
    from nas.kernels.session import Patience

    patience = Patience(drift=max_drift)
    if pack is None and result is None:
        asked = _target(target, device=device, backend=backend, dtype=dtype)
        _profile_here(asked, plan, out or Path(f"{asked.name}-{asked.backend}"), config, seed, patience, json)
        return
    elsewhere = _target(target, device=device, backend=backend or "onnxruntime", dtype=dtype)
    if pack is not None and result is None:
        _write_pack(pack, elsewhere, config, nets, seed)
        if over is None:
            say_packed(pack, target, as_json=json)
            return
        from nas.profiling.over import Remote

        result = Remote.of(over).measure(pack)
    if result is not None:
        place = pack or result.parent
        _import(result, place, elsewhere, out or place / "calibrated", patience, json)


def _target(name: str, **settings: str | None) -> Target:
    """The target with what was asked for in the place of its own."""
    from nas import registry

    found: Target = registry.create("target", name)
    given: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    return replace(found, **given)


def _profile_here(
    target: Target, plan: str, out: Path, config: Path | None, seed: int, patience: Patience, as_json: bool
) -> None:
    from nas.profiling.profile import plan_of, profile

    said: dict[str, int] = {}

    def tell(what: str, done: int, of: int) -> None:
        tenth = 10 * done // max(of, 1)
        if not as_json and said.get(what) != tenth:
            said[what] = tenth
            errors.print(f"{what}: {done} of {of}")

    sources = None if config is None else _sources(config)
    found = profile(target, plan_of(plan), out, seed=seed, sources=sources, patience=patience, tell=tell)
    if as_json:
        print_json({**asdict(found), "target": str(found.target)})
        return
    what = f"{target.name} ({target.backend}, {target.dtype})"
    say(f"{found.rows:,} operations and {found.nets} networks of {what}")
    for kind, error in sorted(found.errors.items()):
        say(f"  {kind}: {error:.0%} mean error on operations held out")
    for what, why in (found.skipped | found.left_out).items():
        say(f"  not timed: {what}: {why}")
    if found.repeated:
        say(f"  {found.repeated} parts were timed again because the machine was busy or drifted")
    _say_fitted(found.target, found.fitted)


def _say_fitted(path: Path, found: dict[str, float]) -> None:
    say(f"networks: {found['fitted_mape']:.0%} mean error, interval of 90 % within a factor of "
        f"{number(found['interval_factor'])}")  # fmt: skip
    say(f"target: {path}")


def _sources(config: Path) -> list[Source]:
    """The space of a config, at its task's input size."""
    from nas.config import load, search_of
    from nas.errors import must
    from nas.parts import Parts
    from nas.profiling.nets import Source

    parts = Parts(search_of(*load(config)))
    if parts.task is None:
        raise must(str(config), "have a task, so that the size of inputs is known", None)
    example: Any = parts.task.example(1)
    return [Source("net", parts.space, tuple(example.shape[1:]))]


def _write_pack(folder: Path, target: Target, config: Path | None, count: int, seed: int) -> None:
    from nas.profiling.nets import default_sources, drawn_nets
    from nas.profiling.pack import Item, diverse, pack

    check_pack(folder)
    sources = default_sources() if config is None else _sources(config)
    drawn = drawn_nets(sources, 10 * count, seed, target.batch_size)
    chosen = [drawn[i] for i in diverse([net.trace for net in drawn], count)]
    pack(folder, target, [Item(net.name, net.module(), net.example(), net.trace) for net in chosen])


def check_pack(folder: Path) -> None:
    """Refuse to mix a pack with other files.

    Raises:
        BadInput: the folder holds something else.
    """
    from nas.errors import must
    from nas.profiling.pack import MANIFEST

    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise must("--pack", "be a new folder, or that of an earlier pack", str(folder), "name another one")


def say_packed(folder: Path, target: str, *, as_json: bool) -> None:
    """Say what to do with a folder that was packed for a target."""
    if as_json:
        print_json({"pack": str(folder)})
        return
    say(f"packed in {folder}; copy it to {target} and run there: python3 measure.py")
    say(
        "then bring back result.json and run: "
        f"nas profile --target {target} --import {folder / 'result.json'}"
    )


def _import(result: Path, pack: Path, target: Target, out: Path, patience: Patience, as_json: bool) -> None:
    from nas.profiling.result import imported

    path, found = imported(result, pack, target, out, drift=patience.drift)
    if as_json:
        print_json({"target": str(path), **found})
        return
    _say_fitted(path, found)

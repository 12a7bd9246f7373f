"""YAML files as searches: read strictly, checked with the path of what is wrong, and written as resolved."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nas.budget import Budget
from nas.database import hidden
from nas.errors import BadInput, must
from nas.parts import Search
from nas.yaml12 import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Spec = Annotated[str | dict[str, Any], Field(description="a name, or name:/factory: with settings")]


class BudgetConfig(BaseModel):
    """When to stop; the first limit that is reached ends the search."""

    model_config = ConfigDict(extra="forbid", strict=True)

    trials: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="answers told to the strategy"
    )
    evaluations: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="fresh full evaluations"
    )
    seconds: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="seconds that evaluations report"
    )
    wall_seconds: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="seconds of searching"
    )
    device_seconds: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="seconds of busy places"
    )
    cost: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="money, at price_per_hour for a busy place"
    )


class StopConfig(BaseModel):
    """Ends a search whose front hardly grows."""

    model_config = ConfigDict(extra="forbid", strict=True)

    hypervolume_gain: Annotated[float, Field(gt=0)] = Field(description="least relative gain to go on for")
    over: Annotated[int, Field(gt=0)] = Field(default=100, description="told trials it is looked at over")


class StageConfig(BaseModel):
    """A training of the space's supernet before the search."""

    model_config = ConfigDict(extra="forbid", strict=True)

    strategy: Spec = Field(description="proposes the paths to train: uniform, sandwich, pada, …")
    evaluators: list[Spec] = Field(["paths"], description="the one that takes the steps")
    budget: BudgetConfig | None = Field(default=None, description="ends it earlier than the strategy")


class EarlierConfig(BaseModel):
    """An earlier run that is kept in a database."""

    model_config = ConfigDict(extra="forbid", strict=True)

    storage: str = Field(description="URL of the database, its password as ${VARIABLE}")
    run: str = Field(description="name of the run in it")


class ObjectiveConfig(BaseModel):
    """A metric with a goal and perhaps a bound."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metric: str
    goal: Literal["min", "max", "limit"]
    bound: float | str | None = Field(default=None, description="a number, '<= 2.0', or '>= baseline - 0.01'")


class ExportConfig(BaseModel):
    """What to write of the front when the search ends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    formats: list[str] = Field(["json"], description="as in 'nas export --format'")


@final
class Config(BaseModel):
    """One search as a YAML file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seed: Annotated[int, Field(ge=0)] = Field(0, description="rules everything that is random")
    space: Spec = Field(description="what can be chosen; {join: [space, space]} searches several together")
    task: Spec = Field("digits", description="the data")
    target: Spec = Field("host", description="the machine that latency and memory refer to")
    accept_uncalibrated: bool = Field(
        default=False, description="allow bounds on times that come from a datasheet alone"
    )
    objectives: str | list[ObjectiveConfig | str] = Field(
        "max accuracy", description="such as 'max accuracy, min latency_ms < 2, limit params <= 1e6'"
    )
    baseline: dict[str, Any] | None = Field(
        default=None, description="choices of an architecture, or factory:"
    )
    evaluators: list[Spec] = Field([], description="defaults cover the objectives that these do not")
    strategy: Spec = Field("evolution", description="who proposes")
    stages: list[StageConfig] = Field([], description="trainings of the supernet that come before the search")
    memo: str | dict[str, Any] = Field(
        "functional", description="which answers are shared: functional, a key with settings, or off"
    )
    budget: BudgetConfig = Field(default_factory=lambda: BudgetConfig(trials=64))
    stop: StopConfig | None = Field(default=None, description="ends a search whose front hardly grows")
    price_per_hour: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="money for an hour of a device"
    )
    currency: str = Field("", description="of price_per_hour")
    batch: Annotated[int, Field(gt=0)] | None = Field(default=None, description="trials told together")
    warm_start: str | EarlierConfig | None = Field(
        default=None, description="folder of an earlier run to begin with, or its storage: and run:"
    )
    executor: Spec = Field("here", description="where evaluations run")
    storage: str | None = Field(
        default=None, description="URL of a database that keeps the run, its password as ${VARIABLE}"
    )
    artifacts: str | None = Field(default=None, description="shared folder for weights and exports")
    export: ExportConfig | None = None


DEFAULT_NAMES = {key: f.default for key, f in Config.model_fields.items() if isinstance(f.default, str)}
"""What keys that are left out stand for, such as the task digits."""


def load(path: Path, settings: Sequence[str] = ()) -> tuple[Config, Path]:
    """Read a config file.

    Args:
        path: a YAML or JSON file.
        settings: ``a.b=c`` overrides, values in YAML.

    Returns:
        The config, and the folder its file references start from.

    Raises:
        BadInput: the file cannot be read, or a value is wrong; with its path in the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise must("config", "be a file that can be read", str(path), error.strerror or "") from error
    except UnicodeDecodeError as error:
        raise must("config", "be UTF-8 text", str(path), str(error)) from error
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise must("config", "map keys to values", data, "such as space: conv")
    for setting in settings:
        override(data, setting)
    return validated(data), path.resolve().parent


def validated(data: Mapping[str, Any]) -> Config:
    """The config of plain values.

    Raises:
        BadInput: with the path of the first value that is wrong.
    """
    try:
        return Config.model_validate(dict(data))
    except ValidationError as error:
        raise _bad_input(error) from None


def search_of(config: Config, folder: Path) -> Search:
    """The search that a config describes.

    Raises:
        BadInput: the budget sets no limit.
    """
    objectives = config.objectives
    if not isinstance(objectives, str):
        objectives = [o if isinstance(o, str) else o.model_dump() for o in objectives]  # type: ignore[misc]
    return Search(
        space=config.space,
        objectives=objectives,
        budget=Budget(**config.budget.model_dump(exclude_none=True)),
        stop=None if config.stop is None else config.stop.model_dump(),
        price_per_hour=config.price_per_hour,
        currency=config.currency,
        task=config.task,
        target=config.target,
        accept_uncalibrated=config.accept_uncalibrated,
        evaluators=config.evaluators,
        strategy=config.strategy,
        stages=[stage.model_dump(exclude_none=True) for stage in config.stages],
        memo=config.memo,
        baseline=config.baseline,
        executor=config.executor,
        storage=config.storage,
        artifacts=None if config.artifacts is None else Path(config.artifacts),
        batch=config.batch,
        seed=config.seed,
        warm_start=_earlier(config.warm_start),
        formats=() if config.export is None else config.export.formats,
        folder=folder,
    )


def _earlier(given: str | EarlierConfig | None) -> Path | dict[str, str] | None:
    """Where an earlier run is."""
    if isinstance(given, EarlierConfig):
        return given.model_dump()
    return None if given is None else Path(given)


def resolved(config: Config, folder: Path) -> dict[str, Any]:
    """The config as plain values without passwords, and the folder that its references start from."""
    data = config.model_dump(exclude_none=True)
    if config.storage is not None:
        data["storage"] = hidden(config.storage)
    if isinstance(config.warm_start, EarlierConfig):
        data["warm_start"]["storage"] = hidden(config.warm_start.storage)
    return {"folder": str(folder), "config": data}


def stored(run: Path) -> tuple[Config, Path]:
    """The config that a run was started with, and the folder that its references start from.

    Raises:
        BadInput: the folder holds no run.
    """
    data = _stored(run)
    return validated(data["config"]), Path(data["folder"])


def stored_name(run: Path) -> str | None:
    """The name that a run has in its storage; None where its folder is all there is.

    Raises:
        BadInput: the folder holds no run.
    """
    name: str | None = _stored(run).get("run")
    return name


def _stored(run: Path) -> dict[str, Any]:
    path = run / "config.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if {"config", "folder"} - data.keys():
            raise KeyError("config and folder")
        return dict(data)
    except FileNotFoundError:
        raise must("run", "be a folder made by 'nas search'", str(run)) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise must(str(path), "be as it was written", str(error)) from None


def override(data: dict[str, Any], setting: str) -> None:
    """Set ``a.b=c`` in nested mappings and lists.

    A name such as ``space: conv``, given or by default, grows into a mapping.

    Raises:
        BadInput: it is not of that form, or the path leads through something that has no parts.
    """
    path, equals, text = setting.partition("=")
    *way, last = path.split(".")
    if not equals or not all((*way, last)):
        raise must("--set", "read a.b=value", setting)
    place: Any = data
    for step in way:
        key = _key(place, step, setting)
        inner = place[key] if isinstance(place, list) else place.get(key)
        if inner is None and place is data:
            inner = DEFAULT_NAMES.get(key)
        if isinstance(inner, str) and way[0] != "objectives":
            inner = {"key" if step == "memo" else "name": inner}
        if inner is None:
            inner = {}
        if not isinstance(inner, dict | list):
            raise must("--set", f"lead through mappings and lists, not through {step}", setting)
        place[key] = inner
        place = inner
    place[_key(place, last, setting)] = parse_yaml(text, f"--set {path}")


def _key(place: Mapping[str, Any] | Sequence[Any], step: str, setting: str) -> Any:
    """The key or position that a step of a path names."""
    if not isinstance(place, list):
        return step
    if not step.isdigit() or int(step) >= len(place):
        raise must("--set", f"name a position below {len(place)} in the list", setting)
    return int(step)


def schema() -> dict[str, Any]:
    """JSON schema of the config, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "nas search",
        **Config.model_json_schema(),
    }


# --- errors -------------------------------------------------------------------------------------------


_TYPES = {
    "string_type": "a text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "int_type": "a whole number",
    "float_type": "a number",
}
"""What pydantic's errors ask for, in the words of YAML."""


def _bad_input(error: ValidationError) -> BadInput:
    """The first error that says most: an unknown key before a failed alternative of a union."""
    details = sorted(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", -len(e["loc"])))
    detail = details[0]
    where = _path(detail)
    if detail["type"] == "extra_forbidden":
        return BadInput(_unknown_key(where), ".".join(where[:-1]))
    if detail["type"] == "missing":
        return BadInput("must be given, got nothing", ".".join(where))
    asked = [_TYPES[d["type"]] for d in details if _path(d) == where and d["type"] in _TYPES]
    message = detail["msg"][0].lower() + detail["msg"][1:]
    condition = f"must be {' or '.join(asked)}" if asked else message.replace("input should", "must")
    return BadInput(f"{condition}, got {hidden(repr(detail['input']))[:80]}", ".".join(where))


def _path(detail: Any) -> list[str]:
    """Where in the file an error is; pydantic also puts in the branches of unions."""
    return [str(step) for step in detail["loc"] if not _is_alternative(str(step))]


def _is_alternative(step: str) -> bool:
    return (
        "[" in step or step.endswith("Config") or step in ("str", "int", "float", "dict", "constrained-int")
    )


PARTS: dict[str, type[BaseModel]] = {
    "budget": BudgetConfig,
    "stop": StopConfig,
    "objectives": ObjectiveConfig,
    "export": ExportConfig,
    "warm_start": EarlierConfig,
    "stages": StageConfig,
}
"""Keys whose values have keys of their own."""


def _unknown_key(where: Sequence[str]) -> str:
    model: Any = Config
    for step in where[:-1]:
        if not step.isdigit():
            model = PARTS.get(step, model)
    known = list(model.model_fields)
    near = get_close_matches(where[-1], known, n=1, cutoff=0.5)
    return f"unknown key {where[-1]!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    )

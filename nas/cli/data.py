"""``nas data import`` and ``nas data list``: tables of real trainings, made once and looked into."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.app import Json, app, number, print_json, say
from nas.errors import must, unknown

data = typer.Typer(
    name="data", help="Make and list tables of real trainings.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data)

Names = Annotated[str, typer.Option(metavar="A,B,…")]


@data.command("import")
def import_command(
    kind: Annotated[str, typer.Argument(help="nasbench201, hw_gpt_bench, …, or table for any csv file")],
    path: Annotated[Path, typer.Argument(help="data folder, or the file itself")],
    out: Annotated[
        Path | None, typer.Option(help="file to write; NAME.table here by default", dir_okay=False)
    ] = None,
    part: Annotated[str | None, typer.Option(help="micro, macro, or an XGBoost data set")] = None,
    decisions: Names = "",
    metrics: Names = "",
    static: Names = "",
    cost: Annotated[str, typer.Option(help="column of a training's seconds")] = "",
    json: Json = False,
) -> None:
    """Make one memory-mapped file of a benchmark; importing the same data again changes nothing.

    Read are plain csv, npz, parquet and JSON conversions. Of the files as published, only NAS-Bench-Macro's
    JSON is read, untested on the original; those of NAS-Bench-201, NATS-Bench, TransNAS-Bench-101,
    NAS-Bench-Graph, HW-NAS-Bench, HELP and HW-GPT-Bench are pickles, which are never read: a pickle can run
    any code. For kind table, name columns: --decisions chosen, --metrics that a training gave, --static known
    without one (such as latencies), --cost seconds of the training.
    """
    from nas.table import SUFFIX, Table

    draft = _draft(kind, path, part, {"decisions": decisions, "metrics": metrics, "static": static}, cost)
    target = Path(draft.name.replace("/", "_") + SUFFIX) if out is None else out
    written = draft.write(target)
    table = Table.open(target)
    if json:
        print_json({**described(table), "file": str(target), "written": written})
        return
    say(f"{target}: {'written' if written else 'unchanged'}, checksum {table.checksum}")
    say(f"{table.name}: {table.size:,} rows, {'the whole space' if table.complete else 'a sample'}")
    for note in table.notes:
        say(f"  {note}")


@data.command("list")
def list_command(
    path: Annotated[Path, typer.Argument(help="a table, or a folder of tables; synthetic is always there")],
    json: Json = False,
) -> None:
    """Print the columns of a table: units, and how many values are missing."""
    from nas.table import SUFFIX, Table

    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise must("PATH", f"hold a *{SUFFIX} file", str(path), "make one with 'nas data import'")
    rows = [{**described(Table.open(file)), "file": str(file)} for file in files]
    if json:
        print_json(rows)
        return
    for row in rows:
        _show(row)


def described(table: Any) -> dict[str, Any]:
    """A table as JSON values."""
    return {
        "name": table.name,
        "rows": table.size,
        "complete": table.complete,
        "checksum": table.checksum,
        "paper": table.source["paper"],
        "files": table.source["files"],
        "notes": list(table.notes),
        "decisions": {c.name: list(c.options) or "real" for c in table.columns},
        "metrics": [
            {
                "name": m.name,
                "unit": m.unit,
                "nature": m.nature,
                "cost": m.cost,
                "runs": len(m.runs),
                "points": len(m.fidelities),
                "missing": table.missing(m.name),
                "why": m.missing,
            }
            for m in table.metrics.values()
        ],
    }


def _show(row: dict[str, Any]) -> None:
    share = "the whole space" if row["complete"] else "a sample"
    say(f"{row['name']}: {row['rows']:,} rows, {share} ({row['paper']})")
    for name, options in row["decisions"].items():
        values = options if isinstance(options, str) else ", ".join(map(str, options))
        say(f"  decision {name}: {values}")
    width = max(len(m["name"]) for m in row["metrics"])
    for m in row["metrics"]:
        extra = [f"{m['points']} points"] * bool(m["points"]) + [f"{m['runs']} runs"] * bool(m["runs"])
        extra += [f"seconds in {m['cost']}"] * bool(m["cost"])
        extra += [f"{number(m['missing'])} missing: {m['why']}"] * bool(m["missing"])
        say(f"  {m['nature']:<7} {m['name']:<{width}}  {m['unit']:<3} {', '.join(extra)}")
    for note in row["notes"]:
        say(f"  {note}")


def _draft(kind: str, path: Path, part: str | None, lists: dict[str, str], cost: str) -> Any:
    from nas.tables import BUILTIN

    names = {key: [n.strip() for n in text.split(",") if n.strip()] for key, text in lists.items()}
    if kind == "table":
        from nas.tables import csv_table

        return csv_table.load(path, **names, cost=cost)
    if kind not in BUILTIN:
        raise unknown("kind of table", kind, [*BUILTIN, "table"])
    given = next((key for key in (*names, "cost") if names.get(key) or (key == "cost" and cost)), None)
    if given is not None:
        raise must(f"--{given}", "go with the kind table only", kind, "leave it out")
    module, _, attribute = BUILTIN[kind].partition(":")
    return getattr(importlib.import_module(module), attribute)(path, part)

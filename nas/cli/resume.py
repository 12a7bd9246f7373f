"""``nas resume RUN``: continue a search after what its folder holds."""

from __future__ import annotations

from nas.cli.app import Json, RunFolder, app
from nas.cli.search import Settings, run_search


@app.command("resume")
def resume_command(run: RunFolder, settings: Settings = None, json: Json = False) -> None:
    """Continue a run, perhaps with a larger budget: --set budget.trials=200."""
    from nas.config import override, resolved, stored, validated

    config, folder = stored(run)
    data = config.model_dump(exclude_none=True)
    for setting in settings or []:
        override(data, setting)
    changed = validated(data)
    run_search(changed, folder, run, resolved(changed, folder), as_json=json)

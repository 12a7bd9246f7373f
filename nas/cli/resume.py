"""``nas resume RUN``: continue a search after what its folder holds."""

from __future__ import annotations

from nas.cli.app import Json, RunFolder, app
from nas.cli.search import Settings, run_search


@app.command("resume")
def resume_command(run: RunFolder, settings: Settings = None, json: Json = False) -> None:
    """Continue a run, perhaps with a larger budget: --set budget.trials=200."""
    from nas import sources
    from nas.config import override, resolved, search_of, stored, validated

    config, folder = stored(run)
    data = config.model_dump(exclude_none=True)
    for setting in settings or []:
        override(data, setting)
    changed = validated(data)
    search = search_of(changed, folder)
    sources.check_unchanged(search, run)
    run_search(sources.from_run(search, run), run, resolved(changed, folder), as_json=json)

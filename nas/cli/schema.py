"""``nas schema``: the JSON schema of config files, for editors."""

from __future__ import annotations

from nas.cli.app import app, print_json


@app.command("schema")
def schema_command() -> None:
    """Print the JSON schema of config files."""
    from nas.config import schema

    print_json(schema())

"""Formats in which a found model leaves the toolkit, one a file."""

BUILTIN = {
    "json": "nas.export.json_format:export_json",
    "pt2": "nas.export.pt2:export_pt2",
}

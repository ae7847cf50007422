"""Diagnostics for machines and for logs: one line each, JSON, GitHub annotations, SARIF 2.1.0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eulerc.diagnostics.model import Diagnostic, Fix, Label
from eulerc.diagnostics.text import visible
from eulerc.ir.span import Span

_GITHUB_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def concise(diagnostics: Iterable[Diagnostic]) -> str:
    """One line each: `file:line:column: severity[code] message`."""
    return "".join(
        f"{visible(str(item.primary.span))}: {item.severity}[{item.code}] {visible(item.message)}\n"
        for item in diagnostics
    )


def as_json(diagnostics: Iterable[Diagnostic]) -> str:
    """A JSON object `{"version": 1, "diagnostics": [...]}`.

    Each diagnostic has `code`, `severity` (error, warning, note), `message`, `file`, `line`, `column`, `end_line`,
    `end_column`, `label`, `related` (objects with the five place keys and `label`), `notes`, `help` (string or null)
    and `fix` (null, or the five place keys and `replacement`). Lines and columns count characters from 1; the end
    column is exclusive. Keys may be added within version 1, none is renamed or removed.
    """
    import json

    items = [
        {
            "code": item.code,
            "severity": item.severity,
            "message": item.message,
            **_labelled(item.primary),
            "related": [_labelled(label) for label in item.labels],
            "notes": list(item.notes),
            "help": item.help,
            "fix": {**_place(item.fix.span), "replacement": item.fix.replacement} if item.fix else None,
        }
        for item in diagnostics
    ]
    return json.dumps({"version": 1, "diagnostics": items}, indent=2) + "\n"


def _place(span: Span) -> dict[str, Any]:
    return {
        "file": span.source,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def _labelled(label: Label) -> dict[str, Any]:
    return {**_place(label.span), "label": label.text}


def github(diagnostics: Iterable[Diagnostic]) -> str:
    """Workflow commands that annotate the lines of a pull request, one line each."""
    return "".join(_github_command(item) for item in diagnostics)


def _github_command(item: Diagnostic) -> str:
    span = item.primary.span
    properties = {"file": span.source, "line": str(span.line), "endLine": str(span.end_line), "title": item.code}
    # GitHub takes columns only where the annotation stays within one line.
    if span.line == span.end_line:
        properties |= {"col": str(span.column), "endColumn": str(max(span.column, span.end_column - 1))}
    text = "\n".join(_paragraphs(item))
    listed = ",".join(f"{key}={_escape_property(value)}" for key, value in properties.items())
    return f"::{_GITHUB_COMMANDS[item.severity]} {listed}::{_escape_data(text)}\n"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")


def _paragraphs(item: Diagnostic) -> list[str]:
    help_lines = [f"help: {item.help}"] if item.help else []
    label_lines = [item.primary.text] if item.primary.text else []
    return [item.message, *label_lines, *(f"note: {note}" for note in item.notes), *help_lines]


def sarif(diagnostics: Iterable[Diagnostic], version: str) -> str:
    """A SARIF 2.1.0 log (OASIS) of one run of eulerc `version`."""
    import json

    items = list(diagnostics)
    severities = {item.code: item.severity for item in sorted(items, key=lambda item: item.code)}
    codes = list(severities)
    rules = [{"id": code, "defaultConfiguration": {"level": level}} for code, level in severities.items()]
    run = {
        "tool": {"driver": {"name": "eulerc", "version": version, "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(item, codes.index(item.code)) for item in items],
    }
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _sarif_result(item: Diagnostic, rule_index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": item.code,
        "ruleIndex": rule_index,
        "level": item.severity,
        "message": {"text": "\n".join(_paragraphs(item))},
        "locations": [{"physicalLocation": _sarif_location(item.primary.span)}],
    }
    if item.labels:
        result["relatedLocations"] = [
            {"id": number, "physicalLocation": _sarif_location(label.span), "message": {"text": label.text}}
            for number, label in enumerate(item.labels)
        ]
    if item.fix:
        result["fixes"] = [_sarif_fix(item.fix)]
    return result


def _sarif_location(span: Span) -> dict[str, Any]:
    return {"artifactLocation": {"uri": _uri(span)}, "region": _sarif_region(span)}


def _uri(span: Span) -> str:
    from urllib.parse import quote

    # File names that are not valid UTF-8 arrive as lone surrogates.
    return quote(span.source, errors="replace")


def _sarif_region(span: Span) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }


def _sarif_fix(fix: Fix) -> dict[str, Any]:
    replacement = {"deletedRegion": _sarif_region(fix.span), "insertedContent": {"text": fix.replacement}}
    change = {"artifactLocation": {"uri": _uri(fix.span)}, "replacements": [replacement]}
    return {"artifactChanges": [change]}

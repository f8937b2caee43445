"""`marketprism`: one command line for the whole data path; each command in a file of its own."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec

from marketprism_consumer.commands import (
    audit,
    check,
    console,
    demo,
    dlq,
    export,
    feed,
    heal,
    ingest,
    kubectl,
    lanes,
    migrate,
    query,
    replay,
    run,
    schema,
    status,
    tap,
    tiers,
    types,
    validate,
)
from marketprism_consumer.commands.common import command_line

app = command_line(
    "Keeps a crypto market-data stream in ClickHouse: exactly once, bit-exact, provably complete.",
    (
        ("demo", demo.demo, demo.EXAMPLES),
        ("run", run.run, run.EXAMPLES),
        ("ingest", ingest.ingest, ingest.EXAMPLES),
        ("feed", feed.feed, feed.EXAMPLES),
        ("audit", audit.audit, audit.EXAMPLES),
        ("status", status.status, status.EXAMPLES),
        ("console", console.console, console.EXAMPLES),
        ("check", check.check, check.EXAMPLES),
        ("tap", tap.tap, tap.EXAMPLES),
        ("replay", replay.replay_, replay.EXAMPLES),
        ("heal", heal.heal, heal.EXAMPLES),
        ("migrate", migrate.migrate, migrate.EXAMPLES),
        ("tiers", tiers.tiers, tiers.EXAMPLES),
        ("validate", validate.validate, validate.EXAMPLES),
    ),
    completion=True,
)
app.add_typer(dlq.app, name="dlq")
app.add_typer(export.app, name="export")
app.add_typer(query.app, name="query")
app.add_typer(schema.app, name="schema")
app.add_typer(lanes.app, name="lanes")
app.add_typer(types.app, name="types")
app.add_typer(kubectl.app, name="kubectl")
if find_spec("marketprism_embedded"):  # not in the image
    from marketprism_embedded.__main__ import app as embedded

    app.add_typer(embedded, name="embedded", help="A NATS and a ClickHouse for one machine.")


def main() -> None:
    if sys.stdout.isatty() and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal can't show ends no command
    app()


def plugin() -> None:
    """`kubectl-marketprism`, which kubectl calls for `kubectl marketprism`."""
    kubectl.app(prog_name="kubectl marketprism")


if __name__ == "__main__":
    main()

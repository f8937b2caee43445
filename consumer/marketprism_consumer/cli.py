"""`marketprism`: one command line for the whole data path; each command in a file of its own."""

from __future__ import annotations

from importlib.util import find_spec

import typer

from marketprism_consumer.commands import (
    audit,
    check,
    consumers,
    demo,
    dlq,
    feed,
    ingest,
    migrate,
    replay,
    run,
    schema,
    status,
    tap,
    tiers,
    validate,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Keeps a crypto market-data stream in ClickHouse: exactly once, bit-exact, provably complete.",
)
app.command(epilog=demo.EXAMPLES)(demo.demo)
app.command(epilog=run.EXAMPLES)(run.run)
app.command(epilog=ingest.EXAMPLES)(ingest.ingest)
app.command(epilog=feed.EXAMPLES)(feed.feed)
app.command(epilog=audit.EXAMPLES)(audit.audit)
app.command(epilog=status.EXAMPLES)(status.status)
app.command(epilog=check.EXAMPLES)(check.check)
app.command(epilog=tap.EXAMPLES)(tap.tap)
app.command("replay", epilog=replay.EXAMPLES)(replay.replay_)
app.command(epilog=migrate.EXAMPLES)(migrate.migrate)
app.command(epilog=tiers.EXAMPLES)(tiers.tiers)
app.command(epilog=validate.EXAMPLES)(validate.validate)
app.add_typer(dlq.app, name="dlq")
app.add_typer(schema.app, name="schema")
app.add_typer(consumers.app, name="consumers")
if find_spec("marketprism_embedded"):  # not in the image
    from marketprism_embedded.__main__ import app as embedded

    app.add_typer(embedded, name="embedded", help="A NATS and a ClickHouse for one machine.")


def main() -> None:
    app()


if __name__ == "__main__":
    main()

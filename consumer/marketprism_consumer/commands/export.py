"""`marketprism export` and `marketprism export verify`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from marketprism_api.settings import Settings
from marketprism_consumer import logs
from marketprism_consumer.camel import camel
from marketprism_consumer.clickhouse.client import ClickHouse
from marketprism_consumer.commands.common import (
    File,
    Json,
    OnlyTypes,
    Output,
    chosen_types,
    command_line,
    fail,
    moment,
    settings_of,
)
from marketprism_consumer.commands.exits import Exit, exit_of
from marketprism_consumer.commands.loop import RowProgress
from marketprism_consumer.commands.servers import clickhouse_of
from marketprism_consumer.errors import ExportError, StoreError
from marketprism_consumer.export import manifest as manifests
from marketprism_consumer.export.destination import destination
from marketprism_consumer.export.formats import FORMATS, kinds_of
from marketprism_consumer.export.run import Export, Exported
from marketprism_consumer.export.source import RowSource, TierChoice, Wanted
from marketprism_consumer.export.verify import Verified, verify
from marketprism_consumer.schema.tables import Table, table_of
from marketprism_consumer.tiering.servers import cold_of

T = TypeVar("T")
PATIENCE = 600.0  # for one statement, or for the next piece of an answer [s]

EXAMPLES = """
Examples:

\b
  marketprism export write ./data --from 2025-09-24 --to 2025-09-25       Parquet, every table
  marketprism export write ./data --type trade --symbol BTC-USDT --since 168h --format csv
  marketprism export write s3://bucket/prefix --type trade --since 24h    keys as AWS_ACCESS_KEY_ID and so on
  marketprism export write ./backtest --type trade --type orderbook --format hftbacktest --symbol BTC-USDT --since 24h

\b
One file per day and series, trades/binance_spot/spot/BTC-USDT/2025-09-24.parquet, and manifest.json. Killed? Run it again:
what is in the manifest is left as it is, if the tables still say so.
"""
VERIFY_EXAMPLES = """
Examples:

\b
  marketprism export verify ./data           every file, and every value in it
  marketprism export verify ./data --quick   every file's SHA-256, and which rows the tables have
"""


class FormatName(StrEnum):
    PARQUET = "parquet"
    ARROW = "arrow"
    CSV = "csv"
    TARDIS = "tardis"
    HFTBACKTEST = "hftbacktest"


class ExportTier(StrEnum):
    BOTH = "both"
    HOT = "hot"
    COLD = "cold"


ExportPlace = Annotated[str, typer.Argument(help="A folder, or a URL such as s3://bucket/prefix.")]


def write(
    place: ExportPlace,
    file: File = "",
    format: Annotated[
        FormatName,
        typer.Option(help="What the files are: every column as it is, or what tardis.dev or hftbacktest read."),
    ] = FormatName.PARQUET,
    since: Annotated[str, typer.Option(help="Look back this far, such as 24h; instead of --from.")] = "",
    start: Annotated[str, typer.Option("--from", help="From this time on (ISO 8601, UTC).")] = "",
    end: Annotated[
        str, typer.Option("--to", help="Up to this time, or so long ago, such as 1m; without it, now.")
    ] = "",
    types: OnlyTypes = None,
    exchanges: Annotated[list[str] | None, typer.Option("--exchange", help="Only this exchange.")] = None,
    symbols: Annotated[list[str] | None, typer.Option("--symbol", help="Only this symbol.")] = None,
    tier: Annotated[ExportTier, typer.Option(help="Only what this tier has.")] = ExportTier.BOTH,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Files at once.")] = 2,
    output: Json = Output.TEXT,
) -> None:
    """Write tables to files, formatted by ClickHouse: decimals stay exact, memory stays flat, each row once from both tiers.

    May run beside ingest and migration. What is killed goes on where it was.
    """
    logs.configure("error")
    settings = settings_of(file)
    now = time.time()
    try:
        if bool(since) == bool(start):
            raise ValueError("give exactly one of --since and --from")
        wanted = Wanted(
            moment(since or start, now),
            moment(end, now) if end else int(now * 1e6),
            exchanges or (),
            symbols or (),
        )
        if wanted.since >= wanted.until:
            raise ValueError(f"--to {end or 'now'} is not after --from {start or since}")
        chosen = _tables(settings, chosen_types(settings, types))
        if not kinds_of(FORMATS[format], chosen):
            named = ", ".join(table.data_type for table in chosen)
            can = sorted({table.data_type for tables in FORMATS[format].kinds.values() for table in tables})
            raise ValueError(
                f"--format {format} has no form for {named}" + (f", only for {', '.join(can)}" if can else "")
            )
        _refuse_half(settings, tier.value)
    except ValueError as error:
        fail(str(error), Exit.USAGE)

    async def export(server_of: Callable[[TierChoice], ClickHouse]) -> Exported:
        with RowProgress() as progress:
            tiers = RowSource(settings.hot_db, settings.cold_db, tier.value)
            work = Export(server_of(tier.value), tiers, destination(place), format, jobs=jobs, progress=progress)
            return await work.run(wanted, chosen)

    done = _with_clickhouse(settings, export)
    if output == "json":
        typer.echo(json.dumps(camel(done)))
    else:
        rate = f", {done.rows / done.seconds:,.0f} rows/s" if done.seconds and done.rows else ""
        kept = f"; {done.kept:,} were there already" if done.kept else ""
        typer.echo(
            f"{done.files:,} files, {done.rows:,} rows, {done.bytes / 1e6:,.1f} MB in {done.seconds:.1f} s{rate}{kept}"
        )
        if not done.paths:
            typer.echo("no rows: `marketprism tiers` shows what there is")


def verify_(
    place: ExportPlace,
    file: File = "",
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the comparison of values.")] = False,
    output: Json = Output.TEXT,
) -> None:
    """Prove a directory against the tables: each file is as it was written, and has the rows and values that the tables have."""
    logs.configure("error")
    settings = settings_of(file)

    async def prove(server_of: Callable[[TierChoice], ClickHouse]) -> Verified:
        at = destination(place)
        manifest = await manifests.load(at)
        if manifest is None:
            fail(f"{place}: there is no {manifests.NAME}: nothing was exported to it", Exit.USAGE)
        with RowProgress() as progress:
            tables = _tables(settings, list(settings.data_types))
            return await verify(
                server_of, settings.hot_db, settings.cold_db, tables, at, manifest, quick=quick, progress=progress
            )

    found = _with_clickhouse(settings, prove)
    if output == "json":
        typer.echo(json.dumps({"ok": not found.wrong, **camel(found)}))
    else:
        how = "identities" if quick else "values"
        verdict = (
            f"{len(found.wrong):,} differ"
            if found.wrong
            else f"every file is whole, and all {how} are as in the tables"
        )
        typer.echo(f"{found.files:,} files, {found.rows:,} rows: {verdict}")
        for path, wrong in found.wrong.items():
            typer.echo(f"  {path}: {wrong}")
    raise typer.Exit(int(Exit.FINDINGS if found.wrong else Exit.OK))


def _tables(settings: Settings, data_types: Sequence[str]) -> list[Table]:
    return [table_of(settings.data_types[name].declaration) for name in data_types]


def _refuse_half(settings: Settings, tier: TierChoice) -> None:
    """Raises ValueError."""
    if settings.cold_urls and tier == "both":
        raise ValueError(
            "cold is on another server, and one query can't ask both: export with --tier hot, and with --tier cold"
        )


def _with_clickhouse(settings: Settings, ask: Callable[[Callable[[TierChoice], ClickHouse]], Awaitable[T]]) -> T:
    """What `ask` finds, which is given the server of each tier; ends the command where ClickHouse or the place can't be used."""

    async def run() -> T:
        hot = clickhouse_of(settings, "export", patience=PATIENCE)
        cold = cold_of(settings, hot, patience=PATIENCE)
        try:
            return await ask(lambda tier: cold if tier == "cold" else hot)
        finally:
            await hot.close()
            await cold.close()

    try:
        return asyncio.run(run())
    except ExportError as error:
        fail(str(error), Exit.FINDINGS if error.unsettled else Exit.USAGE)
    except StoreError as refused:
        fail(str(refused), exit_of(refused))


app = command_line(
    "Tables as files, and the proof that these say what the tables say.",
    (("write", write, EXAMPLES), ("verify", verify_, VERIFY_EXAMPLES)),
    within="export",
)

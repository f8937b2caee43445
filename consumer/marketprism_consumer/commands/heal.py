"""`marketprism heal`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from marketprism_api.settings import Settings
from marketprism_consumer import logs, times
from marketprism_consumer.camel import camel
from marketprism_consumer.commands.common import (
    File,
    Json,
    OnlyTypes,
    Output,
    chosen_types,
    fail,
    moment,
    seconds,
    settings_of,
    stderr,
)
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.commands.servers import Servers, with_servers
from marketprism_consumer.errors import HealError, HealRunsError, NotYetStoredError, ReaderRunsError
from marketprism_consumer.faultpoints import faultpoint
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.operations.dlq import printable
from marketprism_consumer.operations.healing.archives import Archive, named_otherwise, open_archive, where_to_get
from marketprism_consumer.operations.healing.claim import HealingClaim
from marketprism_consumer.operations.healing.files import (
    FileHealing,
    HealedFile,
    HealRequest,
    market_types,
    series_of,
)
from marketprism_consumer.operations.healing.holes import Hole, find_holes
from marketprism_consumer.operations.healing.plan import FilePlan
from marketprism_consumer.operations.healing.streams import HealedStretch, StreamHealing
from marketprism_consumer.operations.replay import Replayed
from marketprism_consumer.schema.tables import table_of
from marketprism_consumer.validation.run import Validation, ValidationRequest

EXAMPLES = """
Examples:

\b
  marketprism heal --since 24h --dry-run            what is missing, and what of it the streams still hold
  marketprism heal --since 24h                      replay it; then see what is left
  marketprism heal BTCUSDT-trades-2025-09-24.zip --exchange binance_spot --symbol BTC-USDT --dry-run
  marketprism heal BTCUSDT-trades-2025-09-24.zip --exchange binance_spot --symbol BTC-USDT --why 'collector down'
  marketprism heal ./data/trades/binance_spot/spot/BTC-USDT/2025-09-24.parquet

\b
Files: trades of Binance (the zips of data.binance.vision) and of tardis.dev (.csv.gz); Parquet of `marketprism export`, of any type.
"""
ALWAYS = (0, 1 << 62)  # [µs]
SHOWN = 20


@dataclass(slots=True)
class Healed:
    """What was found, what came back from streams and from files, and what is left. `window`: that was validated [µs]."""

    window: tuple[int, int] | None = None
    holes: list[Hole] = field(default_factory=list)
    replayed: list[HealedStretch] = field(default_factory=list)
    left: list[Hole] = field(default_factory=list)
    files: list[HealedFile] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        return not self.left and not any(
            healed.refused or healed.plan.disagreeing or healed.plan.bad for healed in self.files
        )


def heal(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Where rows come from that no stream holds any more."),
    ] = None,
    file: File = "",
    since: Annotated[
        str, typer.Option(help="Look back this far, such as 24h; without it, spec.validation.window.")
    ] = "",
    start: Annotated[str, typer.Option("--from", help="From this time on (ISO 8601, UTC); instead of --since.")] = "",
    end: Annotated[str, typer.Option("--to", help="Up to this time; without it, now, or the end of the file.")] = "",
    types: OnlyTypes = None,
    exchange: Annotated[str, typer.Option(help="Only this exchange; of which a file is.")] = "",
    market_type: Annotated[str, typer.Option(help="Of which a file is, where the tables have several.")] = "",
    symbol: Annotated[str, typer.Option(help="Only this symbol; of which a file is.")] = "",
    whole: Annotated[
        bool,
        typer.Option("--whole", help="Without files: replay all of the time that is given, whatever is found in it."),
    ] = False,
    why: Annotated[str, typer.Option(help="What had happened: stands in the entry of incidents.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan only: store nothing.")] = False,
    output: Json = Output.TEXT,
) -> None:
    """Bring back what is missing: what the streams still hold is replayed, the rest comes from files.

    Without files it looks for holes as `validate` does. Of a file only what is missing by the venue's own ids is stored; what
    disagrees with a row that is there is told, and left. The same file twice stores nothing; killed, it is run again. Each healing
    is an entry in the table `incidents`. May run beside ingest and migration.
    """
    logs.configure("error")
    settings = settings_of(file)
    kinds = chosen_types(settings, types)
    try:
        if since and start:
            raise ValueError("give --since or --from, not both")
        if whole and (files or not (exchange and symbol and types and (since or start))):
            raise ValueError("--whole needs --exchange, --symbol, --type and --since or --from, and no file")
        now = time.time()
        lower = moment(start, now) if start else int((now - seconds(since, "--since")) * 1e6) if since else None
        upper = moment(end, now) if end else None
        if lower is not None and lower >= (upper or int(now * 1e6)):
            raise ValueError(f"--to {end or 'now'} is not after {start or since}")
        archives = [open_archive(path) for path in files or ()]
    except (ValueError, HealError) as error:
        fail(str(error), Exit.USAGE)
    asked = _Asked(settings, kinds, bool(types), exchange, market_type, symbol, why, dry_run)

    async def run(servers: Servers) -> Healed:
        with _Shown() as shown:
            work = _Work(asked, servers, shown)
            if archives:
                return await work.from_files(archives, lower or ALWAYS[0], upper or ALWAYS[1])
            to = upper or int(now * 1e6)
            return await work.from_streams(lower or to - int(settings.validation_window * 1e6), to, whole=whole)

    try:
        healed = with_servers(settings, "heal", run)
    except HealError as error:
        fail(str(error), Exit.FINDINGS if error.findings else Exit.USAGE)
    except (HealRunsError, ReaderRunsError, NotYetStoredError) as error:
        hint = (
            ": run `marketprism ingest` first, it stores what the stream holds"
            if isinstance(error, NotYetStoredError)
            else ""
        )
        fail(f"{error}{hint}", Exit.FINDINGS)
    if output == "json":
        typer.echo(json.dumps(as_dict(healed, dry_run)))
    else:
        for line in lines(healed, dry_run):
            typer.echo(printable(line))
    raise typer.Exit(int(Exit.OK if healed.fine else Exit.FINDINGS))


@dataclass(frozen=True, slots=True)
class _Asked:
    settings: Settings
    types: Sequence[str]
    named: bool
    exchange: str
    market_type: str
    symbol: str
    why: str
    dry_run: bool


class _Shown:
    """What is at work, on stderr where that is a terminal."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._progress = Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
        self._task = self._progress.add_task("")

    def __enter__(self) -> _Shown:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, what: str) -> None:
        self._progress.update(self._task, description=what)


class _Work:
    def __init__(self, asked: _Asked, servers: Servers, shown: _Shown) -> None:
        self._asked, self._servers, self._shown = asked, servers, shown
        self._tiers = [servers.hot, servers.cold]
        self._streams = StreamHealing(asked.settings, servers.broker, self._tiers, self._replaying)

    async def from_streams(self, since: int, until: int, *, whole: bool) -> Healed:
        asked, healed = self._asked, Healed((since, until))
        if whole:
            series = [(asked.exchange, kind, asked.symbol) for kind in await self._market_types(asked.types[0])]
            healed.holes = [Hole(asked.types[0], *each, since, until, 0, "all that was asked for") for each in series]
        else:
            healed.holes = await self._holes(since, until)
        healed.replayed = await self._streams.heal(healed.holes, asked.why, dry_run=asked.dry_run)
        if not asked.dry_run and not whole:
            healed.left = await self._holes(since, until)
        return healed

    async def from_files(self, archives: Sequence[Archive], since: int, until: int) -> Healed:
        healed = Healed()
        for archive in archives:
            await self._from_file(archive, since, until, healed)
        return healed

    async def _from_file(self, archive: Archive, since: int, until: int, healed: Healed) -> None:
        asked = self._asked
        data_type = self._type_of(archive)
        declaration = asked.settings.data_types[data_type].declaration
        self._shown.say(f"{archive.path.name}: of what is it?")
        series = await series_of(
            self._tiers, table_of(declaration), archive, asked.exchange, asked.market_type, asked.symbol
        )
        horizon = await self._streams.horizon(data_type)
        work = FileHealing(
            self._tiers,
            declaration,
            asked.settings.messages,
            archive,
            HealRequest(series, since, until, horizon, asked.why),
            lambda read, of, stored: self._shown.say(
                f"{archive.path.name}: {read:,} lines" + (f" of {of:,}, {stored:,} stored" if of else " looked up")
            ),
        )
        plan = await work.plan()
        objection = plan.objection()
        if not plan.there and (named := named_otherwise(archive.path, series[2])):
            objection = objection or f"its name says {named}, and no trade that is there says that it is {series[2]}"
        if objection:
            told = "".join(f"\n  line {each.line}, {each.id}: {each.text}" for each in plan.disagreements)
            raise HealError(f"{archive.path}: {objection}. Nothing was stored{told}", findings=True)
        if plan.missing:
            text = asked.why or f"{plan.missing:,} rows of {archive.path.name} were missing"
            hole = Hole(data_type, *series, plan.first_missing, plan.last_missing, plan.missing, text)
            held = await self._streams.heal([hole], asked.why, dry_run=asked.dry_run)
            healed.replayed += held
            if held and not asked.dry_run:
                plan = await work.plan()
        if asked.dry_run:
            healed.files.append(HealedFile(str(archive.path), archive.stream, series, plan))
            return
        records = NatsRecords(self._servers.client, asked.settings.bucket)
        async with HealingClaim(records, self._servers.hot, table_of(declaration)) as claim:
            faultpoint("heal_after_claim")
            healed.files.append(await work.heal(claim, plan))

    def _type_of(self, archive: Archive) -> str:
        """As it was named; else what the file's columns are of. Raises HealError."""
        asked = self._asked
        if asked.named:
            if len(asked.types) > 1:
                raise HealError(f"{archive.path} is of one data type, and --type names {', '.join(asked.types)}")
            found = asked.types[0]
        elif archive.form == "parquet":
            settings = asked.settings.data_types
            tables = {name: table_of(each.declaration) for name, each in settings.items()}
            fit = [name for name, table in tables.items() if {c.name for c in table.stored} == archive.columns]
            if len(fit) != 1:
                raise HealError(
                    f"{archive.path}: its columns are not those of one table: name its data type with --type"
                )
            (found,) = fit
        else:
            found = "trade"
        if archive.form != "parquet" and found != "trade":
            raise HealError(f"{archive.path} has trades: {found} is healed from Parquet of `marketprism export`")
        if found not in asked.settings.data_types:
            raise HealError(f"the pipeline does not store {found}")
        return found

    async def _holes(self, since: int, until: int) -> list[Hole]:
        asked, settings, hot = self._asked, self._asked.settings, self._servers.hot.clickhouse
        exchanges, symbols = ([name] if name else [] for name in (asked.exchange, asked.symbol))
        validation = Validation(
            hot, settings.hot_db, settings.cold_db, settings.declarations, settings.limits,
            lambda table, rows, of: self._shown.say(f"looking for holes: {table}, {rows:,} of {of:,} rows"),
        )  # fmt: skip
        report = await validation.run(ValidationRequest(since, until, asked.types, exchanges, symbols))
        holes = await find_holes(hot, report, settings.limits)
        return [hole for hole in holes if asked.market_type in ("", hole.market_type)]

    async def _market_types(self, data_type: str) -> list[str]:
        """Those that the tables have of the series, or the one that was named. Raises HealError, StoreError."""
        asked = self._asked
        if asked.market_type:
            return [asked.market_type]
        table = table_of(asked.settings.data_types[data_type].declaration)
        found = await market_types(self._tiers, table, asked.exchange, asked.symbol)
        if not found:
            raise HealError(f"the tables have no row of {asked.exchange} {asked.symbol}: give --market-type")
        return sorted(found)

    def _replaying(self, table: str, so_far: Replayed) -> None:
        self._shown.say(f"{table}: {so_far.read:,} messages read, {so_far.stored:,} rows stored")


# --- what is told: pure -----------------------------------------------------------------------------------------------


def lines(healed: Healed, dry_run: bool) -> Iterator[str]:
    """For people."""
    verb = "would be stored" if dry_run else "stored"
    if healed.window:
        span = f"{times.exact(healed.window[0])} to {times.exact(healed.window[1])}"
        yield f"{_several(len(healed.holes), 'hole')}, {span}"
        for hole in healed.holes[:SHOWN]:
            yield f"  {_place(hole)}: {hole.text}"
        if len(healed.holes) > SHOWN:
            yield f"  … {len(healed.holes) - SHOWN:,} more"
    for stretch in healed.replayed:
        yield f"from the stream {stretch.stream}: {stretch.rows:,} rows of {_series(stretch.hole)} {verb}"
    for of_file in healed.files:
        yield from _file_lines(of_file, dry_run, bool(healed.replayed))
    if healed.left:
        yield f"{_several(len(healed.left), 'hole')} left, which no stream holds: `marketprism heal FILE`"
        for hole in healed.left[:SHOWN]:
            where = where_to_get(*hole.series, hole.since) if hole.data_type == "trade" else ""
            yield f"  {_place(hole)}: {hole.text}" + (f"; {where}" if where else "")


def _file_lines(healed: HealedFile, dry_run: bool, replayed: bool) -> Iterator[str]:
    plan = healed.plan
    yield f"{healed.path}: {' '.join(healed.series)}, {healed.stream}"
    span = f", {times.exact(plan.first_missing)} to {times.exact(plan.last_missing)}" if plan.first_missing else ""
    yield f"  {plan.read:,} lines: {plan.there:,} are there, {plan.missing:,} missing{span}"
    left = {
        "outside of the time that was asked for": plan.outside,
        "too young: ingest may be about to store them": plan.in_hand,
        "in the file twice": plan.repeated,
    }
    for what, count in left.items():
        if count:
            yield f"  {count:,} {what}"
    if plan.disagreeing:
        yield f"  {plan.disagreeing:,} disagree with what is there, and are left:"
        for each in plan.disagreements:
            yield f"    line {each.line}, trade {each.id}: {each.text}"
    if plan.bad:
        yield f"  {sum(plan.bad.values()):,} can't be rows:"
        yield from (f"    {line}" for line in plan.bad_lines)
    if dry_run:
        yield f"  {plan.missing:,} would be stored" + (", but for what a stream brings back" if replayed else "")
    else:
        before = f", {healed.stored_before:,} by a run before" if healed.stored_before else ""
        yield f"  {healed.stored:,} stored{before}"
    yield from (f"  refused: {why}" for why in healed.refused[:SHOWN])


def as_dict(healed: Healed, dry_run: bool) -> dict[str, Any]:
    """For machines; times as text."""
    return {
        "ok": healed.fine,
        "dryRun": dry_run,
        "holes": [_hole(hole) for hole in healed.holes],
        "replayed": [
            {**_hole(stretch.hole), "stream": stretch.stream, "rows": stretch.rows} for stretch in healed.replayed
        ],
        "left": [_hole(hole) for hole in healed.left],
        "files": [
            {
                **camel(of_file),
                "series": dict(zip(("exchange", "marketType", "symbol"), of_file.series, strict=True)),
                "plan": {**camel(of_file.plan), **_span(of_file.plan)},
            }
            for of_file in healed.files
        ],
    }


def _span(plan: FilePlan) -> dict[str, str | None]:
    named = {
        "first": plan.first,
        "last": plan.last,
        "firstMissing": plan.first_missing,
        "lastMissing": plan.last_missing,
    }
    return {name: times.iso(at) if at else None for name, at in named.items()}


def _hole(hole: Hole) -> dict[str, Any]:
    return {**camel(hole), "since": times.iso(hole.since), "until": times.iso(hole.until)}


def _series(hole: Hole) -> str:
    return f"{hole.exchange} {hole.market_type} {hole.symbol} {hole.data_type}"


def _place(hole: Hole) -> str:
    return f"{_series(hole)}, {times.exact(hole.since)} to {times.exact(hole.until)}"


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"

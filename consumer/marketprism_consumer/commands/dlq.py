"""`marketprism dlq list|show|replay|purge`."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, TypeVar

import typer
from pydantic.alias_generators import to_camel
from rich.table import Table
from rich.text import Text

from marketprism_api.settings import Settings
from marketprism_consumer import logs, times
from marketprism_consumer.commands.common import File, Json, Output, chosen_types, fail, moment, settings_of, stdout
from marketprism_consumer.commands.exits import Exit, epilog
from marketprism_consumer.commands.servers import Servers, with_servers
from marketprism_consumer.errors import MessageError, ReaderRunsError
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.operations.dlq import (
    DeadLetterStream,
    Letter,
    LetterFilter,
    Outcome,
    Replay,
    as_dict,
    code_of,
    printable,
    printable_payload,
)

T = TypeVar("T")

STAYS_SHOWN = 20

app = typer.Typer(
    no_args_is_help=True,
    help="The messages that could not become rows: look at them, replay them once the cause is fixed, drop them.",
)


class ListOutput(StrEnum):
    TEXT = "text"
    JSON = "json"
    NDJSON = "ndjson"


class Order(StrEnum):
    NEWEST = "newest"
    OLDEST = "oldest"


TypeOption = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only of this data type.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Only with this reason: MP2203 or BadDecimal.")]

LIST = """
Examples:

\b
  marketprism dlq list                                 the newest 50, and how many of each reason
  marketprism dlq list --type trade --reason BadDecimal --since 1h
  marketprism dlq list --limit 0 --output ndjson       all of them, one JSON object per line
"""
SHOW = """
Examples:

\b
  marketprism dlq show 17
  marketprism dlq show 17 --raw > payload.json
"""
REPLAY = """
Examples:

\b
  marketprism dlq replay --dry-run                     what would become rows now
  marketprism dlq replay --reason DecimalOutOfRange    after the column was widened
  marketprism dlq replay --seq 17 --seq 18
"""
PURGE = """
Examples:

\b
  marketprism dlq purge --older-than 24h
  marketprism dlq purge --type trade --reason BadJSON --yes
"""


@app.command("list", epilog=epilog("dlq list", LIST))
def list_(
    file: File = "",
    data_type: TypeOption = None,
    reason: ReasonOption = "",
    since: Annotated[str, typer.Option(help="Only those since then: 1h for an hour ago, or a time (UTC).")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Show at most this many; 0: all. All are counted.")] = 50,
    order: Annotated[Order, typer.Option(help="Which come first.")] = Order.NEWEST,
    output: Annotated[ListOutput, typer.Option("--output", "-o")] = ListOutput.TEXT,
) -> None:
    """List dead letters, and count them by reason."""
    settings = settings_of(file)
    wanted = _wanted(settings, data_type, reason, since=since)
    letters, counts = _with_stream(settings, lambda stream, _: _collect(stream, wanted, limit, order))
    if output is ListOutput.NDJSON:
        for letter in letters:
            typer.echo(json.dumps(as_dict(letter)))
    elif output is ListOutput.JSON:
        reasons_ = [{"dataType": t, "reason": r, "count": n} for (t, r), n in counts.most_common()]
        typer.echo(
            json.dumps(
                {"deadLetters": [as_dict(letter) for letter in letters], "total": counts.total(), "counts": reasons_}
            )
        )
    else:
        _print_list(letters, counts)


@app.command(epilog=epilog("dlq show", SHOW))
def show(
    seq: Annotated[int, typer.Argument(min=1, help="The number in the first column of `dlq list`.")],
    file: File = "",
    raw: Annotated[bool, typer.Option("--raw", help="Write the payload's bytes to stdout, and nothing else.")] = False,
    output: Json = Output.TEXT,
) -> None:
    """Show one dead letter: why it is one, what to do, and the message itself."""
    letter = _with_stream(settings_of(file), lambda stream, _: _whole(stream, seq))
    if letter is None:
        fail(f"there is no dead letter {seq}", Exit.FINDINGS)
    if raw:
        sys.stdout.buffer.write(letter.payload)
        sys.stdout.buffer.flush()
        return
    if output == "json":
        typer.echo(json.dumps(as_dict(letter) | {"payload": letter.payload.decode(errors="backslashreplace")}))
        return
    for name, value in letter.headers.items():
        typer.echo(f"{printable(name)}: {printable(value)}")
    if letter.reason:
        typer.echo(f"\nwhy:  {letter.reason.text}\nhint: {letter.reason.hint}\ndocs: {letter.reason.docs}")
    typer.echo(f"\n{printable_payload(letter.payload)}")


@app.command(epilog=epilog("dlq replay", REPLAY))
def replay(
    file: File = "",
    data_type: TypeOption = None,
    reason: ReasonOption = "",
    seq: Annotated[list[int] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decode only: store and delete nothing.")] = False,
    output: Json = Output.TEXT,
) -> None:
    """Decode dead letters again and store those that are rows now, each exactly once, under its message's identity.

    May be interrupted and run again: what is in the table already is not stored twice.
    """
    settings = settings_of(file)
    wanted = _wanted(settings, data_type, reason, seqs=seq or ())
    counts, stays = _with_stream(settings, lambda stream, servers: _replay(settings, stream, servers, wanted, dry_run))
    done = counts["replayed"] + counts["stored before"]
    if output == "json":
        still = [as_dict(outcome.letter) | {"why": outcome.why} for outcome in stays]
        typer.echo(
            json.dumps(
                {"dryRun": dry_run, **{to_camel(k.replace(" ", "_")): n for k, n in counts.items()}, "still": still}
            )
        )
    else:
        for outcome in stays[:STAYS_SHOWN]:
            typer.echo(f"stays: {outcome.letter.seq} {printable(outcome.letter.data_type)}: {printable(outcome.why)}")
        if len(stays) > STAYS_SHOWN:
            typer.echo(f"stays: and {len(stays) - STAYS_SHOWN:,} more")
        verb = "would be replayed" if dry_run else "replayed"
        before = f" ({counts['stored before']:,} of them were stored before)" if counts["stored before"] else ""
        typer.echo(f"{verb} {done:,}{before}, stay {counts['stays']:,}")
    raise typer.Exit(int(Exit.FINDINGS if stays else Exit.OK))


@app.command(epilog=epilog("dlq purge", PURGE))
def purge(
    file: File = "",
    data_type: TypeOption = None,
    reason: ReasonOption = "",
    older_than: Annotated[str, typer.Option(help="Only those buried longer ago than this, such as 24h.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete dead letters for good. After that only the stream has their messages, for as long as it keeps them."""
    settings = settings_of(file)
    wanted = _wanted(settings, data_type, reason, older_than=older_than)
    letters, counts = _with_stream(settings, lambda stream, _: _collect(stream, wanted, 0, Order.OLDEST))
    if not letters:
        typer.echo("no dead letters")
        return
    if not yes:
        _print_counts(counts)
        typer.confirm(f"delete {len(letters):,} dead letters for good?", abort=True)
    deleted = _with_stream(settings, lambda stream, _: stream.delete(letters))
    typer.echo(f"deleted {deleted:,}")


# --- what was asked for -----------------------------------------------------------------------------------------------


def _wanted(
    settings: Settings,
    data_type: str | None,
    reason: str,
    *,
    since: str = "",
    older_than: str = "",
    seqs: Iterable[int] = (),
) -> LetterFilter:
    if data_type:
        chosen_types(settings, [data_type])
    try:
        return LetterFilter(
            data_type=data_type or "",
            reason=code_of(reason) if reason else "",
            seqs=frozenset(seqs),
            since=moment(since, time.time()) if since else None,
            before=moment(older_than, time.time()) if older_than else None,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


# --- with the servers -------------------------------------------------------------------------------------------------


def _with_stream(settings: Settings, ask: Callable[[DeadLetterStream, Servers], Awaitable[T]]) -> T:
    logs.configure("error")
    try:
        return with_servers(
            settings,
            "dlq",
            lambda servers: ask(DeadLetterStream(servers.broker, settings.dead_letters.stream), servers),
        )
    except ReaderRunsError as error:
        fail(str(error), Exit.FINDINGS)


async def _whole(stream: DeadLetterStream, seq: int) -> Letter | None:
    letter = await stream.get(seq)
    if letter is None:
        return None
    try:
        return replace(letter, payload=await stream.whole(letter))
    except MessageError as gone:
        typer.echo(str(gone), err=True)
        return letter


async def _collect(
    stream: DeadLetterStream, wanted: LetterFilter, limit: int, order: Order
) -> tuple[list[Letter], Counter[tuple[str, str]]]:
    """At most `limit` of them are kept in memory (0: all); every one is counted."""
    counts: Counter[tuple[str, str]] = Counter()
    newest: deque[Letter] = deque(maxlen=limit or None)
    oldest: list[Letter] = []
    async for letters in stream.batches(wanted, headers_only=True):
        counts.update((letter.data_type, str(letter.reason or letter.code)) for letter in letters)
        if order is Order.NEWEST:
            newest.extend(letters)
        else:
            oldest += itertools.islice(letters, limit - len(oldest) if limit else None)
    return (list(reversed(newest)) if order is Order.NEWEST else oldest), counts


async def _replay(
    settings: Settings, stream: DeadLetterStream, servers: Servers, wanted: LetterFilter, dry_run: bool
) -> tuple[Counter[str], list[Outcome]]:
    counts: Counter[str] = Counter({"replayed": 0, "stored before": 0, "stays": 0})
    stays: list[Outcome] = []
    records = NatsRecords(servers.client, settings.bucket)
    replay = Replay(
        servers.broker, records, stream, [servers.hot, servers.cold], settings.declarations, settings.messages
    )
    async for letters in stream.batches(wanted, alone=not dry_run):
        if dry_run:
            entries, outcomes = await replay.decode(letters)
            counts["replayed"] += len(entries)
        else:
            outcomes = await replay.run(letters)
        counts.update(outcome.state for outcome in outcomes)
        stays += [outcome for outcome in outcomes if outcome.state == "stays"]
    return counts, stays


# --- for people -------------------------------------------------------------------------------------------------------


def _print_list(letters: list[Letter], counts: Counter[tuple[str, str]]) -> None:
    if not counts:
        typer.echo("no dead letters")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("seq", "buried (UTC)", "type", "reason", "field", "subject", "stream seq"):
        table.add_column(name, justify="right" if "seq" in name else "left", overflow="fold")
    for letter in letters:
        fields = as_dict(letter)
        cells = (
            str(letter.seq), times.shown(letter.buried), letter.data_type, fields["reason"], fields["field"], fields["subject"],
            fields["streamSeq"],
        )  # fmt: skip
        table.add_row(*(Text(printable(cell)) for cell in cells))
    stdout.print(table)
    if len(letters) < counts.total():
        typer.echo(f"{len(letters):,} of {counts.total():,} shown")
    typer.echo("")
    _print_counts(counts)


def _print_counts(counts: Counter[tuple[str, str]]) -> None:
    for (data_type, reason), count in counts.most_common():
        typer.echo(f"{count:>9,}  {printable(data_type)}  {printable(reason)}")

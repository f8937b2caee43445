"""`marketprism feed`: publishes what a collector would, and prints the account of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import nats
import nats.errors
import nats.js.errors
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from marketprism_api.data_types import BUILT_IN, Declaration
from marketprism_api.settings import NATS_DOMAIN, jetstream_of_domain, variable
from marketprism_consumer.commands.common import Json, Output, settings_of
from marketprism_consumer.commands.common import seconds as span
from marketprism_consumer.commands.exits import Exit
from marketprism_consumer.errors import StreamLackingError, SubjectsTakenError
from marketprism_consumer.feed import DATA_TYPES, MAX_RATE, arguments, check, regenerate
from marketprism_consumer.feed.publish import PublishAccount, publish
from marketprism_consumer.jetstream.streams import ensure_streams, subjects_by_stream

DEFAULT_URL = "nats://localhost:4222"
# Event time passes this fast when nothing paces the feed: fast enough never to run ahead of the clock.
UNPACED_RATE = 200_000.0

EXAMPLES = """
Examples:

\b
  marketprism feed                                   140 messages per second until Ctrl-C
  marketprism feed --since 6h --rate 10              what would have come in six hours, at once; then ten a second
  marketprism feed --rate 0 --count 1000000          a million, as fast as JetStream takes them
  marketprism feed --seconds 60 --bad 1% --manifest sent.ndjson
  marketprism feed --types trade,orderbook --symbols 10 --book-levels 400
  marketprism feed --streams orderbook=ORDERBOOK_SNAP   where books have a stream of their own
  marketprism feed -f pipeline.yaml --types kline    messages made up from the declaration of kline
"""


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """What was asked for, checked."""

    urls: list[str]
    jetstream: str
    """What requests to JetStream begin with."""
    arguments: dict[str, object]
    streams: dict[str, str]
    """By data type: where it is made if none holds it."""
    subjects: dict[str, list[str]]
    """Of each stream."""
    pipeline: bool
    """It is a pipeline's: its subjects may be in other streams than it says."""
    declared: tuple[Declaration, ...]
    """Types whose messages are made up from their declarations."""
    rate: float | None
    count: int | None
    seconds: float | None
    behind: float
    """What is due when it begins [s]."""
    manifest: Path | None


def feed(
    url: Annotated[
        str, typer.Option(help="NATS, or several separated by commas. [env: MARKETPRISM_NATS_URL, NATS_URL]")
    ] = "",
    domain: Annotated[
        str, typer.Option(help="The JetStream domain to make streams in. [env: MARKETPRISM_NATS_DOMAIN]")
    ] = "",
    rate: Annotated[
        float, typer.Option(min=0, max=MAX_RATE, help="Messages per second; 0: as fast as possible.")
    ] = 140.0,
    count: Annotated[int, typer.Option(min=0, help="Stop after this many messages; 0: never.")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="Stop after this many seconds; 0: never.")] = 0.0,
    since: Annotated[
        str, typer.Option(help="Begin with what would have come since then, such as 6h, at --rate; it comes at once.")
    ] = "0s",
    seed: Annotated[int, typer.Option(help="Same seed and start: same messages, byte for byte.")] = 7,
    types: Annotated[
        str, typer.Option(help="Data types, separated by commas. Not given: all eight, or those of the pipeline.")
    ] = "",
    symbols: Annotated[int, typer.Option(min=1, help="Symbols per venue.")] = 2,
    book_levels: Annotated[int, typer.Option(min=1, max=400, help="Levels on each side of a book.")] = 20,
    bad: Annotated[str, typer.Option(help="Share of messages that can't become a row: 1% or 0.01.")] = "0%",
    manifest: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write a line of JSON for each acknowledged message.")
    ] = None,
    streams: Annotated[
        str,
        typer.Option(
            help="Which stream holds which type; missing ones are created. Not given: default=MARKET_DATA, or as the pipeline says."
        ),
    ] = "",
    file: Annotated[
        str,
        typer.Option(
            "--file",
            "-f",
            help="A StoragePipeline: its data types, types of its own among them, into its streams on its NATS. - reads stdin.",
        ),
    ] = "",
    output: Json = Output.TEXT,
) -> None:
    """Publish a synthetic collector's messages to JetStream: all eight types, every form seen on the wire. With a pipeline's file
    those of its own types, too: made up from their declarations, so that each becomes a row.

    Prints an account of what JetStream acknowledged; its arguments generate the same messages again.
    """
    plan = _plan(
        url, domain, rate, count, seconds, since, seed, types, symbols, book_levels, bad, manifest, streams, file
    )
    account = _run(plan)
    if output is Output.JSON:
        typer.echo(json.dumps(account.as_dict()))
    else:
        _print_account(account)
    if account.refused or account.unknown:
        raise typer.Exit(int(Exit.FINDINGS))


# --- what was asked for -----------------------------------------------------------------------------------------


def _plan(
    url: str,
    domain: str,
    rate: float,
    count: int,
    seconds: float,
    since: str,
    seed: int,
    types: str,
    symbols: int,
    book_levels: int,
    bad: str,
    manifest: Path | None,
    streams: str,
    file: str,
) -> FeedPlan:
    settings = settings_of(file) if file else None
    url = url or os.environ.get("MARKETPRISM_NATS_URL") or os.environ.get("NATS_URL") or ""
    url = url or (settings.nats_url if settings else DEFAULT_URL)
    try:
        if settings and streams:
            raise ValueError("--streams goes without a file: it says which streams there are")
        behind = span(since, "--since")
        if behind and not rate:
            raise ValueError("--since needs a --rate above 0: it says how much comes in that time")
        declarations = {str(name): of.declaration for name, of in settings.data_types.items()} if settings else BUILT_IN
        chosen = [name.strip() for name in types.split(",") if name.strip()] or list(declarations)
        if unknown := [name for name in chosen if name not in declarations]:
            raise ValueError(f"no such data type: {', '.join(unknown)}; there are {', '.join(declarations)}")
        declared = tuple(each for name, each in declarations.items() if each != BUILT_IN.get(name))
        reported = arguments(
            seed,
            types=chosen,
            symbols=symbols,
            bad_ratio=_share(bad),
            book_levels=book_levels,
            start=datetime.now(UTC) - timedelta(seconds=behind),
            rate=rate or UNPACED_RATE,
        )
        check(reported, declared)
        domain = domain or variable(os.environ, NATS_DOMAIN)[1]
        jetstream = jetstream_of_domain(domain) if domain else settings.jetstream if settings else "$JS.API"
        if settings:
            stream_of = {name: settings.data_types[name].stream for name in chosen}
            subjects: dict[str, list[str]] = {}
            for name, stream in stream_of.items():
                subjects.setdefault(stream, []).append(declarations[name].subject)
        else:
            stream_of = _streams(streams)
            subjects = subjects_by_stream(stream_of, DATA_TYPES)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error)) from None
    return FeedPlan(
        [server.strip() for server in url.split(",")],
        jetstream,
        reported,
        stream_of,
        subjects,
        settings is not None,
        declared,
        rate or None,
        count or None,
        seconds or None,
        behind,
        manifest,
    )


def _share(text: str) -> float:
    number = text.strip()
    try:
        return float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        raise ValueError(f"a share is written 1% or 0.01, not {text!r}") from None


def _streams(text: str) -> dict[str, str]:
    found = {"default": "MARKET_DATA"}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, stream = pair.partition("=")
        if name not in ("default", *DATA_TYPES) or not stream:
            raise ValueError(f"streams are written type=STREAM (or default=STREAM), not {pair!r}")
        found[name] = stream
    return found


# --- the run ----------------------------------------------------------------------------------------------------


def _run(plan: FeedPlan) -> PublishAccount:
    try:
        return asyncio.run(_feed(plan))
    except (ConnectionError, nats.errors.TimeoutError) as error:
        _fail(
            f"no connection to NATS at {', '.join(map(_without_password, plan.urls))}: {error}",
            "start a server with `nats-server -js`, or name another with --url or MARKETPRISM_NATS_URL",
            Exit.UNREACHABLE,
        )
    except OSError as error:
        _fail(f"can't write the manifest {error.filename or ''}: {error.strerror}", "", Exit.USAGE)
    except nats.js.errors.ServiceUnavailableError:
        _fail("the NATS server answers, but JetStream does not", "start it with `nats-server -js`", Exit.UNREACHABLE)
    except SubjectsTakenError as error:
        _fail(str(error), f"name it with --streams {error.subject.removesuffix('.>')}={error.holder}", Exit.FINDINGS)
    except StreamLackingError as error:
        _fail(str(error), "", Exit.FINDINGS)
    except nats.errors.Error as error:
        _fail(f"NATS refused: {error}", "", Exit.FINDINGS)


async def _feed(plan: FeedPlan) -> PublishAccount:
    nc = await _connect(plan.urls)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, ValueError, RuntimeError):  # Windows, or not the main thread
            loop.add_signal_handler(number, stop.set)
    try:
        js = nc.jetstream(prefix=plan.jetstream)
        streams = await _streams_for(js, plan)
        if plan.seconds:
            loop.call_later(plan.seconds, stop.set)
        with _Progress(plan) as progress:
            return await publish(
                nc,
                islice(regenerate(plan.arguments, plan.declared), plan.count),
                js=js,
                rate=plan.rate,
                behind=plan.behind,
                streams=streams,
                manifest=plan.manifest,
                on_progress=progress,
                stop=stop,
                arguments=plan.arguments,
            )
    finally:
        await nc.close()


async def _streams_for(js: Any, plan: FeedPlan) -> dict[str, str]:
    """The streams that are published to, made where they are missing. Raises StreamError, NATS's errors."""
    if not plan.pipeline:
        await ensure_streams(js, plan.subjects)
        return plan.streams
    found: dict[str, str] = {}
    for stream, subjects in plan.subjects.items():
        for subject in subjects:
            with suppress(nats.js.errors.NotFoundError):
                found[subject] = await js.find_stream_name_by_subject(subject)
        missing = [subject for subject in subjects if subject not in found]
        if missing and not await ensure_streams(js, {stream: missing}):
            raise StreamLackingError(stream, missing)
        found |= dict.fromkeys(missing, stream)
    return found


async def _connect(urls: list[str]) -> Any:
    reasons: list[str] = []  # the first says most: later ones only follow from it

    async def note(error: Exception) -> None:
        reasons.append(str(error))
        del reasons[1:]

    try:
        nc = await nats.connect(
            urls,
            name="marketprism feed",
            error_cb=note,
            connect_timeout=3,
            max_reconnect_attempts=1,
            reconnect_time_wait=0.2,
        )
    except nats.errors.NoServersError:
        raise ConnectionError("".join(reasons)) from None
    # The first connection must succeed soon; after that, come what may, it is re-established for ever.
    nc.options["max_reconnect_attempts"] = -1
    return nc


def _without_password(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _fail(what: str, hint: str, code: Exit) -> NoReturn:
    typer.echo(f"error: {what}" + (f"\n\nhint: {hint}" if hint else ""), err=True)
    raise typer.Exit(int(code))


# --- what people see --------------------------------------------------------------------------------------------


class _Progress:
    """A line that changes four times a second, on a terminal only: pipes and logs get the account alone."""

    def __init__(self, plan: FeedPlan) -> None:
        self._plan = plan
        self._live: Live | None = None
        self._recent = (time.monotonic(), 0)

    def __enter__(self) -> Callable[[PublishAccount], None]:
        if sys.stderr.isatty():
            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def _show(self, account: PublishAccount) -> None:
        if not self._live:
            return
        then, before = self._recent
        now = time.monotonic()
        current = (account.acknowledged - before) / max(now - then, 1e-9)
        self._recent = (now, account.acknowledged)
        of = f" of {self._plan.count:,}" if self._plan.count else ""
        waiting = account.sent - account.acknowledged
        self._live.update(
            f"{account.seconds:.1f} s  {account.acknowledged:,}{of} acknowledged  {current:,.0f}/s  "
            f"{waiting:,} on their way  {account.bad:,} bad",
            refresh=True,
        )


def _print_account(account: PublishAccount) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("type")
    for name in ("acknowledged", "bad"):
        table.add_column(name, justify="right")
    for name in sorted(
        account.types, key=lambda name: (DATA_TYPES.index(name) if name in DATA_TYPES else len(DATA_TYPES), name)
    ):
        of_type = account.types[name]
        table.add_row(name, f"{of_type.acknowledged:,}", f"{of_type.bad:,}")
    console = Console()
    console.print(table)
    for name, stream in sorted(account.streams.items()):
        typer.echo(f"{name}: {stream.messages:,} messages, sequences {stream.first_seq}..{stream.last_seq}")
    typer.echo(
        f"sent {account.sent:,}, acknowledged {account.acknowledged:,}, stored {account.stored:,}, "
        f"refused {sum(account.refused.values()):,}, unknown {len(account.unknown):,}; "
        f"{account.seconds:.1f} s, {account.rate:,.0f}/s, {account.bytes / 1e6:,.1f} MB"
    )
    for reason, messages in account.refused.items():
        typer.echo(f"refused {messages:,}: {reason}")
    typer.echo(f"the same again: {json.dumps(account.arguments)}")

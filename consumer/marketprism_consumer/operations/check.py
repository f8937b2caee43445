"""Is everything around the pipeline as it should be? Each line says ok, warning or wrong, and what to do. Reads only, but for
one key that is written into the bucket and removed again: whether we may is not to be seen otherwise.

Wrong: it does not work, or the guarantee does not hold. Warning: it works, and will hurt one day.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from nats.errors import Error as NatsError

from marketprism_api import reasons
from marketprism_api.credentials import ClickHouseAuth, NatsAuth
from marketprism_api.reasons import Reason
from marketprism_api.settings import Settings
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.client import ClickHouse, redacted
from marketprism_consumer.clickhouse.servers import Sharded, connected, refuse_split
from marketprism_consumer.clickhouse.shards import store_of
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import BrokerError, ConflictError, StoreError
from marketprism_consumer.ingest.ingest import SILENCE
from marketprism_consumer.jetstream.broker import SECOND, NatsBroker, epoch_seconds
from marketprism_consumer.jetstream.client import PullClient, connect, masked
from marketprism_consumer.jetstream.graveyard import in_the_way
from marketprism_consumer.jetstream.records import NatsRecords
from marketprism_consumer.jetstream.refusals import STREAM_NOT_FOUND
from marketprism_consumer.jetstream.streams import choose
from marketprism_consumer.operations import lanes
from marketprism_consumer.operations.lanes import FoundLane
from marketprism_consumer.schema.ddl import LOCAL
from marketprism_consumer.schema.tables import table_of

CONNECT_WAIT = 5.0  # [s]
REFUSED = (reasons.NATS_DENIED, reasons.NATS_UNTRUSTED)
OLDEST_CLICKHOUSE = (23, 10)
SHORT_WINDOW = 60.0  # of a stream's deduplication by Nats-Msg-Id: a publisher may try again for this long [s]
SHORT_AGE = 3600.0  # of a stream: the outage of ours that loses nothing [s]
SKEW = 2.0  # between clocks [s]
NOT_TOLD = (
    "a server does not tell its sync_interval: unless that is `always`, a power cut can take what was acknowledged in the last two "
    "minutes (by default), which is then noticed, and lost"
)
PARTS_SHARE = 0.5  # of those in a partition at which ClickHouse slows inserts down
DISK_WARNING, DISK_WRONG = 0.15, 0.03  # free


class Level(IntEnum):
    OK = 0
    WARNING = 1
    WRONG = 2


@dataclass(frozen=True, slots=True)
class Line:
    """`found` is what was seen; `todo`, where it is not ok, what to do."""

    level: Level
    what: str
    found: str
    todo: str = ""
    code: str = ""

    def as_dict(self) -> dict[str, str]:
        return {
            "level": self.level.name.lower(),
            "what": self.what,
            "found": self.found,
            "todo": self.todo,
            "code": self.code,
        }


def ok(what: str, found: str) -> Line:
    return Line(Level.OK, what, found)


def warning(what: str, found: str, todo: str) -> Line:
    return Line(Level.WARNING, what, found, todo)


def wrong(what: str, reason: Reason, found: str) -> Line:
    return Line(Level.WRONG, what, found.removeprefix(f"{reason}: "), reason.hint, reason.code)


async def check(
    settings: Settings, nats_auth: Callable[[], NatsAuth], clickhouse_auth: Callable[[], ClickHouseAuth]
) -> AsyncIterator[Line]:
    async with AsyncExitStack() as stack:
        client = PullClient()
        stack.push_async_callback(client.close)
        async for line in check_nats(settings, nats_auth, client):
            yield line
        reached = []
        for url in settings.clickhouse_urls:
            clickhouse = ClickHouse([url], clickhouse_auth, cluster=settings.cluster)
            stack.push_async_callback(clickhouse.close)
            line = await endpoint(clickhouse, url)
            yield line
            if line.level is Level.OK:
                reached.append(clickhouse)
        if not reached:
            return
        every = connected(settings.clickhouse_urls, clickhouse_auth, cluster=settings.cluster, sharded=settings.sharded)
        stack.push_async_callback(every.close)
        yield await _servers(every)
        asked = every if settings.sharded else reached[0]
        async for line in check_clickhouse(settings, asked):
            yield line
        if client.is_connected:
            async for line in check_lanes(settings, NatsBroker(client), store_of(asked, settings.hot_db)):
                yield line


# --- NATS -------------------------------------------------------------------------------------------------------------


async def check_nats(settings: Settings, login: Callable[[], NatsAuth], client: PullClient) -> AsyncIterator[Line]:
    """Leaves the client connected where it could be."""
    where = masked(settings.nats_url)
    try:
        await connect(
            settings.nats_url, login, name="marketprism check", wait=CONNECT_WAIT, client=client, api=settings.jetstream
        )
    except (TimeoutError, NatsError, OSError) as error:
        said = str(error)
        reason = next((each for each in REFUSED if said.startswith(str(each))), reasons.NATS_UNREACHABLE)
        yield wrong("nats", reason, said if said.startswith(str(reason)) else f"{where}: {said}")
        return
    try:
        broker = NatsBroker(client)
        version = client.connected_server_version
        yield ok("nats", f"{where} answers, nats-server {version.major}.{version.minor}.{version.patch}")
        yield ok("nats sync", NOT_TOLD)
        streams: dict[str, Mapping[str, Any]] = {}
        for data_type in settings.data_types:
            async for line in _data_type(broker, settings, data_type, streams):
                yield line
        for name, info in streams.items():
            for line in judge_stream(name, info["config"]):
                yield line
        if server_time := next((info["ts"] for info in streams.values() if "ts" in info), None):
            yield judge_clock("nats clock", epoch_seconds(server_time) - time.time())
        async for line in _bucket(broker, settings, streams):
            yield line
        yield await _dead_letters(broker, settings, *_most_replicas(streams))
    except BrokerError as refused:
        yield wrong("jetstream", refused.reason, refused.detail)


async def _data_type(
    broker: NatsBroker, settings: Settings, data_type: str, streams: dict[str, Mapping[str, Any]]
) -> AsyncIterator[Line]:
    """`streams` gathers what the server says of each."""
    type_settings = settings.data_types[data_type]
    chosen = await choose(broker, settings, data_type)
    what = f"stream of {data_type}"
    if not chosen.read:
        if settings.ensure_streams == "IfMissing":
            yield warning(
                what, f"no stream holds {type_settings.subject}", f"{type_settings.stream} is made when ingest starts"
            )
        else:
            yield wrong(what, reasons.STREAM_MISSING, f"no stream holds {type_settings.subject}")
        return
    for name in type_settings.named:
        if name not in chosen.read:
            yield wrong(what, reasons.STREAM_MISSING, f"there is no {name}, which spec.nats.streams names")
    if chosen.left:
        todo = f"name them in spec.nats.streams.{data_type}, too, unless others store them"
        yield warning(what, f"{', '.join(chosen.left)} holds {type_settings.subject}, and is not read", todo)
    if chosen.copies:
        yield ok(what, f"{', '.join(chosen.copies)} has copies of what is in {', '.join(chosen.read)}, and is not read")
    for stream in chosen.read:
        if stream not in streams:
            streams[stream] = await broker.api(f"STREAM.INFO.{stream}", {})


def judge_stream(name: str, config: Mapping[str, Any]) -> list[Line]:
    what = f"stream {name}"
    found = []
    if config.get("retention") != "limits":
        found.append(wrong(what, reasons.STREAM_UNFIT, f"its retention is {config.get('retention')}"))
    if config.get("storage") != "file":
        found.append(warning(what, f"its storage is {config.get('storage')}", "make it with file storage"))
    if config.get("persist_mode") == "async":
        todo = "make it without: what a server has acknowledged and not yet written is gone when it is killed, without a power cut"
        found.append(warning(what, "its persist_mode is async", todo))
    window = config.get("duplicate_window", 0) / SECOND
    if window < SHORT_WINDOW:
        todo = f"raise duplicate_window to {SHORT_WINDOW:.0f}s or more: a publisher that tries again stores twice"
        found.append(warning(what, f"it knows a Nats-Msg-Id for {window:g} s", todo))
    age = config.get("max_age", 0) / SECOND
    if 0 < age < SHORT_AGE:
        found.append(warning(what, f"it forgets after {age:g} s", "raise max_age: a longer outage of ours loses data"))
    return found or [ok(what, f"limits, file, knows a Nats-Msg-Id for {window:g} s")]


def judge_clock(what: str, ahead: float) -> Line:
    """`ahead`: of this machine's clock [s]."""
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead >= 0 else 'behind'} this machine's"
    if abs(ahead) > SKEW:
        return warning(what, found, "run NTP on both: freshness and ages are wrong by that much")
    return ok(what, found)


async def _bucket(
    broker: NatsBroker, settings: Settings, streams: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[Line]:
    what = f"bucket {settings.bucket}"
    records = NatsRecords(broker.client, settings.bucket)
    try:
        config = (await records.state())["config"]
    except BrokerError as refused:
        if refused.code != STREAM_NOT_FOUND:
            raise
        yield ok(what, "is not there: the first consumer makes it")
        return
    for line in judge_bucket(what, config, *_most_replicas(streams)):
        yield line
    with suppress(ConflictError):  # another check writes it, so it can be written
        try:
            await records.write("check", b"check", (await records.read("check"))[0])
        except BrokerError as refused:
            needed = f"the account needs to publish to $KV.{settings.bucket}.>"
            yield wrong(what, reasons.RECORD_UNAVAILABLE, f"can't be written, {needed}: {refused.detail}")


def judge_bucket(what: str, config: Mapping[str, Any], stream: str, replicas: int) -> list[Line]:
    """`stream`: the one with most replicas of those that are read; `replicas`: how many it has."""
    found = []

    def loses(said: str) -> None:
        found.append(Line(Level.WRONG, what, said, "make it without: a record that is gone puts its lane in doubt"))

    if age := config.get("max_age", 0) / SECOND:
        loses(f"it forgets records after {age:g} s")
    for limit in ("max_msgs", "max_bytes"):
        if (most := config.get(limit, -1)) > 0:
            if config.get("discard") != "new":
                loses(f"its {limit} is {most}, beyond which it forgets records")
            else:
                found.append(warning(what, f"its {limit} is {most}", "raise it: a full bucket refuses records"))
    if config.get("retention") != "limits":
        loses(f"its retention is {config.get('retention')}")
    if config.get("storage") != "file":
        loses(f"its storage is {config.get('storage')}")
    if config.get("persist_mode") == "async":
        loses("its persist_mode is async, so that a server that is killed forgets records")
    if config.get("max_msgs_per_subject", -1) <= 0:
        found.append(warning(what, "it keeps every value that a record ever had", "set its history to 1"))
    if (has := config["num_replicas"]) < replicas:
        todo = f"give it {replicas}: while its servers are away nothing is stored, and a set-back in silence can double rows"
        found.append(warning(what, f"{has} replicas, {stream} has {replicas}", todo))
    return found or [ok(what, f"replicas {has}, keeps its records")]


async def check_lanes(settings: Settings, broker: NatsBroker, store: ClickHouseStore) -> AsyncIterator[Line]:
    try:
        found = [
            lane
            for data_type in settings.data_types
            for lane in await lanes.find_all(settings, broker, store, data_type)
        ]
        heard = await lanes.alive(NatsRecords(broker.client, settings.bucket), found)
    except BrokerError as refused:
        yield wrong("lanes", refused.reason, refused.detail)
        return
    except StoreError as refused:
        yield refused_line("lanes", refused)
        return
    for lane in found:
        if lane.id:  # what is missing is on the line of the stream, or of the schema
            yield judge_lane(lane, heard=lane.key in heard)


def judge_lane(lane: FoundLane, *, heard: bool) -> Line:
    """Of one whose stream and table are there. `heard`: the owner of its tail."""
    what, record = f"lane of {lane.data_type}", lane.record
    if lane.problem:
        return wrong(what, reasons.RECORD_UNAVAILABLE, lane.problem)
    if not record:
        return ok(what, f"{lane.key}: no record yet, the first consumer makes it")
    done = f"{lane.key}: done to {record.done:,}"
    tail = lanes.tail_of(record)
    if not tail or not tail.owner:
        return ok(what, f"{done}; nobody reads now")
    if not heard:
        todo = "another process takes over where one runs: look at the consumers"
        return warning(what, f"{done}; its owner {tail.owner} was not heard for {SILENCE:g} s", todo)
    return ok(what, f"{done}; read by {tail.owner}")


def _most_replicas(streams: Mapping[str, Mapping[str, Any]]) -> tuple[str, int]:
    """The stream that has most of those that are read, and how many; of several the first by name."""
    each = [(name, int(info["config"]["num_replicas"])) for name, info in sorted(streams.items())]
    return max(each, key=lambda one: one[1], default=("", 1))


async def _dead_letters(broker: NatsBroker, settings: Settings, stream: str, replicas: int) -> Line:
    """`stream`: the one with most replicas of those that are read; `replicas`: how many it has."""
    name = settings.dead_letters.stream
    if why := await in_the_way(broker, name):
        return wrong("dead letters", reasons.DEAD_LETTERS_UNAVAILABLE, why)
    try:
        letters = (await broker.stream(name)).messages
        has = await broker.replicas(name)
    except BrokerError as refused:
        if refused.reason is not reasons.STREAM_MISSING:
            raise
        return ok("dead letters", f"{name} is not there: made with the first one")
    if has < replicas:
        todo = f"give it {replicas}: while its only server is away, a block with a bad message can't be done"
        return warning("dead letters", f"{name} has {has} replicas, {stream} has {replicas}", todo)
    if letters:
        return warning("dead letters", f"{letters:,} in {name}", "look at `marketprism dlq list`")
    return ok("dead letters", f"none in {name}")


# --- ClickHouse -------------------------------------------------------------------------------------------------------


def refused_line(what: str, refused: StoreError, otherwise: Reason = reasons.CLICKHOUSE_DENIED) -> Line:
    reason = refused.reason if refused.code == 0 else otherwise
    return wrong(what, reason, str(refused).removeprefix(f"{reasons.CLICKHOUSE_DENIED}: "))


async def endpoint(clickhouse: ClickHouse, url: str) -> Line:
    what = "clickhouse"
    try:
        version = str((await clickhouse.query("SELECT version()"))[0][0])
    except StoreError as refused:
        return refused_line(what, refused)
    major, minor, *_ = version.split(".")
    if (int(major), int(minor)) < OLDEST_CLICKHOUSE:
        return Line(Level.WRONG, what, f"{redacted(url)} is ClickHouse {version}", "update it to 23.10 or newer")
    return ok(what, f"{redacted(url)} answers, ClickHouse {version}")


async def _servers(clickhouse: ClickHouse) -> Line:
    """`clickhouse`: at all of its URLs."""
    try:
        await refuse_split(clickhouse)
    except StoreError as refused:
        return refused_line("servers", refused)
    if isinstance(clickhouse, Sharded):
        return ok("servers", f"each URL is of one shard: {', '.join(sorted(await clickhouse.place()))}")
    return ok("servers", "rows can't be split: one server answers, or one shard of the cluster")


async def check_clickhouse(settings: Settings, clickhouse: ClickHouse) -> AsyncIterator[Line]:
    before = time.time()
    server_time = (await clickhouse.query("SELECT toUnixTimestamp64Milli(now64(3))"))[0][0] / 1000
    yield judge_clock("clickhouse clock", server_time - (before + time.time()) / 2)
    servers = await _each_shard(clickhouse)
    for checks, of in (
        (_settings, servers),
        (_schema, [clickhouse]),
        (_rights, servers),
        (_parts, servers),
        (_disks, servers),
    ):
        for server in of:
            try:
                for line in await checks(settings, server):
                    yield line
            except StoreError as refused:
                yield refused_line(checks.__name__.strip("_"), refused)


async def _each_shard(clickhouse: ClickHouse) -> list[ClickHouse]:
    if not isinstance(clickhouse, Sharded):
        return [clickhouse]
    try:
        return [await clickhouse.shard(name) for name in sorted(await clickhouse.place())]
    except StoreError:
        return []  # told on the servers' line


async def _settings(settings: Settings, clickhouse: ClickHouse) -> list[Line]:
    """What every insert and look-up rests on, and what stands in front of ClickHouse may spoil."""
    await clickhouse.prove_settings()
    return [ok("settings", "settings and parameters arrive as they are sent")]


async def _schema(settings: Settings, clickhouse: ClickHouse) -> list[Line]:
    if settings.schema_mode == "Ignore":
        return [ok("schema", "spec.schema.mode is Ignore: the tables are your own")]
    plan = await schema.current_plan(clickhouse, settings)
    found = []
    for change in plan.changes:
        if change.convenience:
            found.append(warning("schema", change.why, "run `marketprism schema apply`"))
        elif "deduplication_window" in change.sql and change.sql.startswith("ALTER"):
            found.append(wrong("deduplication", reasons.NO_DEDUP_WINDOW, change.why))
        else:
            found.append(wrong("schema", reasons.SCHEMA_MISSING, change.why))
    for difference in plan.differences:
        said = f"{difference.where}: {difference.what}"
        if difference.blocking:
            found.append(wrong("schema", difference.reason, said))
        else:
            found.append(warning("schema", said, "nothing, if it is intended"))
    return found or [ok("schema", f"{len(settings.data_types)} tables in {settings.hot_db} and {settings.cold_db} fit")]


async def _rights(settings: Settings, clickhouse: ClickHouse) -> list[Line]:
    """Each by doing it, with no rows."""
    found = []
    for database in (settings.hot_db, settings.cold_db):
        for data_type in settings.data_types:
            table = table_of(settings.data_types[data_type].declaration)
            names = ", ".join(column.name for column in table.inserted)
            where = f"`{database}`.`{table.name}{LOCAL if settings.sharded else ''}`"
            try:
                await clickhouse.command(f"INSERT INTO {where} ({names}) SELECT {names} FROM {where} WHERE 0")
            except StoreError as refused:
                if refused.code not in (60, 81):  # what is missing is on the schema's line
                    reason = reasons.INSERT_BLOCKED if refused.code not in (0, 164, 497) else reasons.CLICKHOUSE_DENIED
                    found.append(refused_line(f"rights on {database}.{table.name}", refused, reason))
    sources = ["parts", "processes", "columns", "tables"]
    sources += ["replicas"] if settings.cluster else []
    for source in sources:
        try:
            await clickhouse.query(f"SELECT 1 FROM system.{source} LIMIT 0")
        except StoreError as refused:
            found.append(refused_line(f"rights on system.{source.partition(' ')[0]}", refused))
    return found or [ok("rights", f"SELECT and INSERT in {settings.hot_db} and {settings.cold_db}, SELECT in system")]


async def _parts(settings: Settings, clickhouse: ClickHouse) -> list[Line]:
    limit = await clickhouse.query("SELECT value FROM system.merge_tree_settings WHERE name = 'parts_to_delay_insert'")
    rows = await clickhouse.query(
        "SELECT database, table, partition, count() AS parts FROM system.parts"
        " WHERE active AND database IN {databases:Array(String)} GROUP BY database, table, partition"
        " ORDER BY parts DESC LIMIT 5",
        {"databases": [settings.hot_db, settings.cold_db]},
    )
    return judge_parts([(f"{row[0]}.{row[1]}", str(row[2]), int(row[3])) for row in rows], int(limit[0][0]))


def judge_parts(most: Sequence[tuple[str, str, int]], delay: int) -> list[Line]:
    """`most`: table, partition and its parts, those with most first. ClickHouse slows inserts from `delay` on."""
    found = []
    for table, partition, parts in most:
        said = f"{parts:,} in partition {partition} of {table}; from {delay:,} on inserts are slowed down"
        todo = "larger batches (maxRows, maxDelay) make fewer; look at system.merges"
        if parts >= delay:
            found.append(Line(Level.WRONG, "parts", said, todo))
        elif parts >= delay * PARTS_SHARE:
            found.append(warning("parts", said, todo))
    highest = most[0][2] if most else 0
    return found or [ok("parts", f"{highest:,} in a partition at most; from {delay:,} on inserts are slowed down")]


async def _disks(_: Settings, clickhouse: ClickHouse) -> list[Line]:
    rows = await clickhouse.query("SELECT name, free_space, total_space FROM system.disks WHERE total_space > 0")
    return [judge_disk(str(name), int(free), int(total)) for name, free, total in rows]


def judge_disk(name: str, free: int, total: int) -> Line:
    share = free / total
    said = f"{free / 1e9:,.1f} GB of {total / 1e9:,.1f} are free"
    todo = "move more to cold (olderThan), set cold.retention, or add space: a full disk refuses inserts"
    if share > DISK_WARNING:
        return ok(f"disk {name}", said)
    return Line(Level.WRONG if share <= DISK_WRONG else Level.WARNING, f"disk {name}", said, todo)

"""What a command works with: the environment over the file over the defaults, every value resolved."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from .data_types import BatchLimits, Declaration, ValidationLimits
from .messages import MessageLimits
from .pipeline import PipelineSpec, StoragePipeline
from .problems import Objection, Problem, ResourceError, ValueRefusedError, shown
from .subjects import matches
from .types import CLICKHOUSE_SCHEMES, NATS_SCHEMES, Database, EndpointUrl, StreamName, SubjectPrefix, endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .tiering import TieringPolicy

_T = TypeVar("_T")

NATS_URL = ("MARKETPRISM_NATS_URL", "NATS_URL")
NATS_DOMAIN = "MARKETPRISM_NATS_DOMAIN"
NATS_API_PREFIX = "MARKETPRISM_NATS_API_PREFIX"
CLICKHOUSE_URL = ("CLICKHOUSE_HTTP_URL",)
COLD_URL = ("CLICKHOUSE_COLD_HTTP_URL",)
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}")
MAX_WINDOW_HOURS = 87_600


@dataclass(frozen=True, slots=True)
class DataTypeSettings:
    """One data type's way from its streams to its table. `stream`: where it is made if none holds it. `named`: the streams that it is
    read from; none: whichever hold it."""

    declaration: Declaration
    stream: str
    batch: BatchLimits
    named: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The subjects that carry it."""
        return self.declaration.subject

    @property
    def table(self) -> str:
        """The name of its table in both databases."""
        return self.declaration.table


@dataclass(frozen=True, slots=True)
class DeadLetterSettings:
    """Where dead letters go, and when there are too many."""

    stream: str
    max_ratio: float
    """0 to 1: above it, within `window` and from `min_messages` on, an exchange's bad messages are held back."""
    min_messages: int
    window: float
    """Seconds."""
    max_age: float | None
    """Seconds; None keeps them forever."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Resolved. Holds no credentials: URLs are without user and password, those are in `credentials`."""

    pipeline_name: str
    nats_urls: tuple[str, ...]
    clickhouse_urls: tuple[str, ...]
    hot_db: str
    cold_db: str
    cold_urls: tuple[str, ...]
    """Empty: cold is on hot's server."""
    cluster: str
    """Empty for a single server."""
    sharded: bool
    """Are rows spread over the cluster's shards, by symbol?"""
    insert_quorum: bool
    """On a cluster: is stored what a majority of a table's replicas have?"""
    schema_mode: str
    """Apply, Verify or Ignore."""
    hot_retention: float | None
    """Seconds; None keeps rows."""
    ensure_streams: str
    """Never or IfMissing."""
    jetstream: str
    """What requests to JetStream begin with."""
    domain_given: bool
    """Where a server has JetStream domains: is it known which is meant?"""
    replicas: int | None
    """Of streams that are made; None: as the streams that are read."""
    bucket: str
    """The NATS key-value bucket with the records of the lanes."""
    dead_letters: DeadLetterSettings
    messages: MessageLimits
    data_types: Mapping[str, DataTypeSettings]
    consumers: Mapping[str, tuple[str, ...]]
    validation_window: float
    """Seconds."""
    limits: Mapping[str, ValidationLimits]
    """What validation finds wrong."""
    migration_window_hours: float
    migration_batch_limit: int
    """Rows per table and run."""
    origins: Mapping[str, str]
    """For each setting that the environment can give: `environment <NAME>`, `file` or `default`."""

    @property
    def nats_url(self) -> str:
        """All servers, separated by commas."""
        return ",".join(self.nats_urls)

    @property
    def nats_url_given(self) -> bool:
        """False where no one named a NATS: `marketprism run` then starts its own."""
        return self.origins["nats_url"] != "default"

    @property
    def clickhouse_url_given(self) -> bool:
        """False where no one named a ClickHouse."""
        return self.origins["clickhouse_url"] != "default"

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that are read, each once."""
        return tuple(dict.fromkeys(data_type.stream for data_type in self.data_types.values()))

    @property
    def declarations(self) -> dict[str, Declaration]:
        """Of the data types that are stored, by name."""
        return {name: each.declaration for name, each in self.data_types.items()}

    def type_of(self, subject: str) -> str | None:
        """The data type of a message with this subject; None where it is none of the pipeline's."""
        return next((name for name, each in self.data_types.items() if matches(each.subject, subject)), None)


def effective(
    pipeline: StoragePipeline | None, environ: Mapping[str, str], policy: TieringPolicy | None = None
) -> Settings:
    """Everything resolved. `policy` is the file's word on migration. Raises ResourceError naming every bad variable."""
    spec = pipeline.spec if pipeline else PipelineSpec()
    pipeline_name = str(pipeline.metadata.name) if pipeline else "default"
    values = _Values(environ)

    nats = values.take(
        "nats_url", NATS_URL, nats_endpoints, _in_file(spec, "nats", "url"), nats_endpoints(spec.nats.url)
    )
    jetstream = _jetstream(values, spec)
    clickhouse = values.take(
        "clickhouse_url",
        CLICKHOUSE_URL,
        clickhouse_endpoints,
        _in_file(spec, "clickhouse", "url"),
        clickhouse_endpoints(spec.clickhouse.url),
    )
    databases = spec.clickhouse
    hot_db = values.take(
        "hot_db", ("CLICKHOUSE_HOT_DB",), Database, _in_file(spec, "clickhouse", "hot_database"), databases.hot_database
    )
    cold_db = values.take(
        "cold_db",
        ("CLICKHOUSE_COLD_DB",),
        Database,
        _in_file(spec, "clickhouse", "cold_database"),
        databases.cold_database,
    )
    if hot_db == cold_db and not values.problems:
        values.refuse(
            "CLICKHOUSE_HOT_DB and CLICKHOUSE_COLD_DB", "are the same database", "two different databases", hot_db
        )
    cold = values.take(
        "cold_url",
        COLD_URL,
        clickhouse_endpoints,
        bool(policy and policy.spec.cold.url),
        clickhouse_endpoints(str(policy.spec.cold.url)) if policy and policy.spec.cold.url else (),
    )
    window = values.take(
        "migration_window_hours",
        ("MIGRATION_WINDOW_HOURS",),
        _hours,
        bool(policy and "older_than" in policy.spec.model_fields_set),
        policy.spec.older_than.seconds / 3600 if policy else 8.0,
    )
    limit = values.take(
        "migration_batch_limit",
        ("MIGRATION_BATCH_LIMIT",),
        _rows,
        bool(policy and "batch_limit" in policy.spec.model_fields_set),
        policy.spec.batch_limit if policy else 5_000_000,
    )
    if values.problems:
        raise ResourceError(values.problems)
    clickhouse_urls, cold_urls = tuple(server.url for server in clickhouse), tuple(server.url for server in cold)
    sharded = databases.sharding != "none"
    if sharded and cold_urls not in ((), clickhouse_urls):
        message = "can't be given for a pipeline with spec.clickhouse.sharding: each shard has its own cold tier"
        where = values.origins["cold_url"]
        raise ResourceError([Problem(message, path="spec.cold.url" if where == "file" else where, allowed="no URL")])
    declared = spec.declarations
    return Settings(
        pipeline_name=pipeline_name,
        nats_urls=tuple(server.url for server in nats),
        clickhouse_urls=clickhouse_urls,
        hot_db=str(hot_db),
        cold_db=str(cold_db),
        cold_urls=cold_urls if cold_urls != clickhouse_urls else (),
        cluster=str(databases.cluster),
        sharded=sharded,
        insert_quorum=databases.insert_quorum == "auto",
        schema_mode=spec.table_schema.mode,
        hot_retention=spec.table_schema.hot_retention.seconds or None,
        ensure_streams=spec.nats.ensure_streams,
        jetstream=jetstream,
        domain_given=values.origins["jetstream"] != "default",
        replicas=spec.nats.replicas,
        bucket=str(spec.nats.bucket),
        dead_letters=DeadLetterSettings(
            str(spec.dead_letters.stream),
            spec.dead_letters.max_ratio.value,
            spec.dead_letters.min_messages,
            spec.dead_letters.window.seconds,
            spec.dead_letters.max_age.seconds or None,
        ),
        messages=spec.messages.limits,
        data_types={
            name: DataTypeSettings(each, spec.stream(name), spec.batch(name), spec.streams(name))
            for name, each in declared.items()
        },
        consumers={str(name): tuple(map(str, consumer.data_types)) for name, consumer in spec.carriers.items()},
        validation_window=spec.validation.window.seconds,
        limits={name: spec.validation.of(each, spec.messages.limits) for name, each in declared.items()},
        migration_window_hours=window,
        migration_batch_limit=limit,
        origins=values.origins,
    )


def variable(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first of `names` that is set, and its value; two empty texts where none is. Empty counts as not set."""
    return next(((name, value) for name in names if (value := environ.get(name, "").strip())), ("", ""))


def nats_endpoints(text: str) -> tuple[EndpointUrl, ...]:
    """NATS servers, credentials apart. Raises ValueRefusedError."""
    return endpoints(text, NATS_SCHEMES, 4222)


def clickhouse_endpoints(text: str) -> tuple[EndpointUrl, ...]:
    """ClickHouse endpoints, credentials apart. Raises ValueRefusedError."""
    return endpoints(text, CLICKHOUSE_SCHEMES, 8123)


def _jetstream(values: _Values, spec: PipelineSpec) -> str:
    """Of the environment one variable, which takes the place of domain and apiPrefix in the file."""
    domain, prefix = (variable(values.environ, name)[1] for name in (NATS_DOMAIN, NATS_API_PREFIX))
    in_file = _in_file(spec, "nats", "domain") or _in_file(spec, "nats", "api_prefix")
    if domain and prefix:
        values.refuse(f"{NATS_DOMAIN} and {NATS_API_PREFIX}", "are both given", "one of them", domain)
    if domain:
        return values.take("jetstream", (NATS_DOMAIN,), jetstream_of_domain, in_file, spec.nats.jetstream)
    return values.take(
        "jetstream", (NATS_API_PREFIX,), lambda text: str(SubjectPrefix(text)), in_file, spec.nats.jetstream
    )


def jetstream_of_domain(text: str) -> str:
    """What requests to JetStream begin with. Raises ValueRefusedError."""
    return f"$JS.{StreamName(text)}.API"


def _hours(text: str) -> float:
    if _DECIMAL.fullmatch(text) and 0 < float(text) <= MAX_WINDOW_HOURS:
        return float(text)
    hint = f"leave out the unit: {text[:-1]}" if _DECIMAL.fullmatch(text[:-1]) and text[-1] == "h" else ""
    raise ValueRefusedError(
        Objection("is not a number of hours", f"more than 0, at most {MAX_WINDOW_HOURS}, such as 8 or 0.05", hint)
    )


def _rows(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) and 1 <= int(text) <= 1_000_000_000:
        return int(text)
    raise ValueRefusedError(Objection("is not a number of rows", "1 to 1000000000"))


def _in_file(spec: PipelineSpec, section: str, name: str) -> bool:
    return section in spec.model_fields_set and name in getattr(spec, section).model_fields_set


class _Values:
    """Takes values from where they have precedence, and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.origins: dict[str, str] = {}
        self.problems: list[Problem] = []

    def take(
        self, setting: str, names: tuple[str, ...], parse: Callable[[str], _T], in_file: bool, otherwise: _T
    ) -> _T:
        """The environment's value, else `otherwise`, which is the file's or the default."""
        name, text = variable(self.environ, *names)
        if not name:
            self.origins[setting] = "file" if in_file else "default"
            return otherwise
        self.origins[setting] = f"environment {name}"
        try:
            return parse(text)
        except ValueRefusedError as refused:
            for objection in refused.objections:
                self.refuse(name, objection.message, objection.allowed, text, objection.hint)
            return otherwise

    def refuse(self, name: str, message: str, allowed: str, value: str, hint: str = "") -> None:
        """Notes a problem with a variable."""
        path = f"environment {name}"
        self.problems.append(Problem(message, path=path, value=shown(value), allowed=allowed, hint=hint))

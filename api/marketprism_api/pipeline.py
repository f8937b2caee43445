"""StoragePipeline: which market data goes from which streams into which tables, and who carries it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from .cel import CelRule, one_of, rules, unchangeable
from .data_types import BUILT_IN, BatchLimits, Declaration
from .declared import COMMON, MOST_TYPES, Count, DataTypeSpec, declarations
from .messages import MessagesSpec
from .meta import Bool, Int, Model, Resource, ResourceStatus, SecretRef, StatusModel
from .problems import Objection, ValueRefusedError, did_you_mean
from .types import (
    Between,
    BucketName,
    ClickHouseUrls,
    ClusterName,
    ConsumerName,
    Database,
    DataTypeName,
    Duration,
    JsonObject,
    NatsUrls,
    Quantity,
    Ratio,
    StreamName,
    StreamNames,
    SubjectPrefix,
)
from .validation import ValidationSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_STREAM = "MARKET_DATA"
_BUILT_IN = one_of(BUILT_IN)
_NEW_PIPELINE = "create another pipeline, and delete this one when it has drained"

Int32 = Annotated[Int, Field(ge=0, json_schema_extra={"format": "int32"})]
Int64 = Annotated[Int, Field(ge=0, json_schema_extra={"format": "int64"})]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
ProgressDeadline = Annotated[Duration, Between("10s", "24h")]
PROGRESS_DEADLINE = Duration("10m")
AnyObject = Annotated[JsonObject, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


def _keys(of: str, allowed: str, message: str) -> CelRule:
    """A map's keys can only be ruled by CEL."""
    return CelRule(f"self.all(key, {allowed})", f"{message}: {of}")


# What is written to a node: /tmp, and logs until the kubelet rotates them.
DEFAULT_REQUESTS = {"cpu": Quantity("100m"), "memory": Quantity("256Mi"), "ephemeral-storage": Quantity("128Mi")}
DEFAULT_LIMITS = {"memory": Quantity("512Mi")}


class Resources(Model):
    """CPU and memory of a container."""

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """What the scheduler reserves. By default 100m of cpu, 256Mi of memory and 128Mi of ephemeral-storage."""
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """What may not be exceeded. By default 512Mi of memory."""

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        requests, limits = {**DEFAULT_REQUESTS, **self.requests}, {**DEFAULT_LIMITS, **self.limits}
        for name in sorted(requests.keys() & limits.keys()):
            request, limit = requests[name], limits[name]
            if request.value <= limit.value:
                continue
            if name in self.requests:
                default = "" if name in self.limits else " (the default)"
                said = f"is above limits.{name}, {limit}{default}"
                hint = f"give a limits.{name} of at least {request}"
                raise ValueRefusedError(Objection(said, path=f"requests.{name}", hint=hint))
            said, hint = f"is below requests.{name}, {request} (the default)", f"give requests.{name}, too"
            raise ValueRefusedError(Objection(said, path=f"limits.{name}", hint=hint))
        return self


class PodTemplate(Model):
    """What is laid over the Pods that the operator builds."""

    metadata: AnyObject = Field(default_factory=dict)
    """Labels and annotations for the Pods."""
    spec: AnyObject = Field(default_factory=dict)
    """Part of a PodSpec, merged strategically: containers by name."""


class NatsSpec(Model):
    """The user's NATS. Several pipelines may read one stream."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            CelRule("!(has(self.domain) && has(self.apiPrefix))", "give domain or apiPrefix, not both")
        )
    )

    url: NatsUrls = NatsUrls("nats://localhost:4222")
    """Servers, several separated by commas. No credentials in it: see authSecretRef."""
    streams: Annotated[
        dict[str, StreamNames],
        Field(min_length=1, max_length=MOST_TYPES + 1),
    ] = Field(default_factory=dict)
    """Which streams a data type is read from, several separated by commas: exactly these, mirrors and aggregates too. A data type
    without its own is read from every stream that holds its subjects; `default` is where they are made if none does, MARKET_DATA
    where that isn't given either."""
    ensure_streams: Literal["Never", "IfMissing"] = "IfMissing"
    """IfMissing creates streams that aren't there; one that exists is never altered."""
    replicas: Annotated[Int, Field(ge=1, le=5, json_schema_extra={"format": "int32"})] | None = None
    """Of what is made: the bucket of records, the dead letters, streams that are missing. Left out, the first two have as many as the
    stream with the most, and a stream has one."""
    bucket: BucketName = BucketName("MARKETPRISM_LANES")
    """The key-value bucket that records how far each stream is stored into each table. Made where it is missing. The tables name it:
    a pipeline with another one stores nothing into them."""
    domain: StreamName | None = None
    """The JetStream domain that holds the streams, where the server is a leaf node or has domains beside it."""
    api_prefix: SubjectPrefix | None = None
    """What requests to JetStream begin with, where another account exports it. Instead of domain. Where there are leaf nodes and no
    domains, $JS.API says that streams are to be made on the server itself."""
    auth_secret_ref: SecretRef | None = None
    """Secret with username and password, token, nkey.seed or user.creds, and for TLS ca.crt, tls.crt and tls.key."""
    tls_secret_ref: SecretRef | None = None
    """Secret with ca.crt, tls.crt and tls.key, where they are apart (as cert-manager writes them)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.domain is not None and self.api_prefix is not None:
            raise ValueRefusedError(Objection("give domain or apiPrefix, not both", path="apiPrefix"))
        return self

    @property
    def jetstream(self) -> str:
        """What requests to JetStream begin with."""
        return str(self.api_prefix or (f"$JS.{self.domain}.API" if self.domain else "$JS.API"))


class ClickHouseSpec(Model):
    """The user's ClickHouse, over HTTP."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            CelRule(
                "!has(self.hotDatabase) || !has(self.coldDatabase) || self.hotDatabase != self.coldDatabase",
                "coldDatabase must be another database than hotDatabase",
            ),
            CelRule(
                "!has(self.sharding) || self.sharding == 'none' || (has(self.cluster) && self.cluster != '')",
                "sharding needs cluster: name the cluster whose shards are meant, as in system.clusters",
            ),
        )
    )

    url: ClickHouseUrls = ClickHouseUrls("http://localhost:8123")
    """Endpoints, several separated by commas: the next is used when one fails. No credentials: see authSecretRef."""
    auth_secret_ref: SecretRef | None = None
    """Secret with username and password, and for TLS ca.crt, tls.crt and tls.key."""
    tls_secret_ref: SecretRef | None = None
    """Secret with ca.crt, tls.crt and tls.key, where they are apart."""
    hot_database: Annotated[Database, unchangeable("hotDatabase", _NEW_PIPELINE)] = Database("marketprism_hot")
    """Written all day."""
    cold_database: Annotated[Database, unchangeable("coldDatabase", _NEW_PIPELINE)] = Database("marketprism_cold")
    """Keeps for good what a TieringPolicy moves there."""
    cluster: Annotated[ClusterName, unchangeable("cluster", _NEW_PIPELINE)] = ClusterName("")
    """When set, tables are made ON CLUSTER with Replicated engines."""
    sharding: Annotated[Literal["none", "bySymbol"], unchangeable("sharding", _NEW_PIPELINE)] = "none"
    """bySymbol: rows are spread over all shards of the cluster, each symbol on one of them. The url then lists replicas or
    balancers of every shard."""
    insert_quorum: Literal["auto", "none"] = "auto"
    """With a cluster: stored is what a majority of a table's replicas have, or what one of them has. Of two replicas, auto
    needs both; what can't be stored meanwhile waits in JetStream."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hot_database == self.cold_database:
            message = "is the hot database too: rows would be copied onto themselves and then deleted"
            raise ValueRefusedError(Objection(message, "two different databases", path="coldDatabase"))
        if self.sharding != "none" and not self.cluster:
            raise ValueRefusedError(
                Objection("needs cluster: its shards are meant", "none, or name the cluster", path="sharding")
            )
        return self


class Schema(Model):
    """Who makes the tables, and how long hot ones keep rows."""

    mode: Literal["Apply", "Verify", "Ignore"] = "Apply"
    """Apply creates and extends tables, never drops; Verify only compares; Ignore does neither."""
    hot_retention: Annotated[Duration, Between("1h", "87600h", or_zero=True)] = Duration("0s")
    """Rows in hot older than this may be deleted; 0s keeps them.
    Under a TieringPolicy none is deleted that cold doesn't have."""


class DeadLetters(Model):
    """Where messages go that can't become rows, and when a venue has too many of them."""

    stream: StreamName = StreamName("MARKETPRISM_DLQ")
    """The stream that keeps them with the reason."""
    max_ratio: Ratio = Ratio("0.1")
    """Of each exchange's messages of a data type within `window`: where more than this part can't be rows, those are held back for
    minutes before they become dead letters; all else is stored. A decimal in quotes."""
    min_messages: Count = 100
    """Fewer messages of an exchange than this within `window` are never held back."""
    window: Annotated[Duration, Between("1s", "1h")] = Duration("1m")
    """The time over which the ratio is taken."""
    max_age: Annotated[Duration, Between("1h", "87600h", or_zero=True)] = Duration("168h")
    """How long a dead letter is kept; 0s keeps it forever."""


PodCount = Annotated[Int, Field(ge=1, le=64, json_schema_extra={"format": "int32"})]


class AutoscaleSpec(Model):
    """Pods by how late rows come: more while that is above the target, fewer after it was well below for five minutes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            CelRule("!has(self.min) || self.min <= self.max", "min must not be above max"),
        )
    )

    min: PodCount = 1
    """Pods at the least."""
    max: PodCount
    """Pods at the most. A stretch of a backlog is one Pod's, so more than there are stretches stand by."""
    target_lag: Annotated[Duration, Between("1s", "24h")] = Duration("30s")
    """How late rows may come, from a message's arrival in its stream to its row."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise ValueRefusedError(Objection(f"is above max, {self.max}", path="min"))
        return self


class ConsumerSpec(Model):
    """A Deployment that carries some of the data types."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            CelRule("!(has(self.replicas) && has(self.autoscale))", "give replicas or autoscale, not both"),
        )
    )

    data_types: Annotated[
        tuple[DataTypeName, ...],
        Field(min_length=1, max_length=MOST_TYPES, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ]
    """What it carries. Every data type of the pipeline is in exactly one consumer."""
    replicas: Annotated[Int, Field(ge=0, le=64, json_schema_extra={"format": "int32"})] | None = None
    """Pods. One of them reads what comes of a data type, the others stand by; a backlog is shared. Any number is right. Left out, the
    Deployment begins with one, and whoever scales it (`kubectl scale`, an autoscaler) is not interfered with."""
    autoscale: AutoscaleSpec | None = None
    """The operator scales it, by the lag that its Pods tell. Instead of replicas."""
    resources: Resources = Resources()
    """CPU and memory of the consumer's container."""
    pod_template: PodTemplate = PodTemplate()
    """Laid over the Pods."""
    metrics_port: Annotated[Int, Field(ge=1024, le=65535, json_schema_extra={"format": "int32"})] = 9464
    """Serves /metrics, /healthz and /readyz."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        twice = sorted({t for t in self.data_types if self.data_types.count(t) > 1})
        if twice:
            raise ValueRefusedError(Objection(f"names {', '.join(twice)} twice", path="dataTypes"))
        if self.replicas is not None and self.autoscale is not None:
            raise ValueRefusedError(Objection("give replicas or autoscale, not both", path="autoscale"))
        return self


DEFAULT_CONSUMER = ConsumerName("default")

_DEFAULT_ROWS = "{" + ", ".join(f"'{name}': {each.batch.max_rows}" for name, each in BUILT_IN.items()) + "}"


def _carried_once(data_type: str) -> CelRule:
    """One rule per type, so that the message can name it: a computed message would cost more than CEL's budget."""
    stored = f"has(self.consumers) && (!has(self.dataTypes) || '{data_type}' in self.dataTypes)"
    once = f"self.consumers.exists_one(c, '{data_type}' in self.consumers[c].dataTypes)"
    return CelRule(
        f"!({stored}) || {once}", f"data type {data_type} must be in exactly one consumer, and is in none or several"
    )


def _fixed(which: str, field: str) -> str:
    return f"(has({which}.dataTypes[t].{field}) ? {which}.dataTypes[t].{field} : '')"


class PipelineSpec(Model):
    """Everything may be left out: that is eight data types, one consumer, every default."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *(_carried_once(data_type) for data_type in BUILT_IN),
            CelRule(
                "!has(self.consumers) || !has(self.dataTypes) || "
                f"self.dataTypes.all(t, t in {_BUILT_IN} || self.consumers.exists_one(c, t in self.consumers[c].dataTypes))",
                "a data type of your own must be in exactly one consumer, and one is in none or several",
            ),
            CelRule(
                "!has(self.nats) || !has(self.nats.streams) || self.nats.streams.all(t, t == 'default' || "
                f"(has(self.dataTypes) ? t in self.dataTypes : t in {_BUILT_IN}))",
                "a key of nats.streams must be default, or a data type that is stored",
            ),
            CelRule(
                "!has(self.validation) || !has(self.validation.limits) || self.validation.limits.all(t, "
                f"has(self.dataTypes) ? t in self.dataTypes : t in {_BUILT_IN})",
                "a key of validation.limits must be a data type that is stored",
            ),
            CelRule(
                "!has(self.consumers) || !has(self.dataTypes) || "
                "self.consumers.all(c, self.consumers[c].dataTypes.all(t, t in self.dataTypes))",
                "a consumer names a data type that is not in dataTypes: add it there, or remove it from the consumer",
            ),
            CelRule(
                "has(self.dataTypes) ? self.dataTypes.all(t, has(oldSelf.dataTypes) ? !(t in oldSelf.dataTypes) || "
                f"({_fixed('self', 'subject')} == {_fixed('oldSelf', 'subject')} && "
                f"{_fixed('self', 'table')} == {_fixed('oldSelf', 'table')}) : "
                f"!(t in {_BUILT_IN}) || !has(self.dataTypes[t].subject)) : "
                "!has(oldSelf.dataTypes) || oldSelf.dataTypes.all(t, !has(oldSelf.dataTypes[t].subject))",
                "subject and table of a data type can't be changed while Pods read by the old ones: delete the pipeline and "
                "create it anew, which loses nothing",
            ),
            CelRule(
                "!has(self.nats) || !has(self.deadLetters) || "
                "!(has(self.nats.streams) ? self.nats.streams.map(t, self.nats.streams[t]) : ['"
                + DEFAULT_STREAM
                + "'])"
                ".exists(streams, (',' + streams + ',').contains(',' + self.deadLetters.stream + ','))",
                "deadLetters.stream must not be a stream that is read",
            ),
        )
    )

    suspend: Bool = False
    """true stops the consumers after they have written what they hold. JetStream keeps the rest, within its limits."""
    progress_deadline: ProgressDeadline = PROGRESS_DEADLINE
    """How long it may take to be Ready, at first, after an edit and after a fault; then it is Stalled as well, until it is Ready."""
    nats: NatsSpec = NatsSpec()
    """Where messages come from."""
    clickhouse: ClickHouseSpec = ClickHouseSpec()
    """Where rows go."""
    table_schema: Annotated[Schema, Field(alias="schema")] = Schema()
    """The tables."""
    dead_letters: DeadLetters = DeadLetters()
    """Messages that can't become rows."""
    messages: MessagesSpec = MessagesSpec()
    """What a message must keep to in order to become a row."""
    pod_template: PodTemplate = PodTemplate()
    """Laid over every Pod: the schema Job's, the consumers', validation's, and the migrations' of its policies. A part's own
    podTemplate goes on top. For what all Pods share (tolerations, nodeSelector, imagePullSecrets, annotations); no containers."""
    validation: ValidationSpec = ValidationSpec()
    """What `marketprism validate` looks for in what is stored."""
    data_types: (
        Annotated[
            dict[DataTypeName, DataTypeSpec],
            Field(min_length=1, max_length=MOST_TYPES),
            _keys(
                DataTypeName.ALLOWED,
                f"size(key) <= {DataTypeName.MAX_LENGTH} && key.matches('{DataTypeName.PATTERN}')",
                "a data type's name must be",
            ),
            CelRule(
                "self.all(t, !has(self[t].batch) || !has(self[t].batch.maxPending) || has(self[t].batch.maxRows) || "
                f"!(t in {_DEFAULT_ROWS}) || self[t].batch.maxPending >= {_DEFAULT_ROWS}[t])",
                "maxPending is less than the data type's default of maxRows: give maxRows too",
            ),
            CelRule(
                f"self.all(t, t in {_BUILT_IN} ? !has(self[t].table) && !has(self[t].orderBy) && !has(self[t].partition) : "
                "has(self[t].fields) && size(self[t].fields) > 0)",
                f"a type of your own needs fields; a built-in one has its table, orderBy and partition: {', '.join(BUILT_IN)}",
            ),
            CelRule(
                f"self.all(t, !has(self[t].fields) || self[t].fields.all(f, t in {_BUILT_IN} || f in {one_of(COMMON)} "
                "? !has(self[t].fields[f].type) : has(self[t].fields[f].type)))",
                "a field of your own type needs a type; built-in ones, and those that all have, can't be given one",
            ),
        ]
        | None
    ) = None
    """What is stored, by data type: built-in ones, and the user's own. Not given: the eight that are built in. Write `trade: {}` for
    one with its defaults."""
    consumers: (
        Annotated[
            dict[ConsumerName, ConsumerSpec],
            Field(min_length=1, max_length=8),
            _keys(
                ConsumerName.ALLOWED,
                f"size(key) <= {ConsumerName.MAX_LENGTH} && key.matches('{ConsumerName.PATTERN}')",
                "a consumer's name must be",
            ),
        ]
        | None
    ) = None
    """Each becomes a Deployment. Not given: one, named `default`, with all data types."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _ = self.declarations  # raises where they can't be
        reasons = [
            *self._wrong_batches(),
            *self._wrong_consumers(),
            *self._wrong_streams(),
            *self._wrong_limits(),
            *self._wrong_template(),
        ]
        if reasons:
            raise ValueRefusedError(*reasons)
        return self

    @cached_property
    def declarations(self) -> dict[str, Declaration]:
        """The data types of this pipeline: the built-in ones in their order, then the user's own."""
        return declarations(self.data_types)

    @property
    def stored(self) -> tuple[DataTypeName, ...]:
        """Their names."""
        return tuple(map(DataTypeName, self.declarations))

    @property
    def carriers(self) -> dict[ConsumerName, ConsumerSpec]:
        """The consumers, the implied one included."""
        return self.consumers or {DEFAULT_CONSUMER: ConsumerSpec(data_types=self.stored)}

    def streams(self, data_type: str) -> tuple[str, ...]:
        """Those it is read from by name; none where it is read from whatever holds it."""
        named = self.nats.streams.get(str(data_type))
        return named.names if named else ()

    def stream(self, data_type: str) -> str:
        """Where it is made if no stream holds it."""
        streams = {key: streams.names[0] for key, streams in self.nats.streams.items()}
        return streams.get(str(data_type), streams.get("default", DEFAULT_STREAM))

    def batch(self, data_type: str) -> BatchLimits:
        """What was given, over the data type's own defaults."""
        given = (self.data_types or {}).get(DataTypeName(data_type), DataTypeSpec()).batch
        default = self.declarations[data_type].batch
        max_rows = given.max_rows or default.max_rows
        return BatchLimits(
            max_rows=max_rows,
            max_delay=given.max_delay.seconds if given.max_delay else default.max_delay,
            max_pending=given.max_pending or max(default.max_pending, max_rows),
            max_bytes=given.max_bytes.bytes if given.max_bytes else default.max_bytes,
        )

    def _wrong_batches(self) -> Iterator[Objection]:
        for data_type in self.stored:
            given = (self.data_types or {}).get(data_type, DataTypeSpec()).batch
            batch = self.batch(data_type)
            path = f"dataTypes.{data_type}.batch"
            if batch.max_pending < batch.max_rows:
                whose = "" if given.max_rows else f" ({data_type}'s default)"
                message = f"is less than maxRows, {batch.max_rows}{whose}: a batch would never be full"
                yield Objection(message, f"{batch.max_rows} or more", "leave maxPending out", f"{path}.maxPending")

    def _wrong_consumers(self) -> Iterator[Objection]:
        carried: dict[str, list[str]] = {}
        for name, consumer in (self.consumers or {}).items():
            for index, data_type in enumerate(consumer.data_types):
                carried.setdefault(data_type, []).append(name)
                if data_type not in self.stored:
                    known = data_type in BUILT_IN
                    hint = f"add `{data_type}: {{}}` to dataTypes, or remove it here" if known else ""
                    hint = hint or did_you_mean(data_type, self.stored)
                    path = f"consumers.{name}.dataTypes[{index}]"
                    yield Objection(f"{data_type} is not in dataTypes", ", ".join(self.stored), hint, path)
        for data_type in self.stored if self.consumers else ():
            names = carried.get(data_type, [])
            if not names:
                hint = f"add {data_type} to a consumer, or name in dataTypes only what is to be stored"
                yield Objection(f"{data_type} is in no consumer", "each data type in exactly one", hint, "consumers")
            if len(names) > 1:
                message = f"{data_type} is in {len(names)} consumers: {', '.join(names)}"
                yield Objection(
                    message,
                    "each data type in exactly one",
                    "leave it in one: its replicas stand by for each other",
                    "consumers",
                )

    def _wrong_limits(self) -> Iterator[Objection]:
        for key in self.validation.limits:
            if key not in self.stored:
                yield Objection(f"{key} is not stored", ", ".join(self.stored), path=f"validation.limits.{key}")

    def _wrong_streams(self) -> Iterator[Objection]:
        for key in self.nats.streams:
            if key not in ("default", *self.stored):
                allowed = ", ".join(["default", *self.stored])
                yield Objection(f"{key} is not stored", allowed, did_you_mean(key, self.stored), f"nats.streams.{key}")
        for data_type in self.stored:
            if str(self.dead_letters.stream) in (self.stream(data_type), *self.streams(data_type)):
                message = f"is the stream that {data_type} is read from: dead letters would be read again and again"
                yield Objection(message, "a stream of its own", path="deadLetters.stream")
                return

    def _wrong_template(self) -> Iterator[Objection]:
        for field in ("containers", "initContainers"):
            if field in self.pod_template.spec:
                message = "is laid over every Pod, whose containers have other names"
                hint = "name containers in a consumer's, or a policy's, podTemplate"
                yield Objection(message, "no containers", hint, path=f"podTemplate.spec.{field}")


class ConsumerStatus(StatusModel):
    """One Deployment."""

    deployment: Annotated[str, Field(max_length=63)] = ""
    """Its name."""
    data_types: Annotated[
        tuple[DataTypeName, ...], Field(max_length=MOST_TYPES, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ()
    """What it carries."""
    replicas: Int32 = 0
    """Pods wanted."""
    ready_replicas: Int32 = 0
    """Pods ready."""


class DataTypeStatus(StatusModel):
    """One data type's way through JetStream."""

    stream: Annotated[str, Field(max_length=64)] = ""
    """The stream that holds it."""
    pending: Int64 = 0
    """Messages not read yet. Updated at most once per resync."""
    in_hand: Int64 = 0
    """Messages read and not stored yet. Updated with `pending`."""
    set_aside: Int64 = 0
    """Stretches of the stream that wait to be looked up, while the lane goes on behind them. Updated with `pending`."""
    last_insert_time: Time | None = None
    """When rows were last written, RFC 3339. Updated with `pending`."""


class PipelineStatus(ResourceStatus):
    """What the operator found."""

    replicas: Int32 = 0
    """Pods wanted, over all consumers."""
    ready_replicas: Int32 = 0
    """Pods ready, over all consumers."""
    pending: Int64 = 0
    """Messages not read yet, over all data types."""
    in_hand: Int64 = 0
    """Messages read and not stored yet, over all data types."""
    last_insert_time: Time | None = None
    """When rows were last written, RFC 3339."""
    stream: Annotated[str, Field(max_length=256)] = ""
    """The streams read, for `kubectl get`."""
    image: Annotated[str, Field(max_length=512)] = ""
    """The consumers' image."""
    schema_job: Annotated[str, Field(max_length=63)] = ""
    """The Job that made the tables."""
    schema_hash: Annotated[str, Field(max_length=64)] = ""
    """A hash of the schema that is in place."""
    consumers: Annotated[dict[str, ConsumerStatus], Field(max_length=8)] = Field(default_factory=dict)
    """By the consumer's name."""
    data_types: Annotated[dict[str, DataTypeStatus], Field(max_length=MOST_TYPES)] = Field(default_factory=dict)
    """By data type."""


class StoragePipeline(Resource):
    """Takes market data off NATS JetStream and keeps it in ClickHouse: exactly once, or in the dead letters."""

    KIND: ClassVar[str] = "StoragePipeline"
    PLURAL: ClassVar[str] = "storagepipelines"
    SHORT_NAME: ClassVar[str] = "stpl"
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int, str], ...]] = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0, "Whether all of it works."),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0, "Why, in one word."),
        ("Stream", "string", ".status.stream", 0, "The streams read."),
        ("Replicas", "integer", ".status.readyReplicas", 0, "Consumer Pods that are ready."),
        ("Pending", "integer", ".status.pending", 0, "Messages not read yet."),
        ("Age", "date", ".metadata.creationTimestamp", 0, "Time since it was created."),
        ("In-Hand", "integer", ".status.inHand", 1, "Messages read and not stored yet."),
        ("Hot", "string", ".spec.clickhouse.hotDatabase", 1, "The database that is written."),
        ("Image", "string", ".status.image", 1, "The consumers' image."),
        ("Last-Insert", "date", ".status.lastInsertTime", 1, "Time since rows were last written."),
        ("Suspended", "boolean", ".spec.suspend", 1, "Whether it is suspended."),
        ("Stalled", "string", '.status.conditions[?(@.type=="Stalled")].status', 1, "Whether somebody has to act."),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1, "Why, and what to do."),
    )

    kind: Literal["StoragePipeline"] = "StoragePipeline"
    """StoragePipeline."""
    spec: PipelineSpec = PipelineSpec()
    """What is wanted. `{}` is valid."""
    status: PipelineStatus = PipelineStatus()
    """What the operator found."""

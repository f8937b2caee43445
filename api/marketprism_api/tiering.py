"""TieringPolicy: when rows go from hot to cold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from .cel import CelRule, rules, unchangeable
from .declared import MOST_TYPES
from .meta import Bool, Int, Model, Resource, ResourceStatus, SecretRef, StatusModel
from .pipeline import PROGRESS_DEADLINE, Int64, PodTemplate, ProgressDeadline, Resources, Time
from .problems import Objection, ValueRefusedError, did_you_mean
from .types import Between, ClickHouseUrls, ColumnName, Cron, Duration, Name, TimeZone

if TYPE_CHECKING:
    from .pipeline import StoragePipeline

Token = Annotated[str, Field(min_length=1, max_length=128)]


class PipelineRef(Model):
    """A StoragePipeline in the same namespace."""

    name: Annotated[Name, unchangeable("pipelineRef.name", "create another policy")]
    """Its name."""


class Cold(Model):
    """Where rows go."""

    url: ClickHouseUrls | None = None
    """Another server's endpoints, the same for all policies of a pipeline. Not given: the pipeline's own server."""
    auth_secret_ref: SecretRef | None = None
    """Secret with username and password for `url`, and for TLS ca.crt, tls.crt and tls.key."""
    retention: Annotated[Duration, Between("24h", "876000h", or_zero=True)] = Duration("0s")
    """Rows in cold older than this are deleted; 0s keeps them forever."""


class RowFilter(Model):
    """Which rows move; the others stay in hot."""

    exchange: Token | None = None
    """Exactly this exchange, such as binance_spot."""
    symbol: Token | None = None
    """Exactly this symbol, such as BTC-USDT."""


class TieringSpec(Model):
    """When, what and where to."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            CelRule(
                "has(self.schedule) != has(self.every)", "give exactly one of schedule (cron) and every (such as 30s)"
            ),
            CelRule("!has(self.timeZone) || has(self.schedule)", "timeZone goes with schedule only: remove it"),
            CelRule(
                "!has(self.cold) || !has(self.cold.retention) || !has(self.olderThan) || "
                "duration(self.cold.retention) == duration('0s') || "
                "duration(self.cold.retention) > duration(self.olderThan)",
                "cold.retention must be longer than olderThan: rows would be deleted as they arrive",
            ),
        )
    )

    pipeline_ref: PipelineRef
    """The pipeline whose tables are moved."""
    suspend: Bool = False
    """true starts no further run."""
    progress_deadline: ProgressDeadline = PROGRESS_DEADLINE
    """How long it may take to be Ready, at first, after an edit and after a fault; then it is Stalled as well, until it is Ready."""
    schedule: Cron | None = None
    """Five cron fields: a CronJob. Or `every`."""
    time_zone: TimeZone | None = None
    """For `schedule`. Not given: the cluster's own, as a rule UTC."""
    every: Annotated[Duration, Between("1s", "24h")] | None = None
    """A pause between runs: a Deployment that loops. For less than a minute, which a CronJob can't do."""
    older_than: Annotated[Duration, Between("1m", "87600h")] = Duration("8h")
    """Rows whose timestamp is older than this move. Less than the pipeline's hotRetention."""
    batch_limit: Annotated[Int, Field(ge=1, le=1_000_000_000, json_schema_extra={"format": "int32"})] = 5_000_000
    """Rows that one run moves per table; the next run goes on from there."""
    mode: Literal["Move", "Copy", "DryRun"] = "Move"
    """Move deletes from hot what was verified in cold; Copy leaves it in hot; DryRun only counts."""
    cold: Cold = Cold()
    """Where to, and for how long."""
    tables: (
        Annotated[
            tuple[ColumnName, ...],
            Field(min_length=1, max_length=MOST_TYPES, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Which tables. Not given: all of the pipeline's."""
    filter: RowFilter = RowFilter()
    """Which rows. Not given: all."""
    resources: Resources = Resources()
    """CPU and memory of the job's container."""
    pod_template: PodTemplate = PodTemplate()
    """Laid over the Pods."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        objections = []
        both = 'schedule: "*/5 * * * *", or every: 30s'
        if self.schedule and self.every:
            objections.append(Objection("schedule and every are both given", both, "remove one of them", "every"))
        if not self.schedule and not self.every:
            objections.append(Objection("schedule or every is required", both, path="schedule"))
        if self.time_zone and not self.schedule:
            objections.append(Objection("goes with schedule only", hint="remove timeZone", path="timeZone"))
        if 0 < self.cold.retention.seconds <= self.older_than.seconds:
            message = f"is not longer than olderThan, {self.older_than}: rows would be deleted as they arrive"
            objections.append(Objection(message, "longer than olderThan, or 0s forever", path="cold.retention"))
        if self.tables and len(set(self.tables)) < len(self.tables):
            objections.append(Objection("names a table twice", path="tables"))
        if objections:
            raise ValueRefusedError(*objections)
        return self


class TableRun(StatusModel):
    """One table's part of a run."""

    rows: Int64 = 0
    """Rows moved."""
    bytes: Int64 = 0
    """Their bytes in cold, compressed."""
    backlog_rows: Int64 = 0
    """Rows that are due and still in hot."""
    backlog_seconds: Int64 = 0
    """For how long the oldest of them has been due."""
    oldest_in_hot: Annotated[str, Field(max_length=40)] = ""
    """The time of the oldest row in hot."""
    failure: Annotated[str, Field(max_length=1024)] = ""
    """Why it failed."""


class Run(StatusModel):
    """A finished run."""

    result: Literal["Succeeded", "Failed", "LimitReached"]
    """LimitReached: batchLimit rows moved, more are waiting."""
    rows: Int64 = 0
    """Rows moved, over all tables."""
    bytes: Int64 = 0
    """Their bytes in cold, compressed."""
    backlog_rows: Int64 = 0
    """Rows that are due and still in hot, over all tables."""
    backlog_seconds: Int64 = 0
    """For how long the oldest of them has been due."""
    duration: Annotated[str, Field(max_length=20)] = ""
    """How long it took, such as 38s."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """Why it failed, and what to do."""
    tables: Annotated[dict[str, TableRun], Field(max_length=MOST_TYPES)] = Field(default_factory=dict)
    """By table."""


class TieringStatus(ResourceStatus):
    """What the operator found."""

    workload: Annotated[str, Field(max_length=63)] = ""
    """The CronJob or Deployment."""
    schedule: Annotated[str, Field(max_length=128)] = ""
    """When it runs, for `kubectl get`."""
    last_run_time: Time | None = None
    """When the last run ended, RFC 3339."""
    last_success_time: Time | None = None
    """When a run last succeeded, RFC 3339."""
    next_run_time: Time | None = None
    """When the next run is due, RFC 3339."""
    run_now: Annotated[str, Field(max_length=256)] = ""
    """The value of the annotation storage.marketprism.io/run-now that was last followed."""
    last_run: Run | None = None
    """The last run."""


class TieringPolicy(Resource):
    """Moves rows from the hot tier to the cold one, and deletes in hot only what it verified in cold."""

    KIND: ClassVar[str] = "TieringPolicy"
    PLURAL: ClassVar[str] = "tieringpolicies"
    SHORT_NAME: ClassVar[str] = "tierp"
    COLUMNS: ClassVar[tuple[tuple[str, str, str, int, str], ...]] = (
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0, "Whether all of it works."),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0, "Why, in one word."),
        ("Schedule", "string", ".status.schedule", 0, "When it runs."),
        ("Suspended", "boolean", ".spec.suspend", 0, "Whether it is suspended."),
        ("Last-Run", "date", ".status.lastRunTime", 0, "Time since the last run ended."),
        ("Result", "string", ".status.lastRun.result", 0, "How the last run ended."),
        ("Moved", "integer", ".status.lastRun.rows", 0, "Rows that the last run moved."),
        ("Backlog", "integer", ".status.lastRun.backlogRows", 0, "Rows due that the last run left in hot."),
        ("Age", "date", ".metadata.creationTimestamp", 0, "Time since it was created."),
        ("Pipeline", "string", ".spec.pipelineRef.name", 1, "The pipeline whose tables are moved."),
        ("Next-Run", "string", ".status.nextRunTime", 1, "When the next run is due."),
        ("Duration", "string", ".status.lastRun.duration", 1, "How long the last run took."),
        ("Stalled", "string", '.status.conditions[?(@.type=="Stalled")].status', 1, "Whether somebody has to act."),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1, "Why, and what to do."),
    )

    kind: Literal["TieringPolicy"] = "TieringPolicy"
    """TieringPolicy."""
    spec: TieringSpec
    """What is wanted."""
    status: TieringStatus = TieringStatus()
    """What the operator found."""


def cold_server(policies: Iterable[TieringPolicy]) -> TieringPolicy | None:
    """Of one pipeline's policies the first by name that moves rows to another server. Consumers look there, too, for rows
    that may be stored already; they know one such server."""
    elsewhere = (policy for policy in policies if policy.spec.cold.url)
    return min(elsewhere, key=lambda policy: str(policy.metadata.name), default=None)


def misfits(
    policy: TieringPolicy, pipeline: StoragePipeline, policies: Iterable[TieringPolicy]
) -> tuple[Objection, ...]:
    """Why `policy`, one of the pipeline's `policies`, can't rule `pipeline`; paths are in the policy. Only what needs all of
    them to be seen."""
    objections = []
    first = cold_server(policies)
    if first and policy.spec.cold.url != first.spec.cold.url:
        where = str(first.spec.cold.url)
        message = f"is not {where}, where policy {first.metadata.name} moves the same pipeline's rows"
        hint = f"give all policies of a pipeline the same, such as {where}"
        objections.append(Objection(message, where, hint, "spec.cold.url"))
    if policy.spec.cold.url and pipeline.spec.clickhouse.sharding != "none":
        message = "can't be given for a pipeline with clickhouse.sharding: each shard has its own cold tier"
        objections.append(Objection(message, "no url", path="spec.cold.url"))
    retention = pipeline.spec.table_schema.hot_retention
    if 0 < retention.seconds <= policy.spec.older_than.seconds:
        message = (
            f"is not less than the pipeline's schema.hotRetention, {retention}: rows would go before they are moved"
        )
        objections.append(
            Objection(message, f"less than {retention}", "lower olderThan, or raise hotRetention", "spec.olderThan")
        )
    stored = {declaration.table for declaration in pipeline.spec.declarations.values()}
    for index, table in enumerate(policy.spec.tables or ()):
        if table not in stored:
            message, hint = f"{table} is not stored by the pipeline", did_you_mean(table, sorted(stored))
            objections.append(Objection(message, ", ".join(sorted(stored)), hint, f"spec.tables[{index}]"))
    return tuple(objections)

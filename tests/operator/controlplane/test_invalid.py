"""Resources that are not right: the API server refuses them, and where it can't know, the operator says SpecValid False.

Either way the message names the field, or says what to do.
"""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from marketprism_operator.cluster import said_by
from tests.operator.controlplane.pipeline_world import World, until

OWN: dict[str, Any] = {"fields": {"price": {"type": "Decimal(38, 18)"}}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    # values that are not allowed
    ("suspend is a word", {"suspend": "yes"}, "spec.suspend"),
    ("ensureStreams unknown", {"nats": {"ensureStreams": "Always"}}, 'supported values: "Never", "IfMissing"'),
    ("schema mode unknown", {"schema": {"mode": "Drop"}}, 'supported values: "Apply", "Verify", "Ignore"'),
    ("a data type unknown", {"dataTypes": {"candles": {}}}, "a type of your own needs fields"),
    ("a data type's name in capitals", {"dataTypes": {"Candles": OWN}}, "a data type's name must be"),
    ("a field without a type", {"dataTypes": {"candles": {"fields": {"x": {}}}}}, "needs a type"),
    ("a type that there isn't", {"dataTypes": {"candles": {"fields": {"x": {"type": "Float32"}}}}}, "fields.x.type"),
    (
        "a built-in field's type",
        {"dataTypes": {"trade": {"fields": {"price": {"type": "String"}}}}},
        "can't be given one",
    ),
    ("a built-in type's table", {"dataTypes": {"trade": {"table": "deals"}}}, "a built-in one has its table"),
    (
        "a value and a place",
        {"dataTypes": {"candles": {"fields": {"x": {"type": "UInt8", "value": "1", "from": ["x"]}}}}},
        "one of from, value and subjectToken",
    ),
    (
        "a type of one's own in no consumer",
        {"dataTypes": {"trade": {}, "candles": OWN}, "consumers": {"a": {"dataTypes": ["trade"]}}},
        "a data type of your own must be in exactly one consumer",
    ),
    ("limits of what is not stored", {"validation": {"limits": {"candles": {}}}}, "a data type that is stored"),
    ("no data type", {"dataTypes": {}}, "spec.dataTypes"),
    ("no consumer", {"consumers": {}}, "spec.consumers"),
    ("a stream key unknown", {"nats": {"streams": {"candles": "X"}}}, "must be default, or a data type that is stored"),
    ("a stream with a dot", {"nats": {"streams": {"default": "MARKET.DATA"}}}, "spec.nats.streams.default"),
    ("a URL without scheme", {"nats": {"url": "nats"}}, "spec.nats.url"),
    ("an HTTP URL for NATS", {"nats": {"url": "http://nats:4222"}}, "spec.nats.url"),
    ("a NATS URL for ClickHouse", {"clickhouse": {"url": "nats://clickhouse"}}, "spec.clickhouse.url"),
    ("a password in a URL", {"clickhouse": {"url": "http://u:p@c:8123"}}, "authSecretRef"),
    ("a database with a quote", {"clickhouse": {"hotDatabase": "a`b"}}, "spec.clickhouse.hotDatabase"),
    ("hot is cold", {"clickhouse": {"hotDatabase": "a", "coldDatabase": "a"}}, "another database"),
    ("cold is hot's default", {"clickhouse": {"coldDatabase": "marketprism_hot"}}, "another database"),
    ("a secret's name with a slash", {"nats": {"authSecretRef": {"name": "a/b"}}}, "authSecretRef.name"),
    ("a secret without a name", {"nats": {"authSecretRef": {}}}, "authSecretRef.name: Required"),
    ("a bucket with a dot", {"nats": {"bucket": "MARKET.PRISM"}}, "spec.nats.bucket"),
    ("a duration without unit", {"deadLetters": {"window": "30"}}, "spec.deadLetters.window"),
    ("a duration too short", {"dataTypes": {"trade": {"batch": {"maxDelay": "1ms"}}}}, "10ms to 10m"),
    ("a retention of minutes", {"schema": {"hotRetention": "10m"}}, "spec.schema.hotRetention"),
    ("a ratio as a percentage", {"deadLetters": {"maxRatio": "10%"}}, "spec.deadLetters.maxRatio"),
    ("a ratio above one", {"deadLetters": {"maxRatio": "1.5"}}, "spec.deadLetters.maxRatio"),
    ("a window of hours", {"deadLetters": {"window": "2h"}}, "1s to 1h"),
    (
        "dead letters into what is read",
        {"nats": {"streams": {"default": "X"}}, "deadLetters": {"stream": "X"}},
        "must not be a stream that is read",
    ),
    ("a batch of none", {"dataTypes": {"trade": {"batch": {"maxRows": 0}}}}, "greater than or equal to 1"),
    (
        "less pending than rows",
        {"dataTypes": {"trade": {"batch": {"maxRows": 100, "maxPending": 50}}}},
        "maxPending must be at least maxRows",
    ),
    (
        "less pending than the default's rows",
        {"dataTypes": {"trade": {"batch": {"maxPending": 50}}}},
        "give maxRows too",
    ),
    ("a batch of gigabytes", {"dataTypes": {"trade": {"batch": {"maxBytes": "2Gi"}}}}, "maxBytes"),
    (
        "a data type in no consumer",
        {"dataTypes": {"trade": {}, "orderbook": {}}, "consumers": {"a": {"dataTypes": ["trade"]}}},
        "data type orderbook must be in exactly one consumer",
    ),
    (
        "a data type in two consumers",
        {"dataTypes": {"trade": {}}, "consumers": {"a": {"dataTypes": ["trade"]}, "b": {"dataTypes": ["trade"]}}},
        "data type trade must be in exactly one consumer",
    ),
    (
        "a consumer of what is not stored",
        {"dataTypes": {"trade": {}}, "consumers": {"a": {"dataTypes": ["trade", "orderbook"]}}},
        "names a data type that is not in dataTypes",
    ),
    ("a data type twice", {"consumers": {"a": {"dataTypes": ["trade", "trade"]}}}, "Duplicate value"),
    ("a consumer's name with a dot", {"consumers": {"a.b": {"dataTypes": ["trade"]}}}, "a consumer's name must be"),
    ("a consumer's name too long", {"consumers": {"a" * 64: {"dataTypes": ["trade"]}}}, "a consumer's name must be"),
    (
        "replicas below none",
        {"dataTypes": {"trade": {}}, "consumers": {"a": {"dataTypes": ["trade"], "replicas": -1}}},
        "greater than or equal to 0",
    ),
    (
        "a privileged port",
        {"dataTypes": {"trade": {}}, "consumers": {"a": {"dataTypes": ["trade"], "metricsPort": 80}}},
        "greater than or equal to 1024",
    ),
    (
        "memory that is no quantity",
        {
            "dataTypes": {"trade": {}},
            "consumers": {"a": {"dataTypes": ["trade"], "resources": {"limits": {"memory": "much"}}}},
        },
        "limits.memory",
    ),
]

POLICIES_REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("no pipeline", {"schedule": "* * * * *"}, "spec.pipelineRef: Required"),
    ("neither schedule nor every", {"pipelineRef": {"name": "main"}}, "exactly one of schedule"),
    (
        "schedule and every",
        {"pipelineRef": {"name": "main"}, "schedule": "* * * * *", "every": "1m"},
        "exactly one of schedule",
    ),
    ("six cron fields", {"pipelineRef": {"name": "main"}, "schedule": "0 * * * * *"}, "spec.schedule"),
    ("a cron macro", {"pipelineRef": {"name": "main"}, "schedule": "@hourly"}, "spec.schedule"),
    ("every half second", {"pipelineRef": {"name": "main"}, "every": "500ms"}, "1s to 24h"),
    (
        "a time zone for a loop",
        {"pipelineRef": {"name": "main"}, "every": "1m", "timeZone": "UTC"},
        "timeZone goes with schedule only",
    ),
    ("an unknown mode", {"pipelineRef": {"name": "main"}, "every": "1m", "mode": "Delete"}, '"Move", "Copy", "DryRun"'),
    (
        "a table with a dot",
        {"pipelineRef": {"name": "main"}, "every": "1m", "tables": ["hot.trades"]},
        "spec.tables[0]",
    ),
    (
        "a table twice",
        {"pipelineRef": {"name": "main"}, "every": "1m", "tables": ["trades", "trades"]},
        "Duplicate value",
    ),
    ("rows at once", {"pipelineRef": {"name": "main"}, "every": "1m", "olderThan": "1s"}, "spec.olderThan"),
    ("a limit of none", {"pipelineRef": {"name": "main"}, "every": "1m", "batchLimit": 0}, "spec.batchLimit"),
    (
        "cold shorter than hot",
        {"pipelineRef": {"name": "main"}, "every": "1m", "olderThan": "48h", "cold": {"retention": "24h"}},
        "must be longer than olderThan",
    ),
    (
        "an empty filter",
        {"pipelineRef": {"name": "main"}, "every": "1m", "filter": {"symbol": ""}},
        "spec.filter.symbol",
    ),
]

CHANGES_REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        "another hot database",
        {"clickhouse": {"hotDatabase": "a"}},
        {"clickhouse": {"hotDatabase": "b"}},
        "create another pipeline",
    ),
    (
        "another subject",
        {"dataTypes": {"trade": {}}},
        {"dataTypes": {"trade": {"subject": "md.trades.>"}}},
        "subject and table of a data type can't be changed",
    ),
    (
        "another subject where none was said",
        {},
        {"dataTypes": {"trade": {"subject": "md.trades.>"}}},
        "subject and table of a data type can't be changed",
    ),
    ("another cluster", {"clickhouse": {"cluster": "a"}}, {"clickhouse": {"cluster": "b"}}, "create another pipeline"),
]


async def refusal(world: World, kind: str, name: str, spec: dict[str, Any]) -> str:
    """As `kubectl create` and `kubectl edit` meet it."""
    with pytest.raises(ApiException) as refused:
        await (
            world.edit(kind, name, {"spec": spec}) if await world.get(kind, name) else world.create(kind, name, spec)
        )
    assert refused.value.status == 422
    return said_by(refused.value)


@pytest.mark.parametrize(("spec", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_pipelines_refused(world: World, spec: dict[str, Any], said: str) -> None:
    assert said in await refusal(world, "StoragePipeline", "main", spec)


@pytest.mark.parametrize(
    ("spec", "said"), [row[1:] for row in POLICIES_REFUSED], ids=[row[0] for row in POLICIES_REFUSED]
)
async def test_policies_refused(world: World, spec: dict[str, Any], said: str) -> None:
    assert said in await refusal(world, "TieringPolicy", "main", spec)


@pytest.mark.parametrize(
    ("before", "after", "said"), [row[1:] for row in CHANGES_REFUSED], ids=[row[0] for row in CHANGES_REFUSED]
)
async def test_changes_refused(world: World, before: dict[str, Any], after: dict[str, Any], said: str) -> None:
    await world.pipeline(**before)
    assert said in await refusal(world, "StoragePipeline", "main", after)


@pytest.mark.parametrize("name", ["a.b", "a" * 64])
async def test_names_refused(world: World, name: str) -> None:
    assert "metadata.name must be at most 63 characters" in await refusal(world, "StoragePipeline", name, {})


INVALID: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "rows would go before they are moved",
        {"schema": {"hotRetention": "2h"}},
        {"olderThan": "8h"},
        "InvalidResource",
        "lower olderThan, or raise hotRetention",
    ),
    (
        "a table that is not stored",
        {"dataTypes": {"trade": {}}},
        {"tables": ["orderbooks"]},
        "InvalidResource",
        "is not stored by the pipeline",
    ),
    ("a schedule that never comes", {}, {"every": None, "schedule": "0 0 31 2 *"}, "InvalidResource", "spec.schedule"),
    (
        "a time zone that there isn't",
        {},
        {"every": None, "schedule": "0 0 * * *", "timeZone": "Mars/Base"},
        "ApplyRefused",
        "unknown time zone",
    ),
]


async def test_what_the_api_server_can_not_know(world: World) -> None:
    """All of them at once, under one operator."""
    for number, (_, pipeline, policy, *_) in enumerate(INVALID):
        await world.pipeline(f"p{number}", **pipeline)
        spec = {"pipelineRef": {"name": f"p{number}"}, "every": "1m", **policy}
        await world.apply("TieringPolicy", f"p{number}", spec={k: v for k, v in spec.items() if v is not None})
    await world.apply("TieringPolicy", "alone", spec={"pipelineRef": {"name": "nobody"}, "every": "1m"})
    await world.pipeline("secretless", clickhouse={"authSecretRef": {"name": "not-there"}})
    with world.operator():

        async def told(kind: str, name: str, reason: str, said: str) -> bool:
            condition = await world.condition(kind, "SpecValid", name)
            ready = await world.condition(kind, "Ready", name)
            return (
                condition.get("status") == "False"
                and condition["reason"] == reason
                and said in condition["message"]
                and ready["status"] == "False"
            )

        for number, (*_, reason, said) in enumerate(INVALID):
            await until(lambda n=number, r=reason, s=said: told("TieringPolicy", f"p{n}", r, s))  # type: ignore[misc]
        await until(lambda: told("TieringPolicy", "alone", "PipelineMissing", "correct spec.pipelineRef"))
        await until(lambda: told("StoragePipeline", "secretless", "SecretMissing", "Secret/not-there"))
        assert await world.names("CronJob") | await world.names("Deployment") == set(), "nothing runs of it"

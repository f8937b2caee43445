"""Reading resources: what is right loads as written, what is wrong is refused in words that help."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import yaml

from marketprism_api.load import load, load_pipeline, parse
from marketprism_api.pipeline import PipelineSpec, StoragePipeline
from marketprism_api.problems import ResourceError
from marketprism_api.tiering import TieringPolicy

EXAMPLES = Path(__file__).parents[2] / "examples"


def pipeline(spec: str) -> str:
    return f"""apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata: {{name: main}}
spec: {spec}
"""


def policy(spec: str) -> str:
    return f"""apiVersion: storage.marketprism.io/v1alpha1
kind: TieringPolicy
metadata: {{name: main}}
spec: {spec}
"""


def batch(fields: str, data_type: str = "trade") -> str:
    return pipeline(f"{{dataTypes: {{{data_type}: {{batch: {{{fields}}}}}}}}}")


def cold_cron(cron: str) -> str:
    return policy(f'{{pipelineRef: {{name: main}}, schedule: "{cron}"}}')


BATCH = "spec.dataTypes.trade.batch"

BAD = [
    # durations
    (batch("maxDelay: 10"), f"{BATCH}.maxDelay", "add the unit: 10s"),
    (batch("maxDelay: '10'"), f"{BATCH}.maxDelay", "add the unit: 10s"),
    (batch("maxDelay: -1s"), f"{BATCH}.maxDelay", "is not a duration"),
    (batch("maxDelay: 1h30"), f"{BATCH}.maxDelay", "is not a duration"),
    (batch("maxDelay: P1D"), f"{BATCH}.maxDelay", "such as 10s"),
    (batch("maxDelay: 0s"), f"{BATCH}.maxDelay", "10ms to 10m"),
    (batch("maxDelay: '１s'"), f"{BATCH}.maxDelay", "is not a duration"),
    (batch('maxDelay: "1s\\n"'), f"{BATCH}.maxDelay", "is not a duration"),
    (batch("maxDelay: 11m"), f"{BATCH}.maxDelay", "10ms to 10m"),
    (pipeline("{schema: {hotRetention: 3d}}"), "spec.schema.hotRetention", "72h"),
    (pipeline('{schema: {hotRetention: ""}}'), "spec.schema.hotRetention", "0s"),
    (pipeline("{schema: {hotRetention: 99999999999999999h}}"), "spec.schema.hotRetention", "too long a time"),
    # numbers
    (batch("maxRows: 0"), f"{BATCH}.maxRows", "1 or more"),
    (batch("maxRows: 1000000000"), f"{BATCH}.maxRows", "1000000 or less"),
    (batch('maxRows: "100"'), f"{BATCH}.maxRows", "without quotes"),
    (batch("maxRows: true"), f"{BATCH}.maxRows", "whole number"),
    (batch("maxRows: 1.5"), f"{BATCH}.maxRows", "whole number"),
    (batch("maxRows: 100, maxPending: 50"), f"{BATCH}.maxPending", "100 or more"),
    (batch("maxPending: 50"), f"{BATCH}.maxPending", "trade's default"),
    (batch("maxBytes: 1"), f"{BATCH}.maxBytes", "64Ki to 256Mi"),
    (batch("maxBytes: 16MiB"), f"{BATCH}.maxBytes", "write Mi for MiB"),
    (pipeline("{deadLetters: {maxRatio: 1.5}}"), "spec.deadLetters.maxRatio", "from 0 to 1"),
    (pipeline("{deadLetters: {maxRatio: .nan}}"), "spec.deadLetters.maxRatio", "from 0 to 1"),
    # data types and consumers
    (pipeline("{dataTypes: {trades: {}}}"), "spec.dataTypes.trades.fields", "did you mean `trade`"),
    (pipeline("{dataTypes: {}}"), "spec.dataTypes", "is empty"),
    (pipeline("{dataTypes: {trade: }}"), "spec.dataTypes.trade", "write {} for the defaults"),
    (pipeline("{dataTypes: {trade: {maxRows: 5}}}"), "spec.dataTypes.trade.maxRows", "did you mean `batch.maxRows`"),
    (pipeline("{consumers: {a: {dataTypes: [trade]}}}"), "spec.consumers", "orderbook is in no consumer"),
    (
        pipeline("{dataTypes: {trade: {}}, consumers: {a: {dataTypes: [trade]}, b: {dataTypes: [trade]}}}"),
        "spec.consumers",
        "trade is in 2 consumers: a, b",
    ),
    (
        pipeline("{dataTypes: {trade: {}}, consumers: {a: {dataTypes: [trade, orderbook]}}}"),
        "spec.consumers.a.dataTypes[1]",
        "orderbook is not in dataTypes",
    ),
    (
        pipeline("{dataTypes: {trade: {}}, consumers: {a: {dataTypes: [trade, trade]}}}"),
        "spec.consumers.a.dataTypes",
        "trade twice",
    ),
    (
        pipeline("{consumers: {a: {dataTypes: [trade], resources: {requests: {memory: 1Gi}}}}}"),
        "spec.consumers.a.resources.requests.memory",
        "limits.memory, 512Mi (the default)",
    ),
    (
        pipeline("{consumers: {a: {dataTypes: [trade], resources: {limits: {cpu: 50m}}}}}"),
        "spec.consumers.a.resources.limits.cpu",
        "requests.cpu, 100m (the default)",
    ),
    (
        pipeline("{consumers: {a: {dataTypes: [trade], resources: {requests: {cpu: 2}, limits: {cpu: 1500m}}}}}"),
        "spec.consumers.a.resources.requests.cpu",
        "above limits.cpu, 1500m",
    ),
    (pipeline("{consumers: {a: {dataTypes: [tade]}}}"), "spec.consumers.a.dataTypes[0]", "did you mean `trade`"),
    (pipeline("{consumers: {a: {}}}"), "spec.consumers.a.dataTypes", "is required"),
    (pipeline("{consumers: {Fast_One: {dataTypes: [trade]}}}"), "spec.consumers.Fast_One", "for example fast-one"),
    (pipeline("{consumers: {a: {dataTypes: [trade], replicas: -1}}}"), "spec.consumers.a.replicas", "0 or more"),
    (pipeline("{consumers: {a: {dataTypes: [trade], replicas: 1000000}}}"), "spec.consumers.a.replicas", "64 or less"),
    (pipeline("{consumers: {a: {dataTypes: trade}}}"), "spec.consumers.a.dataTypes", "must be a list"),
    (pipeline("{consumers: {a: {dataTypes: [trade], podTemplate: {container: {}}}}}"), "", "no such field"),
    # URLs
    (pipeline("{nats: {url: 'nats://u:canary@h:4222'}}"), "spec.nats.url", "put them in a Secret"),
    (pipeline("{nats: {url: 'nats:4222'}}"), "spec.nats.url", "write nats://nats:4222"),
    (pipeline("{clickhouse: {url: 'file:///etc/passwd'}}"), "spec.clickhouse.url", "schemes http, https"),
    (pipeline("{clickhouse: {url: 'http://169.254.169.254/'}}"), "spec.clickhouse.url", "link-local"),
    (pipeline("{clickhouse: {url: 'http://2852039166/'}}"), "spec.clickhouse.url", "link-local"),
    (pipeline("{clickhouse: {url: 'http://[::ffff:169.254.169.254]:80'}}"), "spec.clickhouse.url", "link-local"),
    (pipeline("{clickhouse: {url: 'http://h:8123/?password=canary'}}"), "spec.clickhouse.url", "query"),
    (pipeline("{clickhouse: {url: 'http://h:99999'}}"), "spec.clickhouse.url", "is not a URL"),
    (pipeline("{clickhouse: {url: 'http://a:1,'}}"), "spec.clickhouse.url", "has no scheme"),
    (pipeline("{clickhouse: {password: canary}}"), "spec.clickhouse.password", "authSecretRef"),
    (pipeline("{nats: {authSecretRef: canary}}"), "spec.nats.authSecretRef", "must be an object"),
    # names
    (
        pipeline("{clickhouse: {hotDatabase: 'default; DROP TABLE x'}}"),
        "spec.clickhouse.hotDatabase",
        "letters, digits",
    ),
    (pipeline("{clickhouse: {hotDatabase: 'a`b'}}"), "spec.clickhouse.hotDatabase", "letters, digits"),
    (pipeline(f"{{clickhouse: {{hotDatabase: {'a' * 300}}}}}"), "spec.clickhouse.hotDatabase", "at most 63"),
    (pipeline("{clickhouse: {hotDatabase: system}}"), "spec.clickhouse.hotDatabase", "belongs to ClickHouse"),
    (pipeline("{clickhouse: {hotDatabase: marketprism_cold}}"), "spec.clickhouse.coldDatabase", "the hot database too"),
    (pipeline("{clickhouse: {sharding: bySymbol}}"), "spec.clickhouse.sharding", "needs cluster"),
    (pipeline("{clickhouse: {hotDatabase: no}}"), "spec.clickhouse.hotDatabase", "put it in quotes"),
    (pipeline("{nats: {streams: {default: 'a.b'}}}"), "spec.nats.streams.default", "is not a stream name"),
    (pipeline("{nats: {streams: {trad: A}}}"), "spec.nats.streams.trad", "trade"),
    (pipeline("{deadLetters: {stream: MARKET_DATA}}"), "spec.deadLetters.stream", "a stream of its own"),
    (pipeline("{}").replace("name: main", f"name: {'a' * 64}"), "metadata.name", "at most 63"),
    (pipeline("{}").replace("name: main", "name: no"), "metadata.name", "put it in quotes"),
    (pipeline("{}").replace("{name: main}", "{}"), "metadata.name", "is required"),
    # choices and keys
    (pipeline("{schema: {mode: apply}}"), "spec.schema.mode", "did you mean `Apply`"),
    (pipeline("{nats: {ensureStreams: Always}}"), "spec.nats.ensureStreams", "Never, IfMissing"),
    (pipeline("{nats: {bucket: a.b}}"), "spec.nats.bucket", "letters, digits, _ and -"),
    (pipeline("{suspend: 'yes'}"), "spec.suspend", "true or false"),
    (pipeline("{conusmers: {}}"), "spec.conusmers", "did you mean `consumers`"),
    (pipeline("{dead_letters: {}}"), "spec.dead_letters", "did you mean `deadLetters`"),
    (pipeline("5"), "spec", "must be an object"),
    (pipeline("{}").replace("v1alpha1", "v1"), "apiVersion", "storage.marketprism.io/v1alpha1"),
    (pipeline("{}").replace("StoragePipeline", "StoragePipline"), "kind", "did you mean `StoragePipeline`"),
    # tiering
    (cold_cron("*/5 * * *"), "spec.schedule", "this has 4 fields"),
    (cold_cron("0 */5 * * * *"), "spec.schedule", "`every`"),
    (cold_cron("@yearly"), "spec.schedule", "write 0 0 1 1 *"),
    (cold_cron("0 0 31 2 *"), "spec.schedule", "bad day-of-month"),
    (cold_cron("0 0 * * 7"), "spec.schedule", "day of week"),
    (cold_cron("61 * * * *"), "spec.schedule", "bad minute"),
    (policy("{pipelineRef: {name: main}, schedule: '* * * * *', every: 30s}"), "spec.every", "both given"),
    (policy("{pipelineRef: {name: main}}"), "spec.schedule", "schedule or every"),
    (policy("{every: 30s}"), "spec.pipelineRef", "is required"),
    (
        policy("{pipelineRef: {name: main, namespace: other}, every: 30s}"),
        "spec.pipelineRef.namespace",
        "no such field",
    ),
    (policy("{pipelineRef: {name: main}, every: 30s, batchLimit: 0}"), "spec.batchLimit", "1 or more"),
    (
        policy("{pipelineRef: {name: main}, every: 30s, olderThan: 48h, cold: {retention: 24h}}"),
        "spec.cold.retention",
        "longer than olderThan",
    ),
    (
        pipeline("{schema: {hotRetention: 72h}}")
        + "---\n"
        + policy("{pipelineRef: {name: main}, every: 30s, olderThan: 73h}"),
        "spec.olderThan",
        "hotRetention",
    ),
    # YAML
    ("spec:\n\ta: 1\n", "", "indent with spaces"),
    ("kind: a\nkind: b\n", "", '"kind" is there twice'),
    ("on: 1\n", "", "is not a text"),
    ("a: &a [*a]\n", "", "without anchors"),
    ("a: *canary\n", "", "is not YAML"),
    ("a: [\n", "", "is not YAML"),
    ("[" * 5000 + "\n", "", "nested too deeply"),
    ("- 1\n", "", "is not a resource"),
    ("kind: Secret\napiVersion: v1\n", "", "only Secret"),
    ("---\n---\n", "", "it is empty"),
    ("a: \x07\n", "", "is not YAML"),
    ("a: !!python/object:os.system {}\n", "", "is not YAML"),
]


@pytest.mark.parametrize(("text", "path", "part"), BAD, ids=[f"{number}-{bad[1]}" for number, bad in enumerate(BAD)])
def test_bad(text: str, path: str, part: str) -> None:
    with pytest.raises(ResourceError) as caught:
        parse(text, "p.yaml")
    message = str(caught.value)
    assert part in message
    assert not path or path in [problem.path for problem in caught.value.problems]
    assert message.startswith("p.yaml")
    assert "canary" not in message + repr(caught.value) + repr(caught.value.problems)
    assert "pydantic" not in message
    assert "Input should" not in message


def test_bomb() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ResourceError, match="aliases"):
        parse("\n".join(lines))


def test_every_problem_is_named_with_its_line() -> None:
    with pytest.raises(ResourceError) as caught:
        parse(
            """apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata:
  name: main
spec:
  suspend: 1
  dataTypes:
    trade:
      batch: {maxRows: 0}
---
apiVersion: storage.marketprism.io/v1alpha1
kind: TieringPolicy
metadata: {name: main}
spec: {}
""",
            "p.yaml",
        )
    assert [(p.document, p.line, p.path) for p in caught.value.problems] == [
        (1, 6, "spec.suspend"),
        (1, 9, "spec.dataTypes.trade.batch.maxRows"),
        (2, 14, "spec.pipelineRef"),
    ]


def test_the_policies_of_a_pipeline_name_one_cold_server() -> None:
    def named(name: str, cold: str) -> str:
        spec = f"{{pipelineRef: {{name: main}}, every: 1m, cold: {cold}}}"
        return policy(spec).replace("metadata: {name: main}", f"metadata: {{name: {name}}}")

    same = [named(name, "{url: 'http://cold:8123'}") for name in "ab"]
    assert len(parse("---\n".join([pipeline("{}"), *same]))) == 3
    with pytest.raises(ResourceError) as caught:
        parse("---\n".join([pipeline("{}"), *same, named("c", "{url: 'http://else:8123'}"), named("d", "{}")]))
    for problem in caught.value.problems:
        assert problem.path == "spec.cold.url"
        assert "http://cold:8123, where policy a moves" in problem.message
    assert len(caught.value.problems) == 2


def test_a_cold_server_is_refused_for_a_pipeline_that_is_spread_over_shards() -> None:
    sharded = pipeline("{clickhouse: {cluster: main, sharding: bySymbol}}")
    moved = "{pipelineRef: {name: main}, every: 1m, cold: %s}"
    assert len(parse("---\n".join([sharded, policy(moved % "{}")]))) == 2
    with pytest.raises(ResourceError, match=r"spec\.cold\.url.*each shard has its own cold tier"):
        parse("---\n".join([sharded, policy(moved % "{url: 'http://cold:8123'}")]))


def test_message_for_people() -> None:
    with pytest.raises(ResourceError) as caught:
        parse(pipeline("{schema: {mode: apply}}"), "p.yaml")
    assert str(caught.value) == (
        'p.yaml:4: spec.schema.mode = "apply": is not one of the choices\n'
        "  allowed: Apply, Verify, Ignore\n"
        "  hint: did you mean `Apply`?"
    )


def test_output_is_safe_for_a_terminal() -> None:
    with pytest.raises(ResourceError) as caught:
        parse(pipeline('{"\\e[31mred": 1, schema: {mode: "\\u202eevil"}}'))
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)


def test_url_with_password_is_shown_masked() -> None:
    with pytest.raises(ResourceError) as caught:
        parse(pipeline("{nats: {url: 'nats://u:p@canary/x@host:4222'}}"))
    assert '"nats://***@host:4222"' in str(caught.value)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_round_trip(example: Path) -> None:
    (resource,) = load(example)
    assert resource.manifest() == yaml.safe_load(example.read_text())
    assert parse(yaml.safe_dump(resource.manifest())) == [resource]


def test_null_is_not_given() -> None:
    (resource,) = parse(pipeline("{nats: , schema: {mode: }}"))
    assert isinstance(resource, StoragePipeline)
    assert resource.spec == PipelineSpec()


def test_what_the_cluster_returns_loads() -> None:
    (resource,) = parse(
        pipeline("{}")
        + """status:
  observedGeneration: 3
  conditions:
  - {type: Ready, status: "True", reason: AllGood, message: "", lastTransitionTime: 2026-01-01T00:00:00Z}
  fromTheFuture: 1
"""
    )
    assert resource.status.observed_generation == 3
    (ready,) = resource.status.conditions
    assert (ready.type, ready.status) == ("Ready", "True")


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        pipeline("{}") + "---\nkind: Secret\napiVersion: v1\n---\n" + policy("{pipelineRef: {name: main}, every: 30s}")
    )
    file = tmp_path / "p.yaml"
    file.write_text(text)
    assert [type(resource).__name__ for resource in load(text)] == ["StoragePipeline", "TieringPolicy"]
    assert load(file) == load(str(file)) == load(text)
    assert load_pipeline(file).metadata.name == "main"
    assert load_pipeline(None, {"MARKETPRISM_FILE": str(file)}).metadata.name == "main"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert load("-") == load(text)


def test_bad_sources(tmp_path: Path) -> None:
    large, binary = tmp_path / "large", tmp_path / "binary"
    large.write_text("# \n" * 400_000)
    binary.write_bytes(b"\xff\xfe\x00")
    bad: list[tuple[str | Path | None, str]] = [
        (tmp_path, "is a directory"),
        (tmp_path / "none", "no such file"),
        (large, "at most 1 MiB"),
        (binary, "not UTF-8"),
        ("a\0b", "not a file name"),
        (EXAMPLES / "tiering.yaml", "holds no StoragePipeline"),
        (pipeline("{}") + "---\n" + pipeline("{}"), "holds 2 pipelines"),
        (None, "no file was given"),
    ]
    for source, part in bad:
        with pytest.raises(ResourceError, match=part):
            load_pipeline(source, {})


def test_policy_defaults() -> None:
    (found,) = parse(policy("{pipelineRef: {name: main}, every: 30s}"))
    assert isinstance(found, TieringPolicy)
    assert (found.spec.older_than, found.spec.batch_limit, found.spec.mode) == ("8h", 5_000_000, "Move")
    assert found.spec.tables is None

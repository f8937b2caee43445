"""Defaults and precedence: the environment over the file over what the product promises."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from marketprism_api.credentials import clickhouse_auth, nats_auth
from marketprism_api.data_types import BUILT_IN, BatchLimits
from marketprism_api.load import parse
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.problems import ResourceError
from marketprism_api.settings import effective
from marketprism_api.tiering import TieringPolicy


def pipeline(spec: str) -> StoragePipeline:
    (found,) = parse(
        f"apiVersion: storage.marketprism.io/v1alpha1\nkind: StoragePipeline\nmetadata: {{name: main}}\nspec: {spec}\n"
    )
    assert isinstance(found, StoragePipeline)
    return found


DEFAULTS = [
    ("orderbook", "orderbook.>", "orderbooks", 100, 10, 1000),
    ("trade", "trade.>", "trades", 100, 10, 1000),
    ("funding_rate", "funding_rate.>", "funding_rates", 10, 2, 500),
    ("open_interest", "open_interest.>", "open_interests", 50, 10, 500),
    ("liquidation", "liquidation.>", "liquidations", 5, 10, 200),
    ("lsr_top_position", "lsr_top_position.>", "lsr_top_positions", 1, 1, 50),
    ("lsr_all_account", "lsr_all_account.>", "lsr_all_accounts", 1, 1, 50),
    ("volatility_index", "volatility_index.>", "volatility_indices", 1, 1, 50),
]


def test_a_cold_tier_elsewhere_is_refused_where_rows_are_spread_over_shards() -> None:
    sharded = pipeline("{clickhouse: {cluster: main, sharding: bySymbol}}")
    assert effective(sharded, {}).sharded
    with pytest.raises(ResourceError, match=r"CLICKHOUSE_COLD_HTTP_URL.*each shard has its own cold tier"):
        effective(sharded, {"CLICKHOUSE_COLD_HTTP_URL": "http://elsewhere:8123"})


@pytest.mark.parametrize("given", [None, "{}", ""], ids=["no file", "empty", "null"])
def test_defaults(given: str | None) -> None:
    settings = effective(None if given is None else pipeline(given), {})
    assert [
        (str(t), entry.subject, entry.table, entry.batch.max_rows, entry.batch.max_delay, entry.batch.max_pending)
        for t, entry in settings.data_types.items()
    ] == DEFAULTS
    mib = {t: entry.batch.max_bytes // 1024**2 for t, entry in settings.data_types.items()}
    assert mib == {t: 16 if t == "orderbook" else 8 for t in BUILT_IN}
    assert {entry.stream for entry in settings.data_types.values()} == {"MARKET_DATA"}
    assert settings.consumers == {"default": tuple(BUILT_IN)}
    assert settings.nats_url == "nats://localhost:4222"
    assert settings.clickhouse_urls == ("http://localhost:8123",)
    assert (settings.hot_db, settings.cold_db, settings.cluster) == ("marketprism_hot", "marketprism_cold", "")
    assert (settings.schema_mode, settings.hot_retention) == ("Apply", None)
    assert (settings.bucket, settings.ensure_streams) == ("MARKETPRISM_LANES", "IfMissing")
    assert (settings.migration_window_hours, settings.migration_batch_limit) == (8, 5_000_000)
    dead = settings.dead_letters
    assert (dead.stream, dead.max_ratio, dead.min_messages, dead.window) == ("MARKETPRISM_DLQ", 0.1, 100, 60)
    assert dead.max_age == 168 * 3600
    assert set(settings.origins.values()) == {"default"}
    assert not settings.nats_url_given
    assert not settings.clickhouse_url_given


def test_what_is_not_given_is_the_types_own() -> None:
    spec = pipeline(
        "{dataTypes: {trade: {batch: {maxRows: 5000}}, liquidation: {batch: {maxDelay: 1s}}, "
        "funding_rate: {batch: {maxPending: 10, maxBytes: 1Mi}}, orderbook: {batch: {maxRows: 10}}}}"
    ).spec
    assert spec.stored == ("orderbook", "trade", "funding_rate", "liquidation")
    assert spec.batch("trade") == BatchLimits(5000, 10, 5000)
    assert spec.batch("liquidation") == BatchLimits(5, 1, 200)
    assert spec.batch("funding_rate") == BatchLimits(10, 2, 10, 1024 * 1024)
    assert spec.batch("orderbook") == BatchLimits(10, 10, 1000, 16 * 1024 * 1024)


def test_streams_and_consumers() -> None:
    settings = effective(
        pipeline(
            "{nats: {streams: {orderbook: BOOKS}}, dataTypes: {trade: {}, orderbook: {}}, "
            "schema: {hotRetention: 0s}, consumers: {b: {dataTypes: [orderbook]}, a: {dataTypes: [trade]}}}"
        ),
        {},
    )
    assert settings.streams == ("BOOKS", "MARKET_DATA")
    assert settings.consumers == {"b": ("orderbook",), "a": ("trade",)}
    assert settings.hot_retention is None


@pytest.mark.parametrize("own", [None, "", " ", "nats://own:1"])
@pytest.mark.parametrize("plain", [None, "", "nats://plain:1"])
@pytest.mark.parametrize("file", [None, "nats://file:1"])
def test_nats_url_precedence(own: str | None, plain: str | None, file: str | None) -> None:
    variables = {"MARKETPRISM_NATS_URL": own, "NATS_URL": plain}
    environ = {name: value for name, value in variables.items() if value is not None}
    settings = effective(pipeline(f"{{nats: {{url: '{file}'}}}}" if file else "{}"), environ)
    candidates = [
        ((own or "").strip(), "environment MARKETPRISM_NATS_URL"),
        (plain, "environment NATS_URL"),
        (file, "file"),
        ("nats://localhost:4222", "default"),
    ]
    expected = next((url, origin) for url, origin in candidates if url)
    assert (settings.nats_url, settings.origins["nats_url"]) == expected
    assert settings.nats_url_given == (expected[1] != "default")


@pytest.mark.parametrize(
    ("variable", "value", "in_file", "setting", "from_environment", "from_file", "otherwise"),
    [
        (
            "CLICKHOUSE_HTTP_URL",
            "http://env:1/, http://env:2",
            "url: 'http://file:1'",
            "clickhouse_urls",
            ("http://env:1", "http://env:2"),
            ("http://file:1",),
            ("http://localhost:8123",),
        ),
        ("CLICKHOUSE_HOT_DB", "env_db", "hotDatabase: file_db", "hot_db", "env_db", "file_db", "marketprism_hot"),
        ("CLICKHOUSE_COLD_DB", "env_db", "coldDatabase: file_db", "cold_db", "env_db", "file_db", "marketprism_cold"),
    ],
)
def test_clickhouse_precedence(
    variable: str,
    value: str,
    in_file: str,
    setting: str,
    from_environment: object,
    from_file: object,
    otherwise: object,
) -> None:
    file, none = pipeline(f"{{clickhouse: {{{in_file}}}}}"), pipeline("{}")
    origin = "clickhouse_url" if setting == "clickhouse_urls" else setting
    for source, environ, expected, whence in [
        (file, {variable: value}, from_environment, f"environment {variable}"),
        (none, {variable: value}, from_environment, f"environment {variable}"),
        (file, {variable: ""}, from_file, "file"),
        (file, {}, from_file, "file"),
        (none, {variable: ""}, otherwise, "default"),
        (none, {}, otherwise, "default"),
    ]:
        settings = effective(source, environ)
        assert getattr(settings, setting) == expected
        assert settings.origins[origin] == whence


def test_migration_precedence() -> None:
    (policy,) = parse(
        "apiVersion: storage.marketprism.io/v1alpha1\nkind: TieringPolicy\nmetadata: {name: main}\n"
        "spec: {pipelineRef: {name: main}, every: 30s, olderThan: 90m, batchLimit: 7}\n"
    )
    assert isinstance(policy, TieringPolicy)
    environ = {"MIGRATION_WINDOW_HOURS": "0.05", "MIGRATION_BATCH_LIMIT": "3"}
    settings = effective(None, {}, policy)
    assert (settings.migration_window_hours, settings.migration_batch_limit) == (1.5, 7)
    assert settings.origins["migration_window_hours"] == "file"
    settings = effective(None, environ, policy)
    assert (settings.migration_window_hours, settings.migration_batch_limit) == (0.05, 3)


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("MIGRATION_WINDOW_HOURS", "8h", "leave out the unit: 8"),
        ("MIGRATION_WINDOW_HOURS", "-1", "more than 0"),
        ("MIGRATION_WINDOW_HOURS", "0", "more than 0"),
        ("MIGRATION_WINDOW_HOURS", "nan", "more than 0"),
        ("MIGRATION_WINDOW_HOURS", "inf", "more than 0"),
        ("MIGRATION_WINDOW_HOURS", "1e9", "more than 0"),
        ("MIGRATION_WINDOW_HOURS", "８", "more than 0"),
        ("MIGRATION_BATCH_LIMIT", "1_000", "1 to 1000000000"),
        ("MIGRATION_BATCH_LIMIT", "0", "1 to 1000000000"),
        ("MIGRATION_BATCH_LIMIT", "1.5", "1 to 1000000000"),
        ("NATS_URL", "localhost:4222", "write nats://localhost:4222"),
        ("NATS_URL", "nats://u:canary@h:bad", "is not a URL"),
        ("MARKETPRISM_NATS_URL", "http://h", "schemes nats"),
        ("MARKETPRISM_NATS_DOMAIN", "a.b", "letters, digits"),
        ("MARKETPRISM_NATS_API_PREFIX", "a.>", "tokens of letters"),
        ("CLICKHOUSE_HTTP_URL", "http://h/?password=canary", "query"),
        ("CLICKHOUSE_HOT_DB", "a;b", "letters, digits"),
        ("CLICKHOUSE_COLD_DB", "marketprism_hot", "same database"),
    ],
)
def test_bad_variable(name: str, value: str, part: str) -> None:
    with pytest.raises(ResourceError) as caught:
        effective(None, {name: value})
    assert part in str(caught.value)
    assert name in str(caught.value)
    assert "canary" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    ("file", "environ", "expected"),
    [
        ("{}", {}, ("$JS.API", False)),
        ("{nats: {domain: hub}}", {}, ("$JS.hub.API", True)),
        ("{nats: {apiPrefix: $JS.API}}", {}, ("$JS.API", True)),
        ("{nats: {apiPrefix: JS.up}}", {"MARKETPRISM_NATS_DOMAIN": "hub"}, ("$JS.hub.API", True)),
        ("{nats: {domain: hub}}", {"MARKETPRISM_NATS_API_PREFIX": "JS.up"}, ("JS.up", True)),
        ("{nats: {domain: hub}}", {"MARKETPRISM_NATS_DOMAIN": " "}, ("$JS.hub.API", True)),
    ],
)
def test_which_jetstream(file: str, environ: dict[str, str], expected: tuple[str, bool]) -> None:
    settings = effective(pipeline(file), environ)
    assert (settings.jetstream, settings.domain_given) == expected


def test_a_domain_and_a_prefix_in_the_environment() -> None:
    with pytest.raises(ResourceError, match=r"MARKETPRISM_NATS_DOMAIN and MARKETPRISM_NATS_API_PREFIX .* both given"):
        effective(None, {"MARKETPRISM_NATS_DOMAIN": "hub", "MARKETPRISM_NATS_API_PREFIX": "JS.up"})


def test_every_bad_variable_is_named() -> None:
    with pytest.raises(ResourceError) as caught:
        effective(None, {"NATS_URL": "x", "MIGRATION_BATCH_LIMIT": "x"})
    assert len(caught.value.problems) == 2


def test_url_with_password_in_the_environment() -> None:
    environ = {
        "NATS_URL": "nats://me:p%40canary@h:4222,nats://other:4222",
        "CLICKHOUSE_HTTP_URL": "http://you:canary@c:1",
    }
    settings = effective(None, environ)
    assert settings.nats_url == "nats://h:4222,nats://other:4222"
    assert settings.clickhouse_urls == ("http://c:1",)
    nats, clickhouse = nats_auth(environ), clickhouse_auth(environ)
    assert (nats.user, nats.password) == ("me", "p@canary")
    assert (clickhouse.user, clickhouse.password) == ("you", "canary")
    assert "canary" not in repr(settings) + repr(nats) + str(clickhouse)
    assert nats_auth({"NATS_URL": "nats://canary@h"}).token == "canary"
    assert b"canary" not in pickle.dumps(settings)


def test_credentials_from_a_mounted_secret(tmp_path: Path) -> None:
    (tmp_path / "username").write_text("me\n")
    (tmp_path / "password").write_text("canary\r\n")
    for key in ("tls.crt", "tls.key", "ca.crt", "user.creds", "nkey.seed"):
        (tmp_path / key).write_text("x")
    environ = {"MARKETPRISM_NATS_AUTH_DIR": str(tmp_path), "MARKETPRISM_CLICKHOUSE_AUTH_DIR": str(tmp_path)}
    nats, clickhouse = nats_auth(environ), clickhouse_auth(environ)
    assert (nats.user, nats.password, nats.creds) == ("me", "canary", tmp_path / "user.creds")
    assert (clickhouse.user, clickhouse.password) == ("me", "canary")
    assert (nats.tls.ca, nats.tls.cert, nats.tls.key) == tuple(tmp_path / k for k in ("ca.crt", "tls.crt", "tls.key"))
    assert "canary" not in repr(nats) + repr(clickhouse)
    (tmp_path / "password").write_text("rotated")
    assert nats_auth(environ).password == "rotated"
    assert nats_auth({**environ, "NATS_PASSWORD": "mine"}).password == "mine"


def test_bad_credentials(tmp_path: Path) -> None:
    empty, odd, binary = tmp_path / "empty", tmp_path / "odd", tmp_path / "binary"
    for directory, key, content in [
        (empty, "password", b"\n"),
        (odd, "pass", b"canary"),
        (binary, "password", b"\xffcanary"),
    ]:
        directory.mkdir()
        (directory / key).write_bytes(content)
    for environ, part in [
        ({"MARKETPRISM_CLICKHOUSE_AUTH_DIR": str(empty)}, "is empty"),
        ({"MARKETPRISM_CLICKHOUSE_AUTH_DIR": str(odd)}, "none of the keys"),
        ({"MARKETPRISM_CLICKHOUSE_AUTH_DIR": str(binary)}, "is not text"),
        ({"MARKETPRISM_CLICKHOUSE_AUTH_DIR": str(tmp_path / "none")}, "can't be read"),
        ({"CLICKHOUSE_TLS_CERT": __file__}, "only one of them"),
        ({"CLICKHOUSE_TLS_CA": "/none"}, "no file /none"),
        ({"CLICKHOUSE_HTTP_URL": "http://a:canary@h,http://b:canary@i"}, "different credentials"),
    ]:
        with pytest.raises(ResourceError, match=part) as caught:
            clickhouse_auth(environ)
        assert "canary" not in str(caught.value)
    with pytest.raises(ResourceError, match="only one of them"):
        nats_auth({"NATS_USER": "me"})
    assert nats_auth({}).user == clickhouse_auth({}).user == ""

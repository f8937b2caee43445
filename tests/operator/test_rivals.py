"""Which pipelines are in each other's way, by their specs alone."""

from __future__ import annotations

from typing import Any

import pytest

from marketprism_api.pipeline import StoragePipeline
from marketprism_operator.rivals import Feed, Rivals, feed_of

NATS, CLICKHOUSE = "nats://nats.infra:4222", "http://clickhouse.infra:8123"


def feed(age: int = 1, namespace: str = "a", **spec: Any) -> Feed:
    spec = {"nats": {"url": NATS}, "clickhouse": {"url": CLICKHOUSE}, **spec}
    metadata = {"name": "x", "namespace": namespace, "uid": f"u{age}"}
    found = feed_of(StoragePipeline.model_validate({"metadata": metadata, "spec": spec}), f"2026-01-0{age}")
    assert found
    return found


TRADES = {"trade": {}}
FIELDS = {"fields": {"price": {"type": "Float64"}}}
OF_OKX, OF_ALL_VENUES = (
    {"ticker": {"subject": "tick.okx.>", **FIELDS}},
    {"ticker": {"subject": "tick.*.spot.>", **FIELDS}},
)
OF_BYBIT = {"ticker": {"subject": "tick.bybit.>", **FIELDS}}
BY_ANOTHER_NAME = {"quote": {"subject": "tick.>", "table": "tickers", **FIELDS}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"dataTypes": TRADES}, {"dataTypes": {"trade": {}, "orderbook": {}}}),
        (
            {"nats": {"url": "nats://nats.infra.svc.cluster.local"}},
            {"nats": {"url": "nats://else:1, tls://nats.infra"}},
        ),
        ({"nats": {"url": NATS, "streams": {"trade": "A,B"}}}, {"nats": {"url": NATS, "streams": {"trade": "B,C"}}}),
        ({"nats": {"url": NATS, "streams": {"trade": "A"}}, "dataTypes": TRADES}, {}),
        ({"nats": {"url": NATS, "streams": {"default": "A"}}}, {"nats": {"url": NATS, "streams": {"default": "B"}}}),
        ({"nats": {"url": NATS, "bucket": "ONE"}}, {"nats": {"url": NATS, "bucket": "OTHER"}}),
        (
            {"nats": {"url": NATS, "authSecretRef": {"name": "s"}}},
            {"nats": {"url": NATS, "authSecretRef": {"name": "s"}}},
        ),
        ({"clickhouse": {"url": CLICKHOUSE, "coldDatabase": "cold"}}, {}),
        ({"dataTypes": OF_OKX}, {"dataTypes": OF_ALL_VENUES}),
        ({"dataTypes": {"ticker": {**OF_OKX["ticker"], "table": "tickers"}}}, {"dataTypes": BY_ANOTHER_NAME}),
    ],
)
def test_the_same_messages_into_the_same_tables(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert feed(1, **one).shared(feed(2, **other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"dataTypes": TRADES}, {"dataTypes": {"orderbook": {}}}),
        ({"dataTypes": OF_OKX}, {"dataTypes": OF_BYBIT}),
        ({"nats": {"url": NATS}}, {"nats": {"url": "nats://another.infra:4222"}}),
        ({"nats": {"url": NATS, "domain": "hub"}}, {"nats": {"url": NATS}}),
        (
            {"nats": {"url": NATS, "authSecretRef": {"name": "s"}}},
            {"nats": {"url": NATS, "authSecretRef": {"name": "t"}}},
        ),
        (
            {"nats": {"url": NATS, "streams": {"trade": "A"}}, "dataTypes": TRADES},
            {"nats": {"url": NATS, "streams": {"trade": "B"}}},
        ),
        ({"clickhouse": {"url": CLICKHOUSE, "hotDatabase": "one"}}, {"clickhouse": {"url": CLICKHOUSE}}),
        ({"clickhouse": {"url": CLICKHOUSE}}, {"clickhouse": {"url": "http://another.infra:8123"}}),
        ({"nats": {"url": "nats://localhost:4222"}}, {"nats": {"url": "nats://localhost:4222"}}),
    ],
)
def test_other_messages_or_other_tables(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert not feed(1, **one).shared(feed(2, **other))


def test_a_short_name_is_of_the_namespace() -> None:
    nats = {"nats": {"url": "nats://nats"}}
    assert feed(1, "a", **nats).shared(feed(2, "a", **nats))
    assert not feed(1, "a", **nats).shared(feed(2, "b", **nats))
    assert feed(1, "a", **nats).shared(feed(2, "b", nats={"url": "nats://nats.a.svc"}))


def test_one_that_is_suspended_is_in_nobodys_way() -> None:
    assert feed_of(StoragePipeline.model_validate({"metadata": {"name": "x"}, "spec": {"suspend": True}}), "") is None


def test_the_oldest_goes_first_and_who_is_concerned_by_a_change_is_told() -> None:
    rivals, (a, b, c) = Rivals(), (("a", "one"), ("b", "two"), ("a", "three"))
    assert rivals.put(a, feed(1)) == set()
    assert rivals.put(c, feed(3)) == {a}
    assert rivals.put(b, feed(2, dataTypes=TRADES)) == {a, c}
    assert rivals.first(a) is None
    assert rivals.first(b) == (a, ("trade",))
    assert (rivals.first(c) or [""])[0] == a
    assert rivals.put(b, feed(2, dataTypes=TRADES)) == set(), "nothing new"
    assert rivals.put(a, None) == {b, c}
    assert rivals.first(b) is None
    assert rivals.first(c) == (b, ("trade",))
    assert rivals.put(b, feed(2, clickhouse={"url": "http://elsewhere"})) == {c}
    assert rivals.first(c) is None

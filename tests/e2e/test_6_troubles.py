"""What `kubectl describe` says of pipelines that can't run: the cause, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import apply, kubectl, reason

NATS: dict[str, Any] = {"url": "nats://nats:4222", "authSecretRef": {"name": "nats-auth"}}
CLICKHOUSE: dict[str, Any] = {"url": "http://clickhouse:8123", "authSecretRef": {"name": "clickhouse-auth"}}
ALL = [
    "trade",
    "orderbook",
    "funding_rate",
    "open_interest",
    "liquidation",
    "lsr_top_position",
    "lsr_all_account",
    "volatility_index",
]
UNPULLABLE = {"spec": {"containers": [{"name": "consumer", "image": "localhost/nowhere:1"}]}}

TROUBLES: dict[str, dict[str, Any]] = {
    "wrong-url": {"clickhouse": CLICKHOUSE | {"url": "http://clickhuose:8123"}},
    "wrong-nats": {
        "nats": NATS | {"url": "nats://nast:4222"},
        "clickhouse": CLICKHOUSE | {"hotDatabase": "wrong_nats"},
    },
    "missing-secret": {
        "clickhouse": CLICKHOUSE | {"authSecretRef": {"name": "nowhere"}, "hotDatabase": "missing_secret"}
    },
    "wrong-password": {
        "clickhouse": CLICKHOUSE | {"authSecretRef": {"name": "nats-auth"}, "hotDatabase": "wrong_password"}
    },
    "refused-ddl": {"clickhouse": CLICKHOUSE | {"cluster": "nowhere", "hotDatabase": "refused_ddl"}},
    "wrong-image": {
        "clickhouse": CLICKHOUSE | {"hotDatabase": "wrong_image"},
        "consumers": {"all": {"dataTypes": ALL, "podTemplate": UNPULLABLE}},
    },
}


@pytest.fixture(scope="module", autouse=True)
def pipelines() -> Iterator[None]:
    """All at once, each with tables of its own: of two that store the same the younger one only says so."""
    version = "storage.marketprism.io/v1alpha1"
    apply(
        *(
            {
                "apiVersion": version,
                "kind": "StoragePipeline",
                "metadata": {"name": name},
                "spec": {"nats": NATS, **spec},
            }
            for name, spec in TROUBLES.items()
        )
    )
    yield
    kubectl("delete", "storagepipeline", *TROUBLES)


@pytest.mark.parametrize(
    ("name", "condition", "why", "said"),
    [
        ("wrong-url", "ClickHouseReachable", "ClickHouseUnreachable", ("clickhuose:8123", "spec.clickhouse.url")),
        ("wrong-nats", "NATSReachable", "NATSUnreachable", ("spec.nats.url",)),
        ("missing-secret", "SchemaReady", "SecretMissing", ('secret "nowhere" not found', "create it")),
        (
            "wrong-password",
            "ClickHouseReachable",
            "ClickHouseDenied",
            ("AUTHENTICATION_FAILED", "spec.clickhouse.authSecretRef"),
        ),
        ("refused-ddl", "SchemaReady", "SchemaFailed", ("cluster 'nowhere' not found", "fix what the message says")),
        ("wrong-image", "ConsumersAvailable", "ImagePullFailed", ("localhost/nowhere:1",)),
    ],
)
def test_the_condition_says_why_and_what_to_do(name: str, condition: str, why: str, said: tuple[str, ...]) -> None:
    message = reason("storagepipeline", name, condition, why)
    described = kubectl("describe", "storagepipeline", name)
    for part in said:
        assert part in message
        assert part in described
    reason("storagepipeline", name, "Ready", why)

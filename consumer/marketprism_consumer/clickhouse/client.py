"""A client of one ClickHouse endpoint, as all of ours are made."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from clickhouse_connect.driver import create_async_client

from marketprism_api.credentials import ClickHouseAuth

CONNECT_TIMEOUT = 5.0  # [s]


async def connect(url: str, auth: ClickHouseAuth, patience: float) -> Any:
    """`patience`: how long an answer may take [s]. Raises what clickhouse-connect does."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return await create_async_client(
        host=parts.hostname or "localhost",
        port=parts.port or (8443 if secure else 8123),
        username=auth.user or None,
        password=auth.password,
        ca_cert=str(auth.tls.ca) if auth.tls.ca else None,
        client_cert=str(auth.tls.cert) if auth.tls.cert else None,
        client_cert_key=str(auth.tls.key) if auth.tls.key else None,
        secure=secure,
        compress=False,
        autogenerate_session_id=False,
        query_retries=0,  # retries are ours: they keep the token and the deadline
        connect_timeout=CONNECT_TIMEOUT,
        send_receive_timeout=patience,
    )

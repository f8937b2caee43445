"""Without the package of the embedded servers, as in the image."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from marketprism_consumer.cli import app


@pytest.mark.parametrize("command", ["run", "demo"])
def test_what_is_not_installed_is_named_with_what_to_do(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MARKETPRISM_NATS_URL", "NATS_URL", "CLICKHOUSE_HTTP_URL"):
        monkeypatch.delenv(variable, raising=False)
    for module in ("marketprism_embedded", "marketprism_embedded.place", "marketprism_embedded.process"):
        monkeypatch.setitem(sys.modules, module, None)
    refused = CliRunner().invoke(app, [command])
    assert refused.exit_code == 2
    assert "marketprism-consumer[embedded]" in refused.stderr
    assert "MARKETPRISM_NATS_URL" in refused.stderr

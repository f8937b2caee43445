"""A NATS account that holds a stream of trades, with a user who has the rights of the documentation's page and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nats

from tests.pipelines import trade

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "nats-permissions.md"
PIPELINE = """\
apiVersion: storage.marketprism.io/v1alpha1
kind: StoragePipeline
metadata: {{name: main}}
spec:
  nats: {{streams: {{default: MARKET_DATA}}, ensureStreams: Never{more}}}
  deadLetters: {{maxRatio: "1"}}
  dataTypes: {{trade: {{batch: {{maxRows: 1, maxDelay: 100ms}}}}}}
"""


OWNER = {"user": "owner", "password": "o"}
OWNER_USER = '{user: owner, password: "o"}'


def pipeline_file(place: Path, more: str = "") -> str:
    path = place / "pipeline.yaml"
    path.write_text(PIPELINE.format(more=more))
    return str(path)


def block(number: int) -> str:
    """The page's blocks that a nats-server is configured with, by their order."""
    return re.findall(r"```\n(accounts \{.*?)```", PAGE.read_text(), re.DOTALL)[number]


def with_owner(text: str) -> str:
    """The same with a user who owns the streams in the first of the accounts."""
    return text.replace("users: [", f"users: [ {OWNER_USER}", 1)


def subjects(of: str) -> list[str]:
    """What the page lets a user `publish` to, or `subscribe`."""
    allowed = re.search(of + r" \{\s*allow: \[(.*?)\]", block(0), re.DOTALL)
    assert allowed
    return re.findall(r'"(.+?)"', allowed[1])


async def fill(url: str, **login: Any) -> None:
    """A stream with a trade, and a message that is none."""
    connection: Any = await nats.connect(url, **login)
    js = connection.jetstream()
    await js.add_stream(name="MARKET_DATA", subjects=["trade.>"])
    await js.publish("trade.binance_spot.spot.BTC-USDT", json.dumps(trade()).encode())
    await js.publish("trade.binance_spot.spot.BTC-USDT", b"no trade")
    await connection.close()

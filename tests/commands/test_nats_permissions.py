"""The page of least rights, with exactly the account that it has: all of the work is done, and a missing right is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from marketprism_embedded import process
from tests.commands import market_account
from tests.commands.command import call
from tests.faults.harness import NatsByHand

LEAST, IMPORTED = 0, 1
MORE = {LEAST: "", IMPORTED: ", apiPrefix: JS.MARKET.API"}


def account(block: int, without: str) -> str:
    """The page's, but for what is in a line with `without`."""
    text = market_account.with_owner(market_account.block(block)).replace('"$STORAGE_PASSWORD"', '"s"')
    if block == IMPORTED:
        text = text.replace('password: "s"', f'password: "s", permissions: {json.dumps(imported_rights())}')
    assert without in text
    return "\n".join(line for line in text.splitlines() if not without or without not in line)


def imported_rights() -> dict[str, dict[str, list[str]]]:
    """Those of the other account, as the page says that they are to be changed."""
    publish = [
        subject.replace("$JS.API", "JS.MARKET.API").replace("$KV", "JS.MARKET.API.$KV")
        for subject in market_account.subjects("publish")
    ]
    return {"publish": {"allow": publish}, "subscribe": {"allow": market_account.subjects("subscribe")}}


@pytest.fixture
def environ(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Of a server with one of the page's blocks. The parameter: which, and what it is to be without."""
    block, without = getattr(request, "param", (LEAST, ""))
    server = NatsByHand(tmp_path / "nats", lambda: account(block, without))
    asyncio.run(market_account.fill(server.url, **market_account.OWNER))
    with process.start("clickhouse", tmp_path / "clickhouse") as clickhouse:
        yield {
            "MARKETPRISM_NATS_URL": server.url, "CLICKHOUSE_HTTP_URL": clickhouse.url,
            "NATS_USER": "storage", "NATS_PASSWORD": "s",
        }  # fmt: skip
    with suppress(ProcessLookupError):
        server.kill()


@pytest.mark.parametrize(("environ", "more"), [((block, ""), MORE[block]) for block in MORE], indirect=["environ"])
def test_with_these_rights_all_of_it_works(environ: dict[str, str], more: str, tmp_path: Path) -> None:
    path = market_account.pipeline_file(tmp_path, more)
    done = call("schema", "apply", "-f", path, environ=environ)
    assert done.returncode == 0, done.stderr
    done = call("ingest", "-f", path, "--until-idle", "1s", "--port", "0", environ=environ)
    assert (done.returncode, "permissions violation" in done.stderr.lower()) == (0, False), done.stderr
    lanes = json.loads(call("lanes", "list", "-f", path, "-o", "json", environ=environ).stdout)["lanes"]
    assert [(each["dataType"], each["done"], each["lag"]) for each in lanes] == [("trade", 2, 0)]
    checked = call("check", "-f", path, environ=environ)
    assert "permissions violation" not in (checked.stdout + checked.stderr).lower()


@pytest.mark.parametrize(
    ("environ", "more", "named"),
    [
        ((LEAST, "$KV.MARKETPRISM_LANES.>"), MORE[LEAST], "the account needs to publish to $KV.MARKETPRISM_LANES.>"),
        (
            (IMPORTED, 'subject: "$KV.MARKETPRISM_LANES.>"'),
            MORE[IMPORTED],
            "the account needs to publish to $KV.MARKETPRISM_LANES.>",
        ),
        ((IMPORTED, 'subject: "$JS.API.STREAM.>"'), MORE[IMPORTED], "no answer to JS.MARKET.API.STREAM.NAMES"),
    ],
    indirect=["environ"],
)
def test_a_right_that_is_missing_is_named(environ: dict[str, str], more: str, named: str, tmp_path: Path) -> None:
    path = market_account.pipeline_file(tmp_path, more)
    call("schema", "apply", "-f", path, environ=environ)
    checked = call("check", "-f", path, environ=environ)
    assert checked.returncode != 0
    assert named in " ".join(checked.stdout.split())

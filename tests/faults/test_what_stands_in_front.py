"""Proxies and gateways between ingest and ClickHouse that refuse, answer in its place, or change what passes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

import pytest

from tests.faults.harness import MARKETPRISM, World
from tests.faults.proxy import Exchange, Fault, Proxy, answers, forwarded
from tests.waiting import wait_for

EXCEPTION = "Code: 241. DB::Exception: Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED) (version 25.8.1.1)"


def rewritten(change: Callable[[bytes, bytes], tuple[bytes, bytes]]) -> Fault:
    """The request goes on as something else."""

    async def fault(exchange: Exchange) -> None:
        exchange.head, exchange.body = change(exchange.head, exchange.body)
        await forwarded(exchange)

    return fault


def without(setting: str) -> Fault:
    return rewritten(lambda head, body: (re.sub(rb"%s=[^& ]*&?" % setting.encode(), b"", head, count=1), body))


def truncated(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """With a length that fits: the server can't tell that the end is missing."""
    short = body[: len(body) // 2]
    return re.sub(rb"(?i)content-length: *\d+", b"Content-Length: %d" % len(short), head), short


def no_more_than(size: int) -> Fault:
    async def fault(exchange: Exchange) -> None:
        await (answers(413, "<html>Request Entity Too Large</html>") if len(exchange.body) > size else forwarded)(
            exchange
        )

    return fault


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (answers(200, EXCEPTION), "Memory limit"),
        (answers(200, ""), "not from ClickHouse"),
        (answers(204, ""), "HTTP 204"),
        (answers(403, "Forbidden by policy 17"), "HTTP 403: Forbidden by policy 17"),
        (answers(502, "<html>Bad Gateway</html>"), "HTTP 502: <html>Bad Gateway</html>"),
        (answers(307, "", "Location: https://elsewhere.example/"), "HTTP 307 to https://elsewhere.example/"),
    ],
    ids=["an exception with 200", "an empty 200", "204", "403", "502", "a redirect"],
)
def test_an_answer_that_is_not_clickhouses_stores_nothing_and_is_told_in_its_words(
    proxied: World, proxy: Proxy, fault: Fault, said: str
) -> None:
    proxied.feed(types=["trade"])
    ingest = proxied.ingest()
    ingest.until_more(50)
    proxy.spoil(fault, times=3)
    wait_for(lambda: proxy.hits >= 3, "the fault a few times")
    ingest.until_more(100)
    assert any(said in str(line.get("error")) for line in ingest.log() if "reason" in line)
    assert not ingest.alarms("ClickHouseUnreachable")
    proxied.prove()
    assert ingest.metric("marketprism_dead_letters_total", reason="RowRefused") == 0


@pytest.mark.parametrize("setting", ["insert_deduplication_token", "log_comment", "param_given"])
def test_nothing_is_inserted_through_what_drops_settings(proxied: World, proxy: Proxy, setting: str) -> None:
    proxy.spoil(without(setting), everything=True)
    proxied.feed(types=["trade"])
    ingest = proxied.ingest()
    ingest.until_alarm("NotClickHouse" if setting != "param_given" else "InsertBlocked")
    assert proxied.rows("trades") == 0
    proxy.heal()
    ingest.until_more(100)
    proxied.prove()


def test_a_limit_on_the_size_of_requests_makes_batches_smaller(proxied: World, proxy: Proxy) -> None:
    proxy.spoil(no_more_than(40_000))
    proxied.feed(types=["trade"], rate=1500)
    ingest = proxied.ingest()
    ingest.until_alarm("NotClickHouse")
    wait_for(lambda: ingest.status("trade").get("setAside") == 0, "what was too large is stored")
    ingest.until_more(1000)
    proxied.prove()
    assert ingest.metric("marketprism_dead_letters_total", reason="RowRefused") == 0


def test_blocks_whose_end_is_cut_off_bury_nothing(proxied: World, proxy: Proxy) -> None:
    proxied.feed(types=["trade"])
    ingest = proxied.ingest()
    ingest.until_more(50)
    proxy.spoil(rewritten(truncated), times=8)
    wait_for(lambda: proxy.hits >= 8, "the fault a few times")
    ingest.until_more(200)
    proxied.prove()
    assert ingest.metric("marketprism_dead_letters_total", reason="RowRefused") == 0


@pytest.mark.parametrize("setting", ["insert_deduplication_token", "log_comment"])
def test_check_tells_what_drops_settings(proxied: World, proxy: Proxy, setting: str) -> None:
    def told() -> dict[str, str]:
        done = subprocess.run(
            [*MARKETPRISM, "check", "-f", proxied.file, "--output", "json"], capture_output=True, text=True, check=False
        )
        return next(line for line in json.loads(done.stdout)["lines"] if line["what"] == "settings")

    assert told()["level"] == "ok"
    proxy.spoil(without(setting), everything=True)
    line = told()
    assert (line["level"], line["code"]) == ("wrong", "MP4008")
    assert f"{setting} did not arrive as sent" in line["found"]


def test_clickhouse_is_reached_by_the_proxy_that_the_environment_names(
    make_world: Callable[..., World], proxy: Proxy
) -> None:
    """Everything goes that way, names are looked up there, and NATS is left alone."""
    named = set()

    def as_asked(head: bytes, body: bytes) -> tuple[bytes, bytes]:
        line, _, rest = head.partition(b"\r\n")
        method, target, version = line.split(b" ")
        host, path = re.fullmatch(rb"http://([^/]+)(.*)", target).groups()  # type: ignore[union-attr]
        named.add(host)
        # The embedded server refuses a name that is not its own.
        rest = re.sub(rb"(?i)^host:[^\r]*", b"Host: 127.0.0.1", rest, count=1, flags=re.MULTILINE)
        return b" ".join((method, path, version)) + b"\r\n" + rest, body

    proxy.spoil(rewritten(as_asked), everything=True)
    world = make_world(bare=True)
    world.make_streams()
    world.make_tables()
    file = world.write_file("named", clickhouse={**world.spec["clickhouse"], "url": "http://clickhouse.invalid:8123"})
    world.feed(types=["trade"])
    one = world.ingest(file=file, environ={"http_proxy": proxy.url, "no_proxy": "127.0.0.1,localhost"})
    one.until_more(100)
    world.prove()
    assert named == {b"clickhouse.invalid:8123"}


def test_clickhouse_may_be_below_a_path(make_world: Callable[..., World], proxy: Proxy) -> None:
    def strip(head: bytes, body: bytes) -> tuple[bytes, bytes]:
        line, _, rest = head.partition(b"\r\n")
        assert b" /clickhouse" in line, line
        return re.sub(rb" /clickhouse/?", b" /", line) + b"\r\n" + rest, body

    proxy.spoil(rewritten(strip), everything=True)
    world = make_world(clickhouse_url=f"{proxy.url}/clickhouse")
    world.feed(types=["trade"])
    world.ingest().until_more(100)
    world.prove()

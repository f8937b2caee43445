"""Two pipelines on one stream and into the same tables, of which nobody sees both: the feed is neither split nor doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketprism_api.load import load_pipeline
from marketprism_api.settings import effective
from marketprism_consumer.clickhouse import schema
from tests.faults.harness import World
from tests.pipelines import trade
from tests.waiting import wait_for


def test_one_with_its_records_elsewhere_waits_and_says_for_whom(world: World) -> None:
    first = world.ingest()
    first.until_ready()
    world.feed()
    first.until_more(300)
    other = world.ingest(file=world.write_file("other", nats={**world.spec["nats"], "bucket": "ANOTHER"}))
    line = other.until_logged("RecordedElsewhere")
    assert line["code"] == "MP5004"
    assert "its records are in the bucket MARKETPRISM_LANES, not in ANOTHER" in line["problems"][0]
    first.until_more(600)
    status, said = other.get("/readyz")
    assert status == 503
    assert "MP5004" in said
    assert other.inserted() == 0
    world.feeds[0].stop()
    other.kill()
    world.prove()
    assert world.doubles() == 0


@pytest.mark.parametrize("name", ["same", "another"])
def test_with_its_records_in_the_same_bucket_it_shares_the_work(world: World, name: str) -> None:
    """Of the same name, too, as in two namespaces; and on hosts that are called the same, as Pods on a node's network are."""
    own = world.directory / "another-host"
    own.mkdir()
    file = world.write_file("other")
    if name == "another":
        file.write_text(file.read_text().replace(f"name: test-{world.name}", "name: other"))
    first, other = world.ingest(), world.ingest(file=file, environ={"TMPDIR": str(own)})
    for one in (first, other):
        one.until_ready()
    world.feed()
    world.until_more(600)
    first.kill()
    world.until_more(600)
    world.feeds[0].stop()
    world.prove()
    assert world.doubles() == 0


def test_it_waits_where_the_tables_are_not_looked_at_too(world: World) -> None:
    nats = {**world.spec["nats"], "bucket": "ANOTHER"}
    other = world.ingest(file=world.write_file("other", nats=nats, schema={"mode": "Ignore"}))
    other.until_logged("RecordedElsewhere")
    assert other.inserted() == 0


def signals(world: World, name: str, subject: str) -> Path:
    """A pipeline that stores messages of a type of its own, of that subject."""
    signal = {"subject": subject, "table": "signals", "fields": {"value": {"type": "Int64"}}}
    batch = {"maxRows": 10, "maxDelay": "100ms"}
    nats = {**world.spec["nats"], "streams": {"default": "SIGNALS"}}
    return world.write_file(name, nats=nats, dataTypes={"signal": {**signal, "batch": batch}})


def test_with_subjects_that_overlap_the_second_waits_until_the_first_is_gone(world: World) -> None:
    """Of one stream into one table each subject is a lane of its own: every message of both would be stored twice."""
    wide, narrow = signals(world, "wide", "signal.>"), signals(world, "narrow", "signal.okx.>")
    world.api("STREAM.CREATE.SIGNALS", {"name": "SIGNALS", "subjects": ["signal.>"]})
    settings = effective(load_pipeline(wide), {"CLICKHOUSE_HTTP_URL": world.clickhouse.url})
    world.call(schema.apply(world.store.clickhouse, settings))

    def send() -> None:
        for value in range(20):
            world.send("signal.okx.spot.BTC-USDT", {**trade(), "value": value})

    def stored() -> int:
        rows, messages = world.query("SELECT count(), uniqExact(_stream, _seq) FROM {hot}.signals")[0]
        assert rows == messages, "each once"
        return int(messages)

    first = world.ingest(file=wide)
    first.until_ready()
    send()
    second = world.ingest(file=narrow)
    line = second.until_alarm("FedByAnother")
    assert line["code"] == "MP3017"
    assert "of SIGNALS signal.> is stored in the same table, and has messages of signal.okx.>" in line["error"]
    status, said = second.get("/readyz")
    assert (status, "MP3017" in said) == (503, True)
    send()
    wait_for(lambda: stored() == 40, "the first stores all of it")
    first.freeze()
    second.until_ready()
    send()
    wait_for(lambda: stored() == 60, "the second goes on where the first was")
    first.thaw()
    first.until_alarm("FedByAnother")
    send()
    wait_for(lambda: stored() == 80, "the second stores all of it")
    assert (second.ready, first.ready) == (True, False)

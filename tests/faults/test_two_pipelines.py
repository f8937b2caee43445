"""Two pipelines on one stream and into the same tables, of which nobody sees both: the feed is neither split nor doubled."""

from __future__ import annotations

import pytest

from tests.faults.harness import World


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

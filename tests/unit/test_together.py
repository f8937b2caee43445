"""What several processes say, gathered: metrics that Prometheus can add up, problems told once, numbers of all."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from marketprism_consumer.commands import together
from marketprism_consumer.commands.processes import cores
from marketprism_consumer.ingest.metrics import IngestAccount, IngestMetrics

NUMBERS = {
    "received": 10, "inserted": 9, "deadLetters": 1, "inserts": 2, "inHand": 3, "state": "Running", "lag": None,
    "lagSeconds": 0.0, "setAside": 0, "reads": False, "streams": ["A"],
    "lastInsertTime": None, "lastInsertRows": 0, "lastInsertSeconds": 0.0,
}  # fmt: skip


def said(alarms: int) -> str:
    registry = CollectorRegistry()
    account = IngestAccount(IngestMetrics(registry), "trade", "MARKET_DATA")
    account.stands(lag=7, in_hand=1, held_bytes=2, set_aside=0, oldest=0.0, reads_tail=True)
    account.record_write(0.02)
    account.lookups.inc(alarms)
    return generate_latest(registry).decode()


def test_each_sample_is_there_once_for_each_process_with_its_value_and_its_labels() -> None:
    texts = {0: said(3), 2: said(5)}
    gathered = together.metrics(texts).decode()
    expected = {
        (sample.name, ("process", str(number)), *sorted(sample.labels.items())): sample.value
        for number, text in texts.items()
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    found = {
        (sample.name, ("process", sample.labels.pop("process")), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(gathered)
        for sample in family.samples
    }
    assert found == expected
    assert found["marketprism_lookups_total", ("process", "2"), ("data_type", "trade"), ("stream", "MARKET_DATA")] == 5
    assert gathered.count("# TYPE marketprism_lookups_total counter") == 1
    assert gathered.count("# TYPE marketprism_record_write_seconds histogram") == 1


def test_what_all_say_is_told_once() -> None:
    assert together.problems({0: ["trade: away", "book: slow"], 1: ["trade: away"]}) == [
        "process 0, 1: trade: away",
        "process 0: book: slow",
    ]


def test_what_each_does_adds_up_and_of_what_all_look_at_the_worst_counts() -> None:
    reads = NUMBERS | {"reads": True, "lag": 40, "setAside": 1, "streams": ["A", "B"], "lagSeconds": 2.5}
    stored = NUMBERS | {"lastInsertTime": 5.0, "lastInsertRows": 8, "setAside": 2, "state": "Stopping"}
    gathered = together.data_types([{"trade": reads}, {"trade": stored, "orderbook": NUMBERS}])
    assert gathered == {
        "trade": {
            "received": 20, "inserted": 18, "deadLetters": 2, "inserts": 4, "inHand": 6, "state": "Stopping", "lag": 40,
            "lagSeconds": 2.5, "setAside": 2, "reads": True, "streams": ["A", "B"],
            "lastInsertTime": 5.0, "lastInsertRows": 8, "lastInsertSeconds": 0.0,
        },
        "orderbook": NUMBERS,
    }  # fmt: skip


@pytest.mark.parametrize(("limit", "most"), [("100000 100000", 1), ("150000 100000", 2), ("10000 100000", 1)])
def test_a_container_has_as_many_cores_as_its_limit(tmp_path: Path, limit: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    assert cores(tmp_path / "cpu.max") == min(most, cores(tmp_path / "there is none"))
    (tmp_path / "cpu.max").write_text("max 100000")
    assert cores(tmp_path / "cpu.max") == cores(tmp_path / "there is none")

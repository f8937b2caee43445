"""The pipeline's picture: each stop of the way, and in words what is not well."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from marketprism_console.pipeline.picture import boxes, rates, troubles
from marketprism_consumer.operations.status import NO_STREAM, READ, UNREAD, Status, Tier, TypeStatus
from marketprism_consumer.validation.record import Verdict

NOW = datetime(2025, 9, 24, tzinfo=UTC)


def of_type(**changed: object) -> TypeStatus:
    well = {"rate": 50.0, "age": 0.4, "lag": 3, "set_aside": 0, "processes": 1, "hot": Tier(1000, 2_000_000, 3)}
    return TypeStatus("trade", "MARKET_DATA", **{"state": READ, **well, **changed})  # type: ignore[arg-type]


def status(*types: TypeStatus, validation: Verdict | None = None) -> Status:
    return Status("test", types, None, validation)


def test_where_all_is_well_there_is_nothing_to_say() -> None:
    assert troubles(status(of_type())) == []
    stream, lane, hot, cold, letters = boxes(of_type())
    assert stream.says == ("MARKET_DATA",)
    assert lane.says == ("3 waiting", "read", "1 process")
    assert hot.says == ("50.0 rows/s", "1,000 rows", "2.0 MB, 3 parts", "newest 0.4 s ago")
    assert [box.tone for box in (stream, lane, hot, cold, letters)] == ["good", "good", "good", "idle", "idle"]


@pytest.mark.parametrize(
    ("changed", "says", "tones"),
    [
        ({"state": NO_STREAM, "stream": ""}, "MP3003 StreamMissing", ("bad", "bad")),
        ({"state": UNREAD}, "nobody reads its stream", ("good", "bad")),
        ({"lag": 5000}, "5,000 messages wait", ("good", "warn")),
        ({"dead_letters": 2}, "2 messages could not become rows", ("good", "good")),
    ],
)
def test_what_is_not_well_is_said_with_what_to_do(
    changed: dict[str, object], says: str, tones: tuple[str, str]
) -> None:
    stream = changed.pop("stream", None)
    each = of_type(**changed)
    if stream is not None:
        each.stream = str(stream)
    (trouble,) = troubles(status(each))
    assert (says in trouble.text, bool(trouble.hint)) == (True, True), trouble
    assert tuple(box.tone for box in boxes(each)[:2]) == tones


def test_what_stops_it_comes_before_what_slows_it() -> None:
    said = troubles(status(of_type(dead_letters=1), of_type(state=UNREAD)))
    assert [trouble.tone for trouble in said] == ["bad", "warn"]


def test_the_last_verdict_counts() -> None:
    verdict = Verdict(NOW, NOW, NOW, 10, False, "", "FINDINGS: 2 kinds of fault")
    assert [trouble.text for trouble in troubles(status(of_type(), validation=verdict))] == [
        "FINDINGS: 2 kinds of fault"
    ]


def test_rates_of_all_types_together() -> None:
    chart = rates([(1.0, {"trade": 5.0, "orderbook": 2.5}), (3.0, {"trade": 0.0})])
    assert chart["series"][0]["data"] == [[1000, 7.5], [3000, 0.0]]

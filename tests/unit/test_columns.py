"""Trades in columns are the rows that `decode` gives, value by value; what is not plain is left to it."""

from __future__ import annotations

import json
import os
from array import array
from itertools import islice
from random import Random
from typing import Any

import pytest

from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.errors import MessageError
from marketprism_consumer.feed import messages
from marketprism_consumer.ingest import kernel
from marketprism_consumer.ingest.columns import Columns, Texts, columnar, native, of_rows
from marketprism_consumer.ingest.decode import ARRIVAL_SLACK, Row, decode
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.ingest.frames import Messages, cut
from marketprism_consumer.ingest.values import LATEST
from marketprism_consumer.schema.tables import TRADES
from tests.unit.test_fast import ARRIVED, NUMBERS, TEXTS, TIMES, TRADE, WHOLE

pytestmark = pytest.mark.skipif(
    kernel.library is None, reason="there is no kernel: it was not compiled for this platform"
)
CASES = int(os.environ.get("MARKETPRISM_FUZZ_CASES", "100000"))
AT_ONCE = 2000


def delivered(payloads: list[bytes], arrived: int = ARRIVED) -> Messages:
    data = b"".join(
        b"MSG trade.x 7 $JS.ACK.S.r.1.%d.%d.%d.0 %d\r\n%b\r\n" % (number, number, arrived * 1000, len(payload), payload)
        for number, payload in enumerate(payloads, 1)
    )
    found = cut(data, 0).messages
    assert found
    assert len(found) == len(payloads)
    return found


def by_rule(payload: bytes, arrived: int) -> Row | None:
    try:
        return decode(BUILT_IN["trade"], "trade.x", payload, arrived)
    except MessageError:
        return None


def values(columns: Columns) -> list[dict[str, Any]]:
    """Of each row, as bytes, texts and numbers."""
    count = len(columns)
    found: list[dict[str, Any]] = [{"seq": seq} for seq in columns.seqs]
    for name, packed in columns.fixed.items():
        width = len(packed) // count
        for number, row in enumerate(found):
            row[name] = packed[number * width : (number + 1) * width]
    for name, nulls in columns.nulls.items():
        for number, row in enumerate(found):
            row[name] = None if nulls[number] else row[name]
    for name, numbers in columns.texts.items():
        for number, row in enumerate(found):
            row[name] = columns.dictionary[numbers[number]]
    for name, texts in columns.strings.items():
        at = 0
        for row in found:
            length = texts[at] if texts[at] < 0x80 else (texts[at] & 0x7F) | texts[at + 1] << 7
            at += 1 if texts[at] < 0x80 else 2
            row[name] = texts[at : at + length]
            at += length
        assert at == len(texts)
    return found


def assert_agree(payloads: list[bytes], arrived: int = ARRIVED) -> int:
    """How many were taken."""
    read = columnar(BUILT_IN["trade"])
    assert read
    columns, others = read(delivered(payloads, arrived))
    rows = {number: by_rule(payload, arrived) for number, payload in enumerate(payloads, 1)}
    if columns is None:
        assert list(others) == list(range(len(payloads)))
        return 0
    taken = list(columns.seqs)
    assert sorted([*taken, *(index + 1 for index in others)]) == list(rows)
    expected: list[Row] = []
    for seq in taken:
        row = rows[seq]
        assert row is not None, payloads[seq - 1]
        expected.append(row)
    for got, wanted in zip(values(columns), values(of_rows(TRADES, expected, taken)), strict=True):
        assert got == wanted, payloads[got["seq"] - 1]
    assert columns.hours == {row[0] // 3_600_000_000 for row in expected}
    assert columns.times == (expected[0][0], expected[-1][0])
    assert columns.bytes == sum(len(payloads[seq - 1]) for seq in taken)
    return len(taken)


def test_what_a_collector_publishes_is_read_in_columns_mostly() -> None:
    payloads = [message.payload for message in islice(messages(1, types=["trade"], bad_ratio=0.3), 2000)]
    good = sum(by_rule(payload, LATEST) is not None for payload in payloads)
    assert assert_agree(payloads, LATEST) > 0.6 * good


def test_near_misses_are_left_alone() -> None:
    spelled = [
        *NUMBERS,
        *TEXTS,
        *TIMES,
        *WHOLE,
        "buy",
        "BUY",
        "unknown",
        "2025-09-24T07:55:51Z",
        "2025-09-24 07:55:51.123456789",
    ]
    names = [*TRADE, "ts_ms", "trade_ts_ms", "collected_ts_ms", "is_maker", "something"]
    payloads = [json.dumps({**TRADE, name: value}).encode() for name in names for value in spelled]
    payloads += [json.dumps({**TRADE, name: value}, ensure_ascii=False).encode() for name in names for value in TEXTS]
    payloads += [json.dumps({key: value for key, value in TRADE.items() if key != name}).encode() for name in TRADE]
    for start in range(0, len(payloads), AT_ONCE):
        assert assert_agree(payloads[start : start + AT_ONCE])


@pytest.mark.parametrize("late", [-1, 0, 1])
def test_a_trade_from_the_future_is_left_alone(late: int) -> None:
    read = columnar(BUILT_IN["trade"])
    assert read
    when = 1_758_700_551_123_000
    columns, _ = read(delivered([json.dumps(TRADE).encode()], when - ARRIVAL_SLACK - late))
    assert (columns is None) is (late > 0)


def test_what_is_changed_at_random_is_read_as_the_rule_does_or_left_alone() -> None:
    random, taken = Random(7), 0
    spelled = [json.dumps(TRADE).encode(), json.dumps({**TRADE, "ts_ms": 1758700551123, "is_maker": True}).encode()]
    for _ in range(0, CASES, AT_ONCE):
        payloads = []
        for _ in range(AT_ONCE):
            payload = bytearray(random.choice(spelled))
            for _ in range(random.choice((1, 1, 1, 2, 3))):
                place = random.randrange(len(payload))
                change = random.random()
                if change < 0.5:
                    payload[place] = random.choice(b'0123456789.,:{}[]"\\ -+eEtfnTZ\x00\x7f\x80\xff')
                elif change < 0.8:
                    del payload[place : place + random.choice((1, 2, 30))]
                else:
                    payload[place:place] = payload[random.randrange(len(payload)) :][: random.choice((1, 3, 40))]
            payloads.append(bytes(payload))
        taken += assert_agree(payloads)
    assert taken > CASES // 20


def test_a_block_of_columns_is_that_of_the_same_rows() -> None:
    """Whatever parts it has: what was read in columns, by one dictionary and another, and what was decoded one by one."""
    payloads = [message.payload for message in islice(messages(3, types=["trade"], bad_ratio=0.0, symbols=9), 300)]
    parts, in_order, rest = [], list[tuple[int, Row]](), list[tuple[int, Row]]()
    for some in (payloads[:150], payloads[150:]):
        read = columnar(BUILT_IN["trade"])  # with texts of its own
        assert read
        columns, others = read(delivered(some, LATEST))
        assert columns is not None
        parts.append(columns)
        rows = [by_rule(payload, LATEST) for payload in some]
        in_order += [(seq, row) for seq in columns.seqs if (row := rows[seq - 1])]
        rest += [(index + 1, row) for index in others if (row := rows[index])]
    assert rest
    block = Block(TRADES, [row for _, row in rest], [seq for seq, _ in rest], [], "t", parts, "S@now")
    assert block.rows == 300
    whole = of_rows(TRADES, [row for _, row in in_order + rest], [seq for seq, _ in in_order + rest])
    assert b"".join(block.expiring(0)) == b"".join(Block(TRADES, [], [], [], "t", [whole], "S@now").expiring(0))


def test_more_texts_than_one_number_tells_apart_are_told_by_two() -> None:
    count = 70_000
    row = by_rule(json.dumps(TRADE).encode(), ARRIVED)
    assert row
    halves = [
        of_rows(
            TRADES,
            [(*row[:3], f"S{number}", *row[4:]) for number in range(start, start + count // 2)],
            range(count // 2),
        )
        for start in (0, count // 2)
    ]
    text = b"".join(native(TRADES, halves, "S@now"))
    begin = text.index(b"\x06symbol\x16LowCardinality(String)") + len(b"\x06symbol\x16LowCardinality(String)")
    assert list(array("Q", text[begin : begin + 24])) == [1, 0x602, count]


def test_texts_have_each_once_and_say_when_there_are_too_many() -> None:
    read = columnar(BUILT_IN["trade"])
    assert read
    payloads = [json.dumps({**TRADE, "symbol": f"S{number}"}).encode() for number in range(3000)]
    for start in range(0, 3000, 1000):
        columns, others = read(delivered(payloads[start : start + 1000] + payloads[:1]))
        assert columns is not None
        assert not len(others)
        assert isinstance(columns.dictionary, Texts)
        assert columns.dictionary[columns.texts["symbol"][-1]] == b"S0"
    assert len(columns.dictionary) == 3000 + 4

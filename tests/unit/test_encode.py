"""Rows to one block of bytes; and a token that names exactly these messages, for what is restored."""

from __future__ import annotations

import struct
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.clickhouse.shards import SYMBOL, shard_of
from marketprism_consumer.feed import messages
from marketprism_consumer.ingest.decode import Row, decode
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.operations.restore import token
from marketprism_consumer.schema.tables import BY_DATA_TYPE, TABLES, TRADES, Table
from marketprism_embedded.native_blocks import with_revision

STREAM = "MARKET_DATA@2025-09-24T07:00:00.123456789Z"


def rows_of(table: Table, count: int = 50) -> list[Row]:
    sample = islice(messages(seed=3, types=[table.data_type]), count)
    return [decode(BUILT_IN[m.data_type], m.subject, m.payload, 1 << 60) for m in sample]


def block_of(table: Table, seqs: list[int] | None = None) -> Block:
    rows = rows_of(table)
    return Block(table, rows, seqs or range(1, len(rows) + 1), [STREAM] * len(rows), "t")


def by_table(test: Any) -> Any:
    return pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)(test)


# --- the bytes ----------------------------------------------------------------------------------------------------------


@by_table
def test_a_batch_is_one_block_whatever_its_size(table: Table) -> None:
    """The reader of blocks finds one block's header where it knows each column's end: a second would show as another."""
    block = block_of(table)
    data = b"".join(block.expiring(1_800_000_000))
    one = with_revision(data)
    assert len(one) == len(data) + 8 + len(block.columns), "8 bytes for one block's info, 1 for each column"


def test_a_large_batch_is_one_block_too() -> None:
    rows = rows_of(TRADES, 100) * 700
    block = Block(TRADES, rows, range(1, 70_001), [STREAM] * 70_000, "t")
    data = b"".join(block.expiring(1_800_000_000))
    assert block.rows == 70_000
    assert len(with_revision(data)) == len(data) + 8 + len(block.columns)


@by_table
def test_its_columns_are_the_inserted_ones_the_identity_and_the_deadline(table: Table) -> None:
    *columns, last = block_of(table).columns
    assert sorted(columns) == sorted((*(c.name for c in table.inserted), "_stream", "_seq"))
    assert last == "_expires"


@by_table
def test_the_same_rows_are_the_same_bytes(table: Table) -> None:
    assert block_of(table).expiring(1) == block_of(table).expiring(1)


@by_table
def test_taken_apart_it_is_every_row_once_under_a_token_for_each_part(table: Table) -> None:
    block = block_of(table)
    parts = block.parts(lambda row: shard_of(row[SYMBOL], ("1", "2")))
    assert sorted(seq for part in parts.values() for seq in part.seqs) == list(block.seqs)
    for name, part in parts.items():
        assert part.token == f"t@{name}"
        assert part.values == [block.values[seq - 1] for seq in part.seqs]
        assert {shard_of(row[SYMBOL], ("1", "2")) for row in part.values} == {name}
        again = block_of(table).parts(lambda row: shard_of(row[SYMBOL], ("1", "2")))[name]
        assert again.expiring(1) == part.expiring(1)


def test_a_symbol_is_on_the_same_shard_for_ever() -> None:
    """Another answer here, and blocks that are sent again go astray."""
    symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "BTC", "日本", "")
    assert [shard_of(symbol, ("a", "b", "c")) for symbol in symbols] == ["a", "b", "c", "c", "c", "c"]


@by_table
def test_a_deadline_changes_only_the_tail(table: Table) -> None:
    block = block_of(table)
    soon, late = b"".join(block.expiring(1_800_000_000)), b"".join(block.expiring(1_800_000_001))
    tail = 4 * block.rows
    assert soon[:-tail] == late[:-tail]
    assert soon[-tail:] == struct.pack("<I", 1_800_000_000) * block.rows
    assert late[-tail:] == struct.pack("<I", 1_800_000_001) * block.rows
    assert b"".join(block.expiring(1_800_000_000)) == soon


# --- the token ----------------------------------------------------------------------------------------------------------

TOKENS = {
    "itself": (TRADES, [1, 2, 3], [STREAM] * 3),
    "one less": (TRADES, [1, 2], [STREAM] * 2),
    "one more": (TRADES, [1, 2, 3, 4], [STREAM] * 4),
    "another in the middle": (TRADES, [1, 5, 3], [STREAM] * 3),
    "another order": (TRADES, [2, 1, 3], [STREAM] * 3),
    "the same ends, the same sum": (TRADES, [1, 0, 2, 3], [STREAM] * 4),
    "another table": (BY_DATA_TYPE["orderbook"], [1, 2, 3], [STREAM] * 3),
    "the stream made anew": (TRADES, [1, 2, 3], ["MARKET_DATA@2026-01-01T00:00:00Z"] * 3),
    "another generation": (TRADES, [1, 2, 3], [f"{STREAM}~1"] * 3),
    "one of another generation": (TRADES, [1, 2, 3], [STREAM, f"{STREAM}~1", STREAM]),
    "another one of another generation": (TRADES, [1, 2, 3], [STREAM, STREAM, f"{STREAM}~1"]),
    "two of another generation": (TRADES, [1, 2, 3], [STREAM, f"{STREAM}~1", f"{STREAM}~1"]),
    "large numbers": (TRADES, [2**64 - 3, 2**64 - 2, 2**64 - 1], [STREAM] * 3),
}


def test_a_token_is_of_its_messages_alone() -> None:
    tokens = {name: token(*case) for name, case in TOKENS.items()}
    assert len(set(tokens.values())) == len(tokens)
    assert tokens == {name: token(*case) for name, case in TOKENS.items()}


messages_of = st.lists(
    st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 4), st.sampled_from(["A@1", "A@1~1", "B@1", "A", ""])),
    min_size=1,
    max_size=6,
)


@given(messages_of, messages_of)
def test_two_tokens_are_equal_exactly_where_the_messages_are(
    some: list[tuple[int, str]], others: list[tuple[int, str]]
) -> None:
    def of(identities: list[tuple[int, str]]) -> str:
        return token(TRADES, *zip(*identities, strict=True))

    assert (of(some) == of(others)) is (some == others)


def test_a_token_needs_no_escaping_and_stays_short() -> None:
    text = token(TRADES, range(100_000), [STREAM] * 100_000)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 200
    assert not set("'\"\\ &%+") & set(text)

"""The Rust codec of clickhouse-connect, whose inner name `encode_native_block` is used without the package around it."""

from __future__ import annotations

import inspect
import struct

import _ch_core
import pytest
from clickhouse_connect.driver.rustcodec import REQUIRED_BINDING_API_VERSION

from marketprism_consumer.schema.tables import TABLES


def test_the_inner_name_that_this_leans_on_is_there() -> None:
    taken = list(inspect.signature(_ch_core.encode_native_block).parameters)
    assert taken == ["column_names", "column_type_names", "column_data", "row_count", "prefix"]


def test_its_interface_is_the_one_that_was_tried() -> None:
    """Another version may encode differently or refuse: read its changes, see tests/storage pass, then raise the number."""
    assert _ch_core.BINDING_API_VERSION == REQUIRED_BINDING_API_VERSION == 3


def test_it_writes_one_block_of_revision_0_without_block_info() -> None:
    types = ["UInt64", "Decimal(38, 18)", "Nullable(Bool)"]
    columns = [[7, 8], ["1.5", "0.000000000000000001"], [None, True]]
    data = _ch_core.encode_native_block(["n", "d", "b"], types, columns, 2, None)
    assert type(data) is bytes
    assert data == b"".join(
        (
            b"\x03\x02",  # columns, rows
            b"\x01n\x06UInt64" + struct.pack("<2Q", 7, 8),
            b"\x01d\x0fDecimal(38, 18)" + struct.pack("<4Q", 15 * 10**17, 0, 1, 0),
            b"\x01b\x0eNullable(Bool)" + b"\x01\x00" + b"\x00\x01",
        )
    )


@pytest.mark.parametrize("kind", sorted({column.type for table in TABLES for column in table.stored}))
def test_it_knows_every_type_of_the_tables(kind: str) -> None:
    """Of no rows: the values are compared in test_encode and tests/storage."""
    data = _ch_core.encode_native_block(["c"], [kind], [[]], 0, None)
    assert data.startswith(b"\x01\x00\x01c" + bytes([len(kind)]) + kind.encode())


def test_what_does_not_fit_is_refused_and_not_changed() -> None:
    for kind, value in (("UInt64", -1), ("UInt32", 1 << 32), ("Decimal(38, 18)", "1e400"), ("UInt64", "x")):
        with pytest.raises((ValueError, OverflowError, TypeError)):
            _ch_core.encode_native_block(["c"], [kind], [[value]], 1, None)

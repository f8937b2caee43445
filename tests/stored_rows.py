"""Rows as a table gives them back, made equal to what `decode` gave: for every test that stores and reads."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from marketprism_consumer.ingest.decode import Row
from marketprism_consumer.schema.tables import DECIMALS, TIME, Column, Table, nullable


def expression(column: Column) -> str:
    """The column in a form that JSON carries exactly: times as µs, decimals as text."""
    if column.type in (TIME, nullable(TIME)):
        return f"toUnixTimestamp64Micro({column.name})"
    if column.type == DECIMALS:
        return f"arrayMap(d -> toString(d), {column.name})"
    if "Int" in column.type or "Decimal" in column.type:
        return f"toString({column.name})"
    return column.name


def select(table: Table, full_name: str) -> str:
    """Every inserted column, then `_stream` and `_seq`, in the order of `_seq`."""
    columns = [expression(column) for column in (*table.inserted, table.column("_stream"), table.column("_seq"))]
    return f"SELECT {', '.join(columns)} FROM {full_name} ORDER BY _seq"


def comparable(table: Table, row: Sequence[Any]) -> list[Any]:
    """A decoded row, or one that was read with `select`: exact numbers, whatever their spelling."""
    return [_exact(column, value) for column, value in zip(table.inserted, row, strict=True)]


def _exact(column: Column, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [Decimal(item) for item in value]
    if "Decimal" in column.type:
        return Decimal(value)
    if "Int" in column.type or column.type in (TIME, nullable(TIME)):
        return int(value)
    return value


def expected(table: Table, rows: Sequence[Row]) -> list[list[Any]]:
    return [comparable(table, row) for row in rows]

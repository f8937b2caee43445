"""Messages that are made up from declarations: of every type of a column, wherever it stands, and none is refused."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from marketprism_api.data_types import BUILT_IN, Declaration
from marketprism_api.load import load_pipeline
from marketprism_api.settings import effective
from marketprism_api.subjects import matches
from marketprism_consumer.feed import FeedMessage, messages
from marketprism_consumer.feed.declared import DeclaredMessages
from marketprism_consumer.ingest.decode import decode

pytestmark = pytest.mark.quick

EXAMPLES = Path(__file__).parents[2] / "examples"
OF_OTHERS = [EXAMPLES / "own_types.yaml", *sorted((EXAMPLES / "collectors").glob("*.yaml"))]
OF_COLUMNS = {
    "int8": "Int8", "uint64": "UInt64", "int128": "Int128", "uint256": "UInt256", "exact": "Decimal(76, 38)",
    "narrow": "Nullable(Decimal(9, 2))", "fraction": "Decimal(4, 4)", "whole": "Decimal(5, 0)", "inexact": "Float64",
    "id": "UUID", "text": "String", "word": "LowCardinality(String)", "maybe_word": "LowCardinality(Nullable(String))",
    "yes": "Bool", "maybe_yes": "Nullable(Bool)", "millis": "Nullable(DateTime64(3))", "micros": "DateTime64(6)",
    "nanos": "DateTime64(9)", "numbers": "Array(Decimal(38, 18))", "times": "Array(DateTime64(3))", "ids": "Array(UUID)",
    "words": "Array(String)",
}  # fmt: skip
ODD: dict[str, dict[str, Any]] = {
    "exchange": {"subjectToken": 4},
    "market_type": {"value": "spot"},
    "symbol": {"from": ["data.0.s"]},
    "number": {"type": "UInt32", "subjectToken": 2},
    "price": {"type": "Decimal(38, 18)", "from": ["data.*.p"], "check": "positive"},
    "same": {"type": "Decimal(38, 18)", "from": ["data.*.p"], "check": "notNegative"},
    "side": {"type": "LowCardinality(String)", "from": ["m"], "values": {"true": "sell", "false": "buy"}, "oneOf": ["buy", "sell"]},
    "open": {"type": "Bool", "from": ["k.x"], "values": {"Y": "true", "N": "false"}},
    "second": {"type": "DateTime64(3)", "unit": "s"},
    "nano": {"type": "DateTime64(9)", "from": ["k.t.n"], "unit": "ns"},
    "second_place": {"type": "String", "from": ["label", "other"], "maxLength": 8},
}  # fmt: skip


def declared(place: Path, **types: dict[str, Any]) -> dict[str, Declaration]:
    head = {"apiVersion": "storage.marketprism.io/v1alpha1", "kind": "StoragePipeline", "metadata": {"name": "own"}}
    file = place / "pipeline.yaml"
    file.write_text(yaml.safe_dump({**head, "spec": {"dataTypes": types}}))
    return of_file(file)


def of_file(file: Path) -> dict[str, Declaration]:
    found = {str(name): each.declaration for name, each in effective(load_pipeline(file), {}).data_types.items()}
    return {name: each for name, each in found.items() if each != BUILT_IN.get(name)}


def fed(types: dict[str, Declaration], count: int = 300, **options: Any) -> list[FeedMessage]:
    return list(islice(messages(7, types=list(types), declared=list(types.values()), **options), count))


def rows_of(types: dict[str, Declaration], sent: list[FeedMessage]) -> dict[str, list[dict[str, Any]]]:
    """By data type and column; a message that is refused raises."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in types}
    for each in sent:
        declaration = types[each.data_type]
        assert matches(declaration.subject, each.subject)
        row = decode(declaration, each.subject, each.payload, 1 << 60)
        rows[each.data_type].append(dict(zip(declaration.names, row, strict=True)))
    return rows


def test_every_type_of_a_column_is_made_up_and_taken(tmp_path: Path) -> None:
    types = declared(tmp_path, every={"fields": {name: {"type": of} for name, of in OF_COLUMNS.items()}})
    rows = rows_of(types, fed(types))["every"]
    for column, of in OF_COLUMNS.items():
        values = [row[column] for row in rows]
        assert any(value is not None for value in values)
        assert (None in values) == ("Nullable" in of), f"{column}: left out where it may be"
        assert len({str(value) for value in values}) > 1


def test_wherever_it_stands_and_whatever_is_said_of_it(tmp_path: Path) -> None:
    types = declared(
        tmp_path, odd={"subject": "md.*.odd.>", "timestamp": {"from": ["k.T"], "unit": "us"}, "fields": ODD}
    )
    sent = fed(types)
    rows = rows_of(types, sent)["odd"]
    assert {row["side"] for row in rows} == {"buy", "sell"}
    assert {row["open"] for row in rows} == {True, False}
    assert {row["market_type"] for row in rows} == {"spot"}
    assert {row["exchange"] for row in rows} == {each.subject.split(".")[3] for each in sent}
    assert all(row["price"] == row["same"] for row in rows)
    body = json.loads(sent[0].payload)
    assert (list(body["data"][0]), sorted(body["k"])) == (["s", "p"], ["T", "t", "x"])


@pytest.mark.parametrize(
    "file", [EXAMPLES / "own_types.yaml", *sorted((EXAMPLES / "collectors").glob("*.yaml"))], ids=lambda file: file.stem
)
def test_of_every_example_all_are_taken(file: Path) -> None:
    types = {name: each for name, each in of_file(file).items() if name != "orderbook"}
    if types:
        rows = rows_of(types, fed(types, 200))
        assert all(rows.values())


def test_a_numbers_value_moves_as_one_of_a_market_does(tmp_path: Path) -> None:
    types = declared(tmp_path, tick={"fields": {"price": {"type": "Decimal(38, 18)", "check": "positive"}}})
    of_one: dict[Any, list[float]] = {}
    for row in rows_of(types, fed(types, 2000))["tick"]:
        of_one.setdefault((row["exchange"], row["market_type"], row["symbol"]), []).append(float(row["price"]))
    for prices in of_one.values():
        assert all(abs(now / before - 1) < 0.01 for before, now in pairwise(prices))


def test_the_same_arguments_make_the_same_messages_beside_the_built_in_types_too(tmp_path: Path) -> None:
    types = declared(tmp_path, tick={"fields": {"price": {"type": "Decimal(38, 18)"}}})
    both = {"types": ["trade", "tick"], "declared": list(types.values()), "bad_ratio": 0.1}
    once, again = (list(islice(messages(7, **both), 500)) for _ in range(2))  # type: ignore[arg-type]
    assert once == again
    ticks = [each for each in once if each.data_type == "tick"]
    assert len(ticks) > 30
    assert {each.bad_kind for each in ticks} == {None, "truncated"}


def test_what_can_not_be_made_up_is_told(tmp_path: Path) -> None:
    clash = {"a": {"type": "String", "from": ["k"]}, "b": {"type": "String", "from": ["k.b"]}}
    with pytest.raises(ValueError, match=r"b: where it stands, k\.b, there is another field"):
        DeclaredMessages(declared(tmp_path, clash={"fields": clash})["clash"], 1, Random(0))
    book = of_file(EXAMPLES / "collectors" / "okx.yaml")["orderbook"]
    with pytest.raises(ValueError, match="orderbook: levels that stand elsewhere"):
        DeclaredMessages(book, 1, Random(0))

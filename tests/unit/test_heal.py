"""The files that rows are healed from, and which of their lines are missing."""

from __future__ import annotations

import gzip
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest

from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.errors import HealError, MessageError
from marketprism_consumer.ingest.decode import Row, decode
from marketprism_consumer.operations.healing.archives import (
    as_stored,
    named_otherwise,
    open_archive,
    payload,
    where_to_get,
)
from marketprism_consumer.operations.healing.holes import Hole
from marketprism_consumer.operations.healing.plan import FilePlan, HealLine, TradeThere, plan_identities, plan_trades
from marketprism_consumer.operations.healing.streams import EARLY, LATE, per_series, together
from marketprism_consumer.schema.tables import TRADES

TRADE = as_stored(BUILT_IN["trade"])
SERIES = {"exchange": "binance_spot", "market_type": "spot", "symbol": "BTC-USDT"}


def rows(path: Path) -> list[tuple[int, dict[str, object]]]:
    """Its lines' numbers, and what becomes of each."""
    names = [column.name for column in TRADES.inserted]
    found = []
    for line in open_archive(path).lines():
        row = decode(TRADE, "", payload({**SERIES, **line.message}), 1 << 60)
        found.append((line.number, dict(zip(names, row, strict=True))))
    return found


def zipped(tmp_path: Path, text: str, name: str = "BTCUSDT-trades-2025-09-24") -> Path:
    with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as file:
        file.writestr(f"{name}.csv", text)
    return tmp_path / f"{name}.zip"


# --- Binance ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (
            "51175358,17.80180000,5.69000000,101.29224200,1583709433583,True,True\n",
            1,
        ),  # spot, as their own page shows it
        ("51175358,17.80180000,5.69000000,101.29224200,1583709433583000,True,True\n", 1),  # the same since 2025, in µs
        ("51175358,17.80180000,5.69000000,101.29,1583709433583,true\n", 1),  # futures, older
        (
            "id,price,qty,quote_qty,time,is_buyer_maker\r\n51175358,17.80180000,5.69000000,101.29,1583709433583,true\r\n",
            2,
        ),
        ("id,price,qty,base_qty,time,is_buyer_maker\n51175358,17.8018,5.69,0.1,1583709433583,true\n", 2),
    ],
    ids=["spot", "spot in µs", "futures", "futures with a header", "futures by the coin"],
)
def test_a_day_of_binance_as_it_is_given_away(tmp_path: Path, text: str, number: int) -> None:
    ((line, row),) = rows(zipped(tmp_path, text))
    assert (line, row["trade_id"], row["side"]) == (number, "51175358", "sell")
    assert (Decimal(str(row["price"])), Decimal(str(row["quantity"]))) == (Decimal("17.8018"), Decimal("5.69"))
    assert row["timestamp"] == row["trade_time"] == 1_583_709_433_583_000
    assert (row["collected_at"], row["data_source"]) == (None, "binance_archive")


def test_the_taker_sells_where_the_buyer_was_there_first(tmp_path: Path) -> None:
    text = "1,1,1,1,1583709433583,True,True\n2,1,1,1,1583709433583,False,True\n"
    assert [row["side"] for _, row in rows(zipped(tmp_path, text))] == ["sell", "buy"]


def test_what_is_unpacked_is_the_same_and_another_file(tmp_path: Path) -> None:
    text = "1,1,1,1,1583709433583,True,True\n"
    packed, plain = zipped(tmp_path, text), tmp_path / "plain.csv"
    plain.write_text(text)
    assert rows(packed) == rows(plain)
    assert open_archive(packed).stream != open_archive(plain).stream


@pytest.mark.parametrize("price", ["0", "-1", "1e40", "1,5", "abc", ""])
def test_a_line_that_ingest_would_not_take_is_refused_here_too(tmp_path: Path, price: str) -> None:
    with pytest.raises((MessageError, HealError), match=r"price|cells|begins"):
        rows(zipped(tmp_path, f"1,{price},1,1,1583709433583,True\n"))


AGGREGATED = "26129,0.01633102,4.70443515,27781,27781,1498793709153,true\n"
CANDLES = "1601510340000,4.15,4.15,4.15,4.15,539.23,1601510399999,2240.39,13,401.82,1669.98,0\n"


@pytest.mark.parametrize("text", [AGGREGATED, CANDLES, "", "hello\n", "1,2\n"])
def test_other_files_are_named_with_what_they_begin_with(tmp_path: Path, text: str) -> None:
    with pytest.raises(HealError, match="it begins with"):
        open_archive(zipped(tmp_path, text))


def test_a_line_that_was_cut_is_told_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(HealError, match="line 2: it has 3 cells"):
        rows(zipped(tmp_path, "1,1,1,1,1583709433583,True,True\n2,1,1\n"))


def test_a_file_that_is_cut_off_or_missing_says_so(tmp_path: Path) -> None:
    whole = zipped(tmp_path, "1,1,1,1,1583709433583,True,True\n")
    whole.write_bytes(whole.read_bytes()[:40])
    for path in (whole, tmp_path / "none.zip"):
        with pytest.raises(HealError, match=f"{path.name}: it can't be read"):
            open_archive(path)


def test_where_a_day_can_be_had() -> None:
    at = 1_758_700_800_000_000
    folder = "https://data.binance.vision/data"
    assert (
        where_to_get("binance_spot", "spot", "BTC-USDT", at)
        == f"{folder}/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-09-24.zip"
    )
    assert where_to_get("binance", "perpetual", "BTC-USDT-SWAP", at).startswith(
        f"{folder}/futures/um/daily/trades/BTCUSDT/"
    )
    assert where_to_get("okx", "spot", "BTC-USDT", at) == ""


@pytest.mark.parametrize(
    ("name", "symbol", "otherwise"),
    [
        ("BTCUSDT-trades-2025-09-24.zip", "BTC-USDT", ""),
        ("BTCUSDT-trades-2025-09-24.zip", "btcusdt", ""),
        ("BTCUSDT-trades-2025-09-24.zip", "BTC-USDT-SWAP", ""),
        ("BTCUSD_PERP-trades-2025-09-24.zip", "BTC-USD", ""),
        ("BTCUSDT-trades-2025-09-24.zip", "ETH-USDT", "BTCUSDT"),
        ("mine.csv", "ETH-USDT", ""),
    ],
)
def test_the_name_of_a_file_speaks_against_another_symbol(name: str, symbol: str, otherwise: str) -> None:
    assert named_otherwise(Path(name), symbol) == otherwise


# --- tardis.dev ---------------------------------------------------------------------------------------------------------


def test_a_day_of_tardis(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv.gz"
    head = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
    line = "binance,BTCUSDT,1585699200245000,1585699200260123,119188585,unknown,6430.1,0.5\n"
    path.write_bytes(gzip.compress((head + line).encode()))
    ((number, row),) = rows(path)
    assert (number, row["exchange"], row["symbol"], row["side"]) == (2, "binance", "BTCUSDT", "unknown")
    assert (row["timestamp"], row["collected_at"]) == (1_585_699_200_245_000, 1_585_699_200_260_123)


# --- what is missing ----------------------------------------------------------------------------------------------------


def line(number: int, id_: str, price: str = "1.50", quantity: str = "2", side: str = "buy") -> HealLine:
    message = {
        **SERIES, "trade_id": id_, "price": price, "quantity": quantity, "side": side,
        "timestamp": 1_758_700_800_000_000 + number, "trade_time": 1_758_700_800_000_000 + number,
    }  # fmt: skip
    row: Row = decode(TRADE, "", payload(message), 1 << 60)
    return HealLine(number, row)


def there(price: str = "1.5", quantity: str = "2", side: str = "buy") -> list[TradeThere]:
    return [TradeThere(Decimal(price), Decimal(quantity), side)]


def test_only_what_no_row_has_the_id_of_is_missing() -> None:
    plan = plan_trades([line(1, "7"), line(2, "8"), line(3, "9")], {"8": there()})
    assert ([each.number for each in plan.missing], plan.there, plan.disagree) == ([1, 3], 1, [])


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (there(price="1.6"), "price 1.5 in the file, 1.6 there"),
        (there(quantity="2.000000000000000001"), "quantity 2 in the file, 2.000000000000000001 there"),
        (there(side="sell"), "side buy in the file, sell there"),
        (there() + there(price="3"), "price 1.5 in the file, 3 there"),
    ],
)
def test_what_is_there_with_other_values_is_told_and_not_missing(known: list[TradeThere], text: str) -> None:
    plan = plan_trades([line(4, "8")], {"8": known})
    assert (plan.missing, plan.there, [(each.line, each.id, each.text) for each in plan.disagree]) == (
        [],
        0,
        [(4, "8", text)],
    )


def test_not_to_know_the_side_is_no_disagreement() -> None:
    plan = plan_trades([line(1, "7", side="unknown"), line(2, "8")], {"7": there(), "8": there(side="unknown")})
    assert (plan.there, plan.disagree) == (2, [])


def test_a_line_that_is_twice_in_the_file_is_stored_once() -> None:
    plan = plan_trades([line(1, "7"), line(2, "7"), line(3, "7", price="9")], {})
    assert ([each.number for each in plan.missing], plan.repeated) == ([1], 1)
    assert [each.line for each in plan.disagree] == [3]


def test_of_other_types_a_row_is_known_by_the_identity_of_its_message() -> None:
    known, new = HealLine(1, (), ("S@1", 5)), HealLine(2, (), ("S@1", 6))
    plan = plan_identities([known, new, HealLine(3, ())], frozenset([("S@1", 5)]))
    assert (plan.missing, plan.there, [each.line for each in plan.disagree]) == ([new], 1, [3])


@pytest.mark.parametrize(
    ("agree", "disagree", "in_time", "objection"),
    [
        (900, 0, 900, ""),
        (0, 0, 0, ""),  # nothing is there of that time: nothing speaks against it
        (900, 90, 990, ""),
        (900, 200, 1100, "of another market"),
        (0, 0, 1000, "numbers otherwise"),
        (400, 0, 1000, "numbers otherwise"),
    ],
)
def test_a_file_of_something_else_is_known_by_what_is_there(
    agree: int, disagree: int, in_time: int, objection: str
) -> None:
    found = FilePlan(there=agree, disagreeing=disagree, in_time=in_time).objection()
    assert objection in found
    assert bool(found) == bool(objection)


# --- what is replayed ---------------------------------------------------------------------------------------------------


def hole(symbol: str, since: int, until: int) -> Hole:
    return Hole("trade", "e", "m", symbol, since, until, 2, f"{since}")


def test_holes_whose_messages_may_have_come_together_are_read_once() -> None:
    first, near, far = (
        hole("A", 0, 10),
        hole("B", 10 + LATE + EARLY, 20 + LATE + EARLY),
        hole("A", 9 * LATE, 9 * LATE + 1),
    )
    assert together([far, near, first]) == [[first, near], [far]]
    assert per_series([first, near, hole("A", 5, 30)]) == [
        Hole("trade", "e", "m", "A", 0, 30, 4, "0, 5"),
        near,
    ]

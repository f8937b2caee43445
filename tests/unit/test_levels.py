"""The kernel that reads an order book's levels gives what the one rule gives, or leaves them alone; whatever comes, it ends."""

from __future__ import annotations

import json
import os
from random import Random
from typing import Any

import msgspec
import pytest

from marketprism_api.data_types import BUILT_IN, Levels
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest import kernel
from marketprism_consumer.ingest.decode import USUAL, book_rule
from marketprism_consumer.ingest.levels import MAX_LEVELS, BookSide, packed, read_side
from marketprism_consumer.ingest.places import Opened

pytestmark = pytest.mark.skipif(
    kernel.library is None, reason="there is no kernel: it was not compiled for this platform"
)
BOOK = book_rule(Levels(), BUILT_IN["orderbook"], USUAL)
CASES = int(os.environ.get("MARKETPRISM_FUZZ_CASES", "100000"))


def by_rule(text: bytes) -> tuple[BookSide, BookSide] | None:
    """As bids and as asks; None where the rule refuses them."""
    try:
        fields = {"market_type": msgspec.Raw(b'"spot"'), "bids": msgspec.Raw(text), "asks": msgspec.Raw(text)}
        count, _, bid, bid_quantity, ask, ask_quantity, prices, quantities, _, _ = BOOK(Opened(fields, ""))
    except MessageError:
        return None
    columns = packed(prices), packed(quantities)
    return BookSide(count, *columns, bid, bid_quantity), BookSide(count, *columns, ask, ask_quantity)


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def a_side(random: Random, *, blanks: bool = True) -> bytes:
    def number() -> str:
        whole = str(random.getrandbits(random.choice((1, 7, 20, 40, 63))))
        digits = random.choice((0, 0, 1, 2, 8, 9, 17, 18))
        return whole + ("." + "".join(random.choices("0123456789", k=digits)) if digits else "")

    objects = random.random() < 0.5
    found = [
        {"price": number(), "quantity": number()} if objects else [number(), number()]
        for _ in range(random.choice((0, 1, 2, 5, 20)))
    ]
    separators = random.choice(((",", ":"), (", ", ": "), (" ,\n", "\t: "))) if blanks else (",", ":")
    return json.dumps(found, separators=separators).encode()


def test_it_gives_what_the_rule_gives() -> None:
    random = Random(1)
    given = 0
    for _ in range(CASES // 10):
        text = a_side(random)
        expected = by_rule(text)
        for index, highest in enumerate((True, False)):
            found = read_side(text, highest=highest)
            assert found is None or (expected is not None and found == expected[index]), text
            given += found is not None
    assert given > CASES // 20, "it leaves what it should know"


def test_what_is_changed_at_random_it_gives_as_the_rule_does_or_leaves() -> None:
    random = Random(2)
    texts = [a_side(random) for _ in range(200)]
    given = 0
    for _ in range(CASES):
        text = bytearray(random.choice(texts))
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(text))
            change = random.random()
            if change < 0.5:
                text[at] = random.choice(b'0123456789.,"[]{}: -+eE\x00\xff')
            elif change < 0.7:
                del text[at : at + random.randint(1, 8)]
            elif change < 0.9:
                text[at:at] = text[at : at + random.randint(1, 30)]
            else:
                del text[at:]
            text = text or bytearray(b"[")
        found = read_side(bytes(text), highest=True)
        if found is not None:
            given += 1
            expected = by_rule(bytes(text))
            assert is_json(bytes(text)), text
            assert expected is not None, text
            assert found == expected[0], text
    assert given > CASES // 100, "it leaves all of them, so nothing was compared"


def test_whatever_comes_it_ends() -> None:
    random = Random(3)
    for size in (0, 1, 7, 8, 9, 100, 70_000):
        for _ in range(50):
            read_side(random.randbytes(size), highest=True)
            read_side(b"[" + bytes(random.choices(b'[]{}",:. 0123456789', k=size)), highest=False)


@pytest.mark.parametrize("form", [["1", "2"], {"price": "1", "quantity": "2"}])
def test_it_takes_as_many_levels_as_the_rule(form: Any) -> None:
    most = read_side(json.dumps([form] * MAX_LEVELS).encode(), highest=True)
    assert most is not None
    assert most.levels == MAX_LEVELS
    assert read_side(json.dumps([form] * (MAX_LEVELS + 1)).encode(), highest=True) is None


def test_the_best_is_the_first_of_the_best_price_that_has_a_quantity() -> None:
    text = b'[["3","0.0"],["2.50","7"],["2.5","8"],["1","9"]]'
    bids, asks = read_side(text, highest=True), read_side(text, highest=False)
    assert bids is not None
    assert asks is not None
    assert (bids.best_price, bids.best_quantity) == ("2.50", "7")
    assert (asks.best_price, asks.best_quantity) == ("1", "9")
    nothing = read_side(b'[["3","0.0"]]', highest=True)
    assert nothing is not None
    assert (nothing.best_price, nothing.best_quantity) == (None, None)

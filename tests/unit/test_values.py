"""What a price and a time may look like, and what each of them is. Exact or refused: never rounded, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketprism_api import reasons
from marketprism_api.reasons import Reason
from marketprism_consumer import times
from marketprism_consumer.errors import MessageError
from marketprism_consumer.ingest import values
from marketprism_consumer.ingest.values import decimal, epoch, micros, not_negative, positive, shown


def refusal(call: Callable[[], object]) -> Reason:
    with pytest.raises(MessageError) as caught:
        call()
    assert caught.value.field == "f"
    return caught.value.reason


# --- decimals -----------------------------------------------------------------------------------------------------------

E18, E28 = "0." + "0" * 17 + "1", "0." + "0" * 27 + "1"
NINES = "9" * 20 + "." + "9" * 18

DECIMALS = [
    ("112345.67000000", 18, "112345.67000000"),
    ("0", 18, "0"),
    ("-0", 18, "0"),
    ("-0.000", 18, "0"),
    ("0e9999", 18, "0"),
    ("007", 18, "7"),
    ("5.", 18, "5"),
    (".5", 18, "0.5"),
    ("-.5", 18, "-0.5"),
    ("6.11e-05", 18, "0.0000611"),
    ("6.11E-05", 18, "0.0000611"),
    ("1e19", 18, "1" + "0" * 19),
    ("1E+3", 18, "1000"),
    ("-1.50e2", 18, "-150"),
    (E18, 18, E18),
    (NINES, 18, NINES),
    (f"-{NINES}", 18, f"-{NINES}"),
    ("0." + "1" * 18 + "0" * 30, 18, "0." + "1" * 18),  # zeros at the end are no digits
    ("0" * 30 + "1", 18, "1"),
    ("1" + "0" * 30 + "e-30", 18, "1"),
    (E28, 28, E28),
    ("0.5399972399834399006394038364", 28, "0.5399972399834399006394038364"),
    ("9999999999.9999999999999999999999999999", 28, "9999999999.9999999999999999999999999999"),
]


@pytest.mark.parametrize(("text", "scale", "value"), DECIMALS)
def test_a_decimal_is_taken_exactly(text: str, scale: int, value: str) -> None:
    assert Decimal(decimal(text, "f", scale)) == Decimal(value)


NO_DECIMALS = [
    *("", " ", " 1.5", "1.5 ", "1.5\n", "1 000", "1_000", "1,234.5", "1'000", "１２", "١٢", "²", "½", "1．5", "−1"),
    *(
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "sNaN",
        "null",
        "true",
        "0x10",
        "1.2.3",
        ".",
        "-",
        "-.",
        "+1",
        "--1",
    ),
    *("e5", "1e", "1e+", "1e1.5", "1e99999", "$1", "1.5 USDT", "1\x00", "\ufeff1"),
]


@pytest.mark.parametrize("scale", [18, 28])
@pytest.mark.parametrize("text", NO_DECIMALS, ids=ascii)
def test_what_is_not_a_finite_decimal_number_is_refused(text: str, scale: int) -> None:
    assert refusal(lambda: decimal(text, "f", scale)) is reasons.BAD_DECIMAL


UNFIT = [
    ("1e400", 18),
    ("-1e400", 18),
    ("1e-400", 18),
    ("1" + "0" * 20, 18),
    ("1e20", 18),
    ("0." + "0" * 18 + "1", 18),
    ("0." + "0" * 17 + "15", 18),
    ("1234567890" * 4, 18),
    (E28, 18),
    ("1e10", 28),
    ("0." + "0" * 28 + "1", 28),
    ("1234567890.12345678901234567890123456789", 28),
]


@pytest.mark.parametrize(("text", "scale"), UNFIT)
def test_what_does_not_fit_the_column_is_refused_not_rounded(text: str, scale: int) -> None:
    assert refusal(lambda: decimal(text, "f", scale)) is reasons.DECIMAL_OUT_OF_RANGE


number_texts = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.decimals(-(10**20), 10**20, places=18).map(str),
    st.from_regex(r"-?[0-9]{0,24}(\.[0-9]{0,24})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.text("0123456789.-+eE_, ", max_size=24),
    st.text(max_size=8),
)


@given(number_texts, st.sampled_from([18, 28]))
@example("1" * 20 + "." + "1" * 18, 18)
@example("0." + "9" * 19, 18)
def test_a_decimal_is_pythons_decimal_of_it_exactly_or_refused(text: str, scale: int) -> None:
    try:
        value = Decimal(decimal(text, "f", scale))
    except MessageError:
        return
    with localcontext(prec=1000):
        assert value == Decimal(text)
        assert value == value.quantize(Decimal(1).scaleb(-scale))
        assert abs(value) < Decimal(10) ** (38 - scale)


@given(st.integers(-(10**38) + 1, 10**38 - 1), st.sampled_from([18, 28]))
def test_every_value_that_the_column_can_hold_is_taken(digits: int, scale: int) -> None:
    with localcontext(prec=100):
        value = Decimal(digits).scaleb(-scale)
        for text in (f"{value:f}", f"{value:e}", str(value)):
            assert Decimal(decimal(text, "f", scale)) == value


@given(st.integers(-(10**38) + 1, 10**38 - 1), st.sampled_from([18, 28]))
def test_the_result_is_plain_digits_that_any_reader_takes(digits: int, scale: int) -> None:
    with localcontext(prec=100):
        text = decimal(f"{Decimal(digits).scaleb(-scale):e}", "f", scale)
    whole, _, fraction = text.removeprefix("-").partition(".")
    assert whole.isdecimal()
    assert len(fraction) <= scale


SIGNS = [  # text, as a price, as a quantity
    ("1.5", True, True),
    ("1e-5", True, True),
    ("0", False, True),
    ("0.000", False, True),
    ("0e5", False, True),
    ("-0", False, True),
    ("-0.0", False, True),
    ("-1", False, False),
    ("-1e-18", False, False),
]


@pytest.mark.parametrize(("text", "price", "quantity"), SIGNS)
def test_prices_are_above_zero_and_quantities_not_below(text: str, price: bool, quantity: bool) -> None:
    for check, fine in ((positive, price), (not_negative, quantity)):
        if fine:
            assert Decimal(check(text, "f")) == Decimal(text)
        else:
            assert refusal(lambda check=check: check(text, "f")) is reasons.NEGATIVE_OR_ZERO


@given(number_texts)
def test_a_price_is_refused_or_the_decimal_itself(text: str) -> None:
    for check in (positive, not_negative):
        try:
            value = check(text, "f")
        except MessageError:
            continue
        assert Decimal(value) == Decimal(decimal(text, "f"))


# --- times --------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def empty_memo() -> Iterator[None]:
    yield
    forget()


def forget() -> None:
    values._seconds.clear()


AT = 1_758_700_551_000_000  # 2025-09-24 07:55:51 UTC, µs

TIMES = [
    ("2025-09-24 07:55:51.123", AT + 123_000),
    ("2025-09-24T07:55:51.123456+00:00", AT + 123_456),
    ("2025-09-24 07:55:51.120000+00:00", AT + 120_000),
    ("2025-09-24T07:55:51.123Z", AT + 123_000),
    ("2025-09-24T07:55:51.123456+00:00Z", AT + 123_456),
    ("2025-09-24T15:55:51.123456+08:00", AT + 123_456),
    ("2025-09-24T15:55:51+0800", AT),
    ("2025-09-24T02:25:51.5-05:30", AT + 500_000),
    ("2025-09-23 23:55:51-08:00", AT),
    ("2025-09-24 07:55:51", AT),
    ("2025-09-24T07:55:51", AT),
    ("2025-09-24T07:55:51.1", AT + 100_000),
    ("2025-09-24T07:55:51.123456789Z", AT + 123_456),
    ("2024-02-29 00:00:00.000", 1_709_164_800_000_000),
    ("1758700551", AT),
    ("1758700551.123456", AT + 123_456),
    ("1758700551123", AT + 123_000),
    ("1758700551123.5", AT + 123_500),
    ("1758700551123456", AT + 123_456),
    ("1758700551123456789", AT + 123_456),
    ("2009-01-01 00:00:00.000", values.EARLIEST),
    ("2099-12-31 23:59:59.999", values.LATEST - 1000),
]


@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_a_time_is_taken_in_each_of_its_forms(text: str, expected: int) -> None:
    assert micros(text, "f") == expected


@pytest.mark.parametrize("text", [text for text, _ in TIMES if text.replace(".", "").isdecimal()])
def test_an_epoch_is_the_same_as_number_and_as_digits(text: str) -> None:
    assert epoch(text, "f") == micros(text, "f")


ABSURD = {
    reasons.BAD_TIME: [
        *("2025-02-30 12:00:00.000", "2025-09-24 24:00:00.000", "2025-09-24 07:55:60.000", "2025-09-24 07:60:51.123"),
        *("2025-13-01 00:00:00.000", "2025-00-10 00:00:00.000", "0000-01-01 00:00:00.000", "2025-02-29 00:00:00.000"),
        *("2025-09-24", "2025-09-24 07:55", "07:55:51.123", "24.09.2025 07:55:51", "2025/09/24 07:55:51", "9/24/2025"),
        *("2025-09-24 07:55:51.", "2025-09-24 07:55:51.1234567890", "2025-9-24 07:55:51.123", "20250924T075551Z"),
        *("2025-09-24 07:55:51.123+15:00", "2025-09-24 07:55:51.123+08:60", "2025-09-24 07:55:51.123 UTC"),
        *("2025-09-24 07:55:51.123 CEST", " 2025-09-24 07:55:51.123", "2025-09-24 07:55:51.123\n", "2025-09-24x07:55:51.123"),
        *("２０２５-09-24 07:55:51.123", "", " ", "now", "today", "NaN", "null", "-1758700551", "+1758700551"),
        *("1.758700551e9", "1_758_700_551", "1758700551,5", "0x68d3a3c7", "1" * 21),
    ],
    reasons.TIME_OUT_OF_RANGE: [
        *("1969-12-31 23:59:59.000", "1970-01-01 00:00:00.000", "0001-01-01 00:00:00.000", "2299-01-01 00:00:00.000"),
        *("9999-12-31 23:59:59.999", "2008-12-31 23:59:59.999", "2100-01-01 00:00:00.000"),
        *("2009-01-01T07:00:00+08:00", "2099-12-31T23:00:00-08:00"),
        *("0", "1", "1969", "20250924", "1230767999", "4102444800", "4102444800000", "99999999999", "9" * 20),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in ABSURD.items() for text in texts])
def test_an_absurd_time_is_refused_and_refused_again(reason: Reason, text: str) -> None:
    for _ in range(2):
        assert refusal(lambda: micros(text, "f")) is reason


moments = st.datetimes(datetime(2009, 1, 2), datetime(2099, 12, 30))
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(moments, offsets, st.sampled_from(["", "Z"]), st.sampled_from("T "))
def test_an_offset_is_applied(moment: datetime, zone: timezone, z: str, between: str) -> None:
    utc = moment.replace(tzinfo=UTC)
    expected = (utc - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert micros(utc.astimezone(zone).isoformat(between, "microseconds") + z, "f") == expected
    assert micros(f"{expected}", "f") == micros(f"{expected}000", "f") == expected


@given(moments)
def test_iso_is_read_back_as_the_same_time(moment: datetime) -> None:
    at = micros(moment.isoformat(" ", "microseconds"), "f")
    assert micros(times.iso(at), "f") == at


time_texts = st.one_of(
    moments.map(lambda moment: moment.isoformat(" ", "milliseconds")),
    st.sampled_from([text for text, _ in TIMES] + [text for texts in ABSURD.values() for text in texts]),
    st.builds(
        "{}-{}-{} {}:{}:{}{}{}".format,
        st.sampled_from(["2025", "1969", "2299", "0001", "2009", "2100"]),
        st.sampled_from(["01", "02", "12", "13"]),
        st.sampled_from(["01", "29", "30", "31"]),
        st.sampled_from(["00", "23", "24"]),
        st.sampled_from(["00", "59", "60"]),
        st.sampled_from(["00", "59", "60"]),
        st.sampled_from(["", ".000", ".999", ".12Z", ",123", ".123456", ".1"]),
        st.sampled_from(["", "Z", "+08:00"]),
    ),
)


def answer(text: str) -> int | Reason:
    try:
        return micros(text, "f")
    except MessageError as refused:
        return refused.reason


@given(st.lists(time_texts, max_size=12))
def test_what_was_seen_before_never_changes_an_answer(texts: list[str]) -> None:
    fresh = []
    for text in texts:
        forget()
        fresh.append(answer(text))
    forget()
    assert [answer(text) for text in texts] == fresh
    assert [answer(text) for text in reversed(texts)] == fresh[::-1]
    # Pieces of different times put together are new texts: none may be taken because its pieces were.
    for mixed in (first[:cut] + second[cut:] for first in texts for second in texts for cut in (17, 20)):
        with_memo = answer(mixed)
        seconds = dict(values._seconds)
        forget()
        assert answer(mixed) == with_memo
        values._seconds.update(seconds)


# --- text ---------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=300))
def test_what_is_shown_is_one_line_of_printable_ascii_and_short(text: str) -> None:
    line = shown(text).replace("…", "")
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 110

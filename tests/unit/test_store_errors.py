"""Whatever goes wrong with ClickHouse is a StoreError that says where and, where it is known, why."""

from __future__ import annotations

import pytest

from marketprism_consumer.clickhouse.client import store_error
from marketprism_consumer.clickhouse.http_insert import judge
from marketprism_consumer.errors import Fault, StoreError

URL = "http://clickhouse:8123/path"


def judged(status: int, body: str, **headers: str) -> StoreError:
    found = judge(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
    assert found
    return store_error(found, URL)


@pytest.mark.parametrize("code", [516, 497, 193])
def test_a_login_that_is_refused_is_told_as_such_however_it_was_asked(code: int) -> None:
    error = judged(401, f"Code: {code}. DB::Exception: no.", X_ClickHouse_Exception_Code=str(code))
    assert (error.code, error.status) == (code, 0)
    assert str(error).startswith("MP4002 ClickHouseDenied: http://clickhouse:8123/path: ")
    assert str(store_error(error, URL)) == str(error), "said once"


def test_what_is_not_clickhouse_is_told_with_where_it_is() -> None:
    error = judged(502, "Bad Gateway")
    assert (str(error), error.code, error.status) == (f"{URL}: HTTP 502: Bad Gateway", 0, 502)
    assert error.reason.name == "NotClickHouse"


def test_a_code_is_found_in_the_text_where_headers_were_lost() -> None:
    error = judged(200, "Code: 241. DB::Exception: Memory limit exceeded.")
    assert (error.code, error.fault) == (241, Fault.PASSING)


def test_stored_is_an_empty_200_of_clickhouses_and_nothing_else() -> None:
    assert judge(200, {"X-ClickHouse-Summary": "{}"}, "") is None
    assert judge(200, {}, "") is not None
    assert judge(200, {"X-ClickHouse-Summary": "{}"}, "x") is not None
    too_large = judge(413, {}, "")
    assert too_large
    assert too_large.fault is Fault.TOO_LARGE

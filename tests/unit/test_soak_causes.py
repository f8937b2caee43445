"""Which errors of the operator a soak takes for its own doing, and which it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.e2e.test_soak import Happened, unexplained

pytestmark = pytest.mark.quick

AT = datetime(2026, 11, 26, 8, 0, 30, tzinfo=UTC).timestamp()
KILLED, CHART, STOPPED = "the_api_server_is_killed", "the_chart_goes_back_and_forth", "the_operator_is_stopped"
FORBIDDEN = (
    '"message":"deployments.apps is forbidden: User \\"system:serviceaccount:a:b\\" cannot list resource","code":403'
)
QUOTA = '"message":"pods \\"p\\" is forbidden: exceeded quota","code":403'


def error(*said: str) -> list[str]:
    head = "2026-11-26 08:00:30,123 ERROR reconcile of a/b failed; again in 2 s\n"
    return [
        head,
        "Traceback (most recent call last):\n",
        *(f"{line}\n" for line in said),
        "2026-11-26 08:00:31 INFO on\n",
    ]


def answer(code: int, body: str = "{}") -> list[str]:
    return error(
        f"kubernetes.aio.client.exceptions.ApiException: ({code})", "Reason: such", f"HTTP response body: {body}"
    )


@pytest.mark.parametrize(
    ("lines", "fault", "ours"),
    [
        (answer(503), KILLED, True),
        (answer(503), CHART, False),
        (answer(401), KILLED, True),
        (answer(401), STOPPED, False),
        (answer(500), STOPPED, False),
        (answer(403, "{" + FORBIDDEN + "}"), CHART, True),
        (answer(403, "{" + FORBIDDEN + "}"), STOPPED, False),
        (
            error(
                "kopf.APIForbiddenError: ('x is forbidden: User \"system:serviceaccount:a:b\" cannot', {'code': 403})"
            ),
            CHART,
            True,
        ),
        (answer(403, "{" + QUOTA + "}"), CHART, False),
        (answer(404, "404 page not found"), CHART, True),
        (answer(404, '{"message":"secrets \\"x\\" not found"}'), CHART, False),
        (answer(409), KILLED, False),
        (error("ValueError: 500 rows"), KILLED, False),
        (error("aiohttp.ClientConnectorError: Cannot connect to host"), STOPPED, True),
    ],
)
def test_an_error_is_explained_by_what_was_done(lines: list[str], fault: str, ours: bool) -> None:
    assert (unexplained(lines, [(fault, AT - 20, AT - 10)]) == []) == ours


@pytest.mark.parametrize(("start", "ours"), [(AT - 400, False), (AT - 60, True), (AT + 5, False)])
def test_and_only_then(start: float, ours: bool) -> None:
    happened: list[Happened] = [(KILLED, start, start + 10)]
    assert (unexplained(answer(503), happened) == []) == ours

"""Inserts that come late, twice, out of order or not at all, while processes come and go: one block is taken once."""

from __future__ import annotations

import signal
from random import Random

import pytest

from marketprism_consumer.ingest.dead_letters import CODE
from tests.faults import proxy as faults
from tests.faults.harness import VALID, World
from tests.faults.proxy import Again, Parking, Proxy
from tests.pipelines import trade
from tests.waiting import wait_for

ONE_TWO_FIVE = [1, 2, pytest.param(5, marks=pytest.mark.slow)]
TWO = [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(5, marks=pytest.mark.slow)]
ANOTHER, FOUR_OTHERS = 1, pytest.param(4, marks=pytest.mark.slow)
NOBODY_KNOWS = 77777


@pytest.mark.parametrize("processes", ONE_TWO_FIVE)
def test_parked_and_forwarded_later(proxied: World, proxy: Proxy, processes: int) -> None:
    """Some after they are taken no more, and each in another order than they were sent."""
    moments = Random(processes)
    parking = Parking(lambda: moments.uniform(4, VALID + 4))
    proxied.feed()
    proxied.several(processes)
    proxied.until_more()
    proxy.spoil(parking.fault, times=16)
    wait_for(lambda: proxy.hits == 16, "sixteen are parked")
    proxied.until_more()
    wait_for(lambda: parking.empty, "all have arrived")
    proxied.prove()


@pytest.mark.parametrize("processes", ONE_TWO_FIVE)
def test_sent_twice_sent_again_and_done_but_not_told(proxied: World, proxy: Proxy, processes: int) -> None:
    proxied.feed()
    proxied.several(processes)
    again = Again(3.0)
    for fault in (faults.sent_twice, again.fault, faults.done_and_504):
        proxy.spoil(fault, times=8)
        wait_for(lambda: proxy.hits == 8, "eight of them")
    proxied.until_more()
    wait_for(lambda: again.empty, "all have come again")
    proxied.prove()


@pytest.mark.parametrize("processes", ONE_TWO_FIVE)
def test_parked_and_then_refused_with_a_code_that_nobody_knows(proxied: World, proxy: Proxy, processes: int) -> None:
    """Such a code buries nothing, and nothing is sent in smaller pieces while the whole may arrive."""
    parking = Parking(lambda: VALID + 2)
    proxied.feed(types=["trade"])
    ones = proxied.several(processes)
    proxied.until_more()
    refused = faults.clickhouse_error(NOBODY_KNOWS, "NOBODY_KNOWS")
    proxy.spoil(faults.in_turn(parking.fault, *[refused] * 6), times=7)
    wait_for(lambda: proxy.hits == 7, "all of it")
    proxied.until_more()
    wait_for(lambda: parking.empty, "it has arrived")
    proxied.prove()
    assert all(one.metric("marketprism_dead_letters_total", reason="RowRefused") == 0 for one in ones)


@pytest.mark.parametrize("patience", ["hurried", pytest.param("drained", marks=pytest.mark.slow)])
@pytest.mark.parametrize("others", [ANOTHER, FOUR_OTHERS])
def test_sigterm_with_parked_inserts_and_another_takes_over_at_once(
    proxied: World, proxy: Proxy, others: int, patience: str
) -> None:
    direct = proxied.write_file("direct", clickhouse={**proxied.spec["clickhouse"], "url": proxied.clickhouse.url})
    parking = Parking()
    proxied.feed()
    (leaving,) = proxied.several(1)
    rest = [proxied.ingest(file=direct) for _ in range(others)]
    for one in rest:
        one.until_ready()
    proxied.until_more()
    proxy.spoil(parking.fault)
    wait_for(lambda: parking.parked >= 4, "inserts are parked")
    leaving.signal(signal.SIGTERM)
    if patience == "hurried":
        wait_for(lambda: leaving.status("trade").get("state") == "Stopping", "it drains")
        leaving.signal(signal.SIGTERM)
    assert leaving.ended() == 0
    wait_for(lambda: any(one.metric("marketprism_takeovers_total") for one in rest), "another takes over")
    proxied.loop.call(parking.let_go())
    proxied.until_more()
    wait_for(lambda: parking.empty, "all have arrived")
    proxied.prove()


@pytest.mark.parametrize("processes", TWO)
def test_refused_rows_and_a_process_killed_in_the_middle(world: World, processes: int) -> None:
    world.change("ALTER TABLE {hot}.trades ADD CONSTRAINT sane CHECK price < 1000000000")
    feed = world.feed()
    ones = world.several(processes)
    poison = []
    for count in range(1, 9):
        feed.until(count * 200)
        poison.append(world.send("trade.binance_spot.spot.BTC-USDT", trade(price="2000000000")))
        if count == 4:
            wait_for(lambda: ones[0].alarms("BlockSetAside"), "the first one is found")
            ones[0].kill()
            world.ingest()
    for seq in poison:
        headers = wait_for(lambda seq=seq: world.dead_letter_headers("MARKET_DATA", seq), f"the dead letter of {seq}")
        assert int(headers[CODE]) == 469
    world.until_more()
    world.prove()


def test_all_of_it_at_random(proxied: World, proxy: Proxy) -> None:
    """Parked, doubled, refused and cut, with two processes that are killed and started again."""
    moments = Random(7)
    parking, again = Parking(lambda: moments.uniform(0, VALID + 4)), Again(2.0)
    kinds: list[faults.Fault] = [parking.fault, again.fault, faults.sent_twice, faults.answer_lost, faults.request_cut]
    kinds += [faults.clickhouse_error(NOBODY_KNOWS, "NOBODY_KNOWS"), faults.forwarded, faults.forwarded]

    async def fault(exchange: faults.Exchange) -> None:
        await moments.choice(kinds)(exchange)

    proxied.feed()
    ones = proxied.several(2)
    proxy.spoil(fault)
    for count in range(1, 5):
        wait_for(lambda count=count: proxy.hits >= 25 * count, "some more of it")
        ones[count % 2].kill()
        ones[count % 2] = proxied.ingest()
    proxy.heal()
    proxied.until_more()
    wait_for(lambda: parking.empty and again.empty, "all have arrived")
    proxied.prove()

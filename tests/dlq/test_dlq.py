"""The dead letters against a real NATS and ClickHouse: listed, shown, replayed exactly once, purged."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from marketprism_api import reasons
from marketprism_api.data_types import BUILT_IN
from marketprism_api.load import load_pipeline
from marketprism_api.settings import effective
from marketprism_consumer.cli import app
from marketprism_consumer.clickhouse import schema
from marketprism_consumer.clickhouse.store import ClickHouseStore
from marketprism_consumer.errors import BrokerError, ReaderRunsError
from marketprism_consumer.ingest.dead_letters import DeadLetter
from marketprism_consumer.ingest.message import Message
from marketprism_consumer.ingest.record import dump
from marketprism_consumer.jetstream.graveyard import NatsGraveyard
from marketprism_consumer.operations.audit import audit
from marketprism_consumer.operations.dlq import DeadLetterStream, Letter, LetterFilter, Replay, code_of, printable
from tests.pipelines import Pipeline, trade
from tests.waiting import PATIENCE

NASTY = "O'Brien \U0001f980 \x1b[31m\u202e\x00\n`\"\\"


async def cli(pipeline: Pipeline, *arguments: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["dlq", *arguments, "-f", str(pipeline.file)])
    return result.exit_code, result.output


async def bury(pipeline: Pipeline, *payloads: bytes, subject: str = "trade.okx.spot.BTC-USDT") -> list[int]:
    """Messages that become dead letters; their sequences in the origin stream."""
    sent = [await pipeline.send(subject, payload) for payload in payloads]
    await pipeline.ingest()
    return sent


def encoded(**fields: Any) -> bytes:
    return msgspec.json.encode(trade(**fields))


def stream(pipeline: Pipeline) -> DeadLetterStream:
    return DeadLetterStream(pipeline.broker, pipeline.settings.dead_letters.stream)


async def letters(pipeline: Pipeline, wanted: LetterFilter | None = None) -> list[Letter]:
    return [letter async for batch in stream(pipeline).batches(wanted or LetterFilter()) for letter in batch]


async def mended(pipeline: Pipeline, payload: bytes, seq: int = 1) -> None:
    """As if a newer decoder took the message: the dead letter `seq` again, with a payload that is a row."""
    found = await stream(pipeline).get(seq)
    assert found is not None
    await stream(pipeline).delete([found])
    raw = f"marketprism.dlq.MARKETPRISM_DLQ.trade.MARKET_DATA.mended.{found.origin()[1]}"
    await pipeline.client.jetstream().publish(raw, payload, headers=found.headers)


def tiers(pipeline: Pipeline) -> list[ClickHouseStore]:
    return [ClickHouseStore(pipeline.clickhouse, database) for database in (pipeline.hot, pipeline.cold)]


@pytest.fixture
def replay(pipeline: Pipeline) -> Any:
    return Replay(
        pipeline.broker, pipeline.records, stream(pipeline), tiers(pipeline), BUILT_IN, pipeline.settings.messages
    )


async def test_no_stream_is_no_dead_letters(pipeline: Pipeline) -> None:
    assert await cli(pipeline, "list") == (0, "no dead letters\n")
    assert await cli(pipeline, "replay") == (0, "replayed 0, stay 0\n")
    assert await cli(pipeline, "purge", "--yes") == (0, "no dead letters\n")
    assert await cli(pipeline, "show", "1") == (1, "there is no dead letter 1\n")


async def test_list_and_show(pipeline: Pipeline) -> None:
    await bury(
        pipeline, b"\x1b[2Jnot JSON", encoded(price="NaN"), encoded(price="1e400"), encoded(price=None, symbol=NASTY)
    )

    code, output = await cli(pipeline, "list")
    assert code == 0
    assert "\x1b" not in output
    assert output.index("MP2201") < output.index("MP2101")  # the newest first
    assert "        1  trade  MP2203 BadDecimal" in output

    code, output = await cli(pipeline, "list", "--limit", "1", "--order", "oldest", "-o", "json")
    told = json.loads(output)
    assert (told["total"], len(told["deadLetters"]), len(told["counts"])) == (4, 1, 4)
    assert told["deadLetters"][0] | {"reason": "MP2101 BadJSON", "streamSeq": "1", "seq": 1} == told["deadLetters"][0]
    code, output = await cli(
        pipeline, "list", "--reason", "baddecimal", "--type", "trade", "--since", "1h", "-o", "ndjson"
    )
    assert [json.loads(line)["field"] for line in output.splitlines()] == ["price"]
    assert (await cli(pipeline, "list", "--type", "orderbook"))[1] == "no dead letters\n"
    code, output = await cli(pipeline, "list", "--reason", "nonsense")
    assert (code, "MP2203 BadDecimal" in output) == (2, True)
    assert (await cli(pipeline, "list", "--since", "soon"))[0] == 2

    code, output = await cli(pipeline, "show", "1")
    assert "hint: look at the publisher" in output
    assert "docs: docs/reference/reasons.md#mp2101" in output
    assert output.endswith("\n\\x1b[2Jnot JSON\n")
    shown = subprocess.run(
        [sys.executable, "-m", "marketprism_consumer.cli", "dlq", "show", "1", "--raw", "-f", str(pipeline.file)],
        capture_output=True, check=True, timeout=PATIENCE,
    )  # fmt: skip
    assert shown.stdout == b"\x1b[2Jnot JSON"


async def test_what_is_a_row_now_is_replayed_once_and_the_rest_stays(pipeline: Pipeline, replay: Replay) -> None:
    good, bad = await bury(pipeline, b"was not JSON", b"is not JSON")
    await mended(pipeline, encoded(symbol=NASTY, price="0.000000000000000001"))
    assert await cli(pipeline, "replay", "--dry-run") == (
        1, f"stays: 2 trade: {(await replay.decode(await letters(pipeline)))[1][0].why}\nwould be replayed 1, stay 1\n",
    )  # fmt: skip
    assert await pipeline.count("trades") == 0

    code, output = await cli(pipeline, "replay", "-o", "json")
    told = json.loads(output)
    assert (code, told["replayed"], told["stays"]) == (1, 1, 1)
    assert told["still"][0]["streamSeq"] == str(bad)
    rows = await pipeline.clickhouse.query(f"SELECT _seq, symbol, toString(price) FROM {pipeline.hot}.trades")
    assert rows == [(good, NASTY, "0.000000000000000001")]
    assert [letter.origin()[1] for letter in await letters(pipeline)] == [bad]

    # Again: nothing is left to replay but what can't be.
    assert (await cli(pipeline, "replay", "--seq", "3"))[1] == "replayed 0, stay 0\n"
    assert await pipeline.count("trades") == 1
    report = await audit(pipeline.settings, pipeline.store, pipeline.client, data_types=["trade"])
    assert report.holds, report["trade"].findings


@pytest.mark.parametrize("moved", [False, True], ids=["still in hot", "moved to cold since"])
async def test_killed_between_insert_and_delete_it_is_still_once(
    pipeline: Pipeline, replay: Replay, moved: bool
) -> None:
    await bury(pipeline, b"was not JSON")
    await mended(pipeline, encoded())
    entries, stay = await replay.decode(await letters(pipeline))
    assert [outcome.state for outcome in await replay.store(entries)] == ["replayed"]
    assert not stay
    if moved:
        await pipeline.change("INSERT INTO {cold}.trades SELECT * FROM {hot}.trades")
        await pipeline.change("TRUNCATE TABLE {hot}.trades")

    assert (await cli(pipeline, "replay")) == (0, "replayed 1 (1 of them were stored before), stay 0\n")
    assert await pipeline.count("trades") + await pipeline.count("trades", "cold") == 1
    assert await letters(pipeline) == []


async def test_the_same_batch_inserted_twice_at_once_is_once(pipeline: Pipeline, replay: Replay) -> None:
    await bury(pipeline, b"was not JSON")
    await mended(pipeline, encoded())
    entries, _ = await replay.decode(await letters(pipeline))
    await asyncio.gather(replay.store(entries), replay.store(entries))
    assert await pipeline.count("trades") == 1


async def test_what_was_replayed_and_deleted_by_hand_is_replayed_again(pipeline: Pipeline, replay: Replay) -> None:
    """Its token is still known to ClickHouse, which would answer and store nothing."""
    await bury(pipeline, b"was not JSON")
    await mended(pipeline, encoded())
    entries, _ = await replay.decode(await letters(pipeline))
    for _ in range(3):
        assert [outcome.state for outcome in await replay.store(entries)] == ["replayed"]
        assert await pipeline.count("trades") == 1
        await pipeline.change("ALTER TABLE {hot}.trades DELETE WHERE 1")


async def test_a_letter_whose_block_is_not_done_stays(pipeline: Pipeline, replay: Replay) -> None:
    await bury(pipeline, b"was not JSON")
    await mended(pipeline, encoded())
    found = await pipeline.lane()
    assert found.id
    await pipeline.records.write(found.key, dump(found.id.empty_record()), found.revision)
    (stays,) = await replay.run(await letters(pipeline))
    assert (stays.state, "not done with its block" in stays.why) == ("stays", True)
    await pipeline.forget_records()
    (stays,) = await replay.run(await letters(pipeline))
    assert (stays.state, await pipeline.count("trades")) == ("stays", 0)
    # Of a stream that is gone nobody has anything in hand.
    await pipeline.client.jetstream().delete_stream("MARKET_DATA")
    (done,) = await replay.run(await letters(pipeline))
    assert (done.state, await pipeline.count("trades")) == ("replayed", 1)


async def test_only_one_replay_at_a_time(pipeline: Pipeline) -> None:
    await bury(pipeline, b"not JSON")
    first = stream(pipeline).batches(LetterFilter(), alone=True)
    assert len(await anext(first)) == 1
    with pytest.raises(ReaderRunsError):
        await anext(stream(pipeline).batches(LetterFilter(), alone=True))
    assert (await cli(pipeline, "replay"))[0] == 1
    await first.aclose()
    assert (await cli(pipeline, "replay"))[1].endswith("replayed 0, stay 1\n")


async def dead_letter_stream(pipeline: Pipeline, **config: Any) -> str:
    name = pipeline.settings.dead_letters.stream
    config = {"name": name, "subjects": [f"marketprism.dlq.{name}.>"], **config}
    await pipeline.broker.api(f"STREAM.CREATE.{name}", config)
    return name


async def test_a_stream_of_that_name_that_does_not_take_them_is_told(pipeline: Pipeline) -> None:
    name = await dead_letter_stream(pipeline, subjects=["letters.>"])
    letter = DeadLetter(Message(7, 1, 0, "trade.okx.spot.BTC-USDT", b""), "trade", "MARKET_DATA@now", reasons.BAD_JSON)
    with pytest.raises(BrokerError, match=r"MP3009.*takes letters\.>, not marketprism\.dlq\.MARKETPRISM_DLQ\.>"):
        await NatsGraveyard(pipeline.broker, name, 0).bury(letter)
    told = await asyncio.to_thread(CliRunner().invoke, app, ["check", "-f", str(pipeline.file)])
    assert "takes letters.>, not marketprism.dlq.MARKETPRISM_DLQ.>" in " ".join(told.output.split())


@pytest.mark.parametrize("round", range(5))
async def test_first_letters_at_the_same_moment_make_the_stream_once(pipeline: Pipeline, round: int) -> None:
    """Each lane makes it where it is missing; who comes second finds it, also with another pipeline's settings."""
    name = pipeline.settings.dead_letters.stream

    async def first(seq: int) -> None:
        message = Message(seq, 1, 0, "trade.okx.spot.BTC-USDT", b"")
        letter = DeadLetter(message, "trade", "MARKET_DATA@now", reasons.BAD_JSON)
        await asyncio.sleep(seq / 5_000)  # some ask before it is there, some while it is made, some after
        await NatsGraveyard(pipeline.broker, name, max_age=3600 * (seq % 2 + 1)).bury(letter)

    await asyncio.gather(*map(first, range(1, 31)))
    assert (await pipeline.broker.stream(name)).messages == 30


async def test_two_pipelines_of_an_account_have_each_their_own(pipeline: Pipeline, tmp_path: Path) -> None:
    """The same messages, into other tables; what the first can't store is no business of the second's."""
    file, databases = tmp_path / "other.yaml", {"CLICKHOUSE_HOT_DB": "other_hot", "CLICKHOUSE_COLD_DB": "other_cold"}
    file.write_text(pipeline.file.read_text().replace("deadLetters: {", "deadLetters: {stream: OTHER_DLQ, "))
    environ = {**pipeline.environ, **databases}
    other = replace(pipeline, file=file, environ=environ, settings=effective(load_pipeline(file), environ))
    await schema.apply(other.clickhouse, other.settings)
    await other.begin()
    await bury(pipeline, b"not JSON", encoded(price="NaN"))
    await other.ingest()
    for each in (pipeline, other):
        found = await letters(each)
        assert [one.code for one in found] == [reasons.BAD_JSON.code, reasons.BAD_DECIMAL.code]
        report = await audit(each.settings, each.store, each.client, data_types=["trade"])
        assert report.holds, report["trade"].findings
    await stream(other).delete(await letters(other))
    assert (len(await letters(pipeline)), await letters(other)) == (2, [])
    await pipeline.client.jetstream().delete_stream("OTHER_DLQ")


@pytest.mark.parametrize("short", [0, 1, 200, 400, 600, 900])
async def test_a_payload_as_large_as_nats_takes_is_kept_whole_though_its_stream_lets_it_go(
    pipeline: Pipeline, short: int
) -> None:
    payload = b"x" * (pipeline.client.max_payload - short)
    (seq,) = await bury(pipeline, payload)
    await pipeline.client.jetstream().delete_msg("MARKET_DATA", seq)
    (letter,) = await letters(pipeline)
    assert letter.code == reasons.BAD_JSON.code
    assert await stream(pipeline).whole(letter) == payload
    code, shown = await cli(pipeline, "show", str(letter.seq), "--raw")
    assert (code, shown.encode()) == (0, payload)


async def test_a_dead_letter_stream_of_small_messages_has_it_in_many_parts(pipeline: Pipeline, replay: Replay) -> None:
    name = await dead_letter_stream(pipeline, max_msg_size=2000, storage="memory")
    payload = encoded(price="NaN", note="x" * 20_000)
    await bury(pipeline, payload)
    (letter,) = await letters(pipeline)
    assert len(letter.parts) > 5
    _, (stays,) = await replay.decode([letter])
    assert "price" in stays.why, "it is decoded whole: not bad JSON"
    assert (await cli(pipeline, "list"))[1].count("MP2203") == 2, "one letter, and its count"
    assert await stream(pipeline).get(1) is None, "a part is no letter"
    report = await audit(pipeline.settings, pipeline.store, pipeline.client, data_types=["trade"])
    assert report.holds, report["trade"].findings
    await pipeline.broker.api(f"STREAM.MSG.DELETE.{name}", {"seq": 3})
    _, (stays,) = await replay.decode([letter])
    assert "the rest of its payload is gone" in stays.why
    assert await cli(pipeline, "purge", "--yes") == (0, "deleted 1\n")
    assert (await pipeline.broker.stream(name)).messages == 0


async def test_a_letter_that_was_cut_off_between_its_parts_is_written_to_its_end(pipeline: Pipeline) -> None:
    """The same parts, and one letter."""
    name = await dead_letter_stream(pipeline, max_msg_size=2000, storage="memory")
    message = Message(7, 1_758_700_551_000_000, 0, "trade.okx.spot.BTC-USDT", bytes(range(256)) * 20)
    letter = DeadLetter(message, "trade", "MARKET_DATA@now", reasons.BAD_JSON)
    await NatsGraveyard(pipeline.broker, name, 0).bury(letter)
    whole = await pipeline.broker.stream(name)
    await pipeline.broker.api(f"STREAM.MSG.DELETE.{name}", {"seq": whole.last_seq})
    await pipeline.broker.api(f"STREAM.MSG.DELETE.{name}", {"seq": 2})
    for _ in range(2):
        await NatsGraveyard(pipeline.broker, name, 0).bury(letter)
        (found,) = await letters(pipeline)
        assert await stream(pipeline).whole(found) == message.payload
    assert (await pipeline.broker.stream(name)).messages == whole.messages


async def test_purge_asks_and_says_how_many(pipeline: Pipeline) -> None:
    await bury(pipeline, b"not JSON", b"[]", encoded(price="-1"))
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["dlq", "purge", "-f", str(pipeline.file)], input="n\n"
    )  # fmt: skip
    assert (result.exit_code, "delete 3 dead letters for good?" in result.output) == (1, True)
    assert len(await letters(pipeline)) == 3
    assert await cli(pipeline, "purge", "--older-than", "1h", "--yes") == (0, "no dead letters\n")
    assert await cli(pipeline, "purge", "--reason", "NotAnObject", "--yes") == (0, "deleted 1\n")
    assert await cli(pipeline, "purge", "--yes") == (0, "deleted 2\n")
    assert await letters(pipeline) == []


def test_reasons_by_code_or_name() -> None:
    assert code_of("mp2203") == code_of("BadDecimal") == "MP2203"
    with pytest.raises(ValueError, match="MP2203 BadDecimal"):
        code_of("x")


def test_nothing_printed_steers_a_terminal() -> None:
    assert printable("a\x1b[2J\u202e\r\n\x00é\U0001f980'") == "a\\x1b[2J\\u202e\\r\\n\\x00é\U0001f980'"

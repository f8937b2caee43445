"""What the consumer does for each message, without servers: bytes as nats-server sends them are cut, decoded, collected, and made
into a block.

    python -m bench.workload DATA_TYPE

Says first where the code is that it measures; then does the same work once for each line on stdin, and prints how much CPU a message
took [µs, user and system].
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from random import Random

import marketprism_consumer
from bench.__main__ import MAKE
from marketprism_api.data_types import BUILT_IN
from marketprism_consumer.ingest import frames
from marketprism_consumer.ingest.batch import Batch, BatchBounds, Batcher
from marketprism_consumer.ingest.columns import columnar
from marketprism_consumer.ingest.decode import USUAL, Decoder
from marketprism_consumer.ingest.decode_fast import fast_decoder
from marketprism_consumer.ingest.encode import Block
from marketprism_consumer.schema.tables import BY_DATA_TYPE

MESSAGES = {"trade": 20_000, "orderbook": 400}
ARRIVED = 1_758_697_200_000_000_000
NEVER = 1 << 31


def recorded(data_type: str) -> bytes:
    random, count = Random(7), MESSAGES[data_type]
    made = []
    for number in range(1, count + 1):
        subject, payload = MAKE[data_type](number, random)
        reply = f"$JS.ACK.BENCH.reader.1.{number}.{number}.{ARRIVED + number * 1000}.{count - number}"
        made.append(f"MSG {subject} 1 {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")
    return b"".join(made)


class Workload:
    """As `ingest/work.py` does it."""

    def __init__(self, data_type: str) -> None:
        declaration = BUILT_IN[data_type]
        self.table = BY_DATA_TYPE[data_type]
        self.count = MESSAGES[data_type]
        self.data = recorded(data_type)
        self.bounds = BatchBounds(self.count, 1.0, 2 * self.count, 1 << 40)
        self.columnar = columnar(declaration)
        self.fast, self.decode = fast_decoder(declaration, USUAL), Decoder(declaration, USUAL)

    def batch(self) -> Batch:
        batcher, at = Batcher(self.bounds), 0
        while at < len(self.data):
            front = frames.cut(self.data, at)
            at, messages = front.end, front.messages
            assert messages is not None
            columns, others = self.columnar(messages) if self.columnar else (None, ())
            if columns is not None:
                assert not others
                batcher.add_run(columns, [], [], 0.0)
                continue
            for message in messages:
                row = self.fast(message.payload, message.arrived) if self.fast else None
                batcher.add(message, row or self.decode(message.subject, message.payload, message.arrived), 0.0)
        return batcher.take(0.0)

    def __call__(self) -> int:
        """Bytes of the block."""
        batch = self.batch()
        assert batch.stored == self.count
        seqs = [message.seq for message in batch.messages]
        block = Block(self.table, batch.rows, seqs, ["BENCH"] * len(seqs), "token", batch.columns, "BENCH")
        return sum(map(len, block.expiring(NEVER)))


def main() -> None:
    work = Workload(sys.argv[1])
    work()
    print(Path(marketprism_consumer.__file__).resolve().parent, flush=True)
    for _ in sys.stdin:
        gc.collect()
        begun = time.process_time()
        work()
        print((time.process_time() - begun) / work.count * 1e6, flush=True)


if __name__ == "__main__":
    main()

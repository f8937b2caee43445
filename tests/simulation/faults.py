"""What goes wrong: each is drawn, and heals by itself or when all faults are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.clickhouse import Server
    from tests.simulation.world import World


def heal(world: World) -> None:
    """Nothing new goes wrong from here on; what is on its way still arrives."""
    nats, clickhouse = world.nats, world.clickhouse
    nats.lost_answers = clickhouse.lost_answers = clickhouse.parked = clickhouse.repeats = world.stream.lossy = 0.0
    world.stream.catch_up()
    world.refused_letters = world.bucket.late = 0.0
    clickhouse.slow = 0.01
    clickhouse.trouble = []
    for server in clickhouse.servers:
        clickhouse.restart(server)
    nats.leads = True
    if not nats.up:
        nats.restart()
    if not world.stream.exists:
        world.stream.create()


# --- processes --------------------------------------------------------------------------------------------------------


def kill_consumer(world: World) -> None:
    if process := world.some():
        world.kill(process)


def freeze_consumer(world: World) -> None:
    if process := world.some():
        world.freeze(process)


def replace_frozen_consumer(world: World) -> None:
    """Its node is taken for lost: another takes its place, and it goes on later."""
    if process := world.some():
        world.freeze(process)
        if len([each for each in world.processes if each.alive]) < 6:
            world.start()


def terminate_consumer(world: World) -> None:
    if process := world.some():
        world.terminate(process)


# --- NATS -------------------------------------------------------------------------------------------------------------


def restart_nats(world: World) -> None:
    if world.nats.up:
        world.tell("NATS is killed")
        world.nats.kill()
        world.stream.lose_readers()
        world.after(world.random.choice((0.5, 3, world.valid)), _nats_is_back, world)


def _nats_is_back(world: World) -> None:
    if not world.nats.up:
        world.tell("NATS is back")
        world.nats.restart()


def cut_off_consumer(world: World) -> None:
    if process := world.some():
        world.tell(f"{process.name} is cut off from NATS")
        world.ingests[process]  # it has a connection
        for connection in world.nats.connections:
            if connection.process is process:
                connection.breaks()


def step_down(world: World) -> None:
    """Another server leads: for a moment there is no answer, and consumers in memory are gone."""
    if world.nats.serves:
        world.tell("the leader steps down")
        world.stream.lose_readers(world.random.choice((b"", b"409 Leadership Change", b"409 Server Shutdown")))
        world.nats.leads = False
        world.after(world.random.choice((0.0, 0.5, 4.0)), _lead, world)


def _lead(world: World) -> None:
    world.nats.leads = True


def stop_reader(world: World) -> None:
    world.tell("a reader falls silent")
    world.stream.stop_reader()


def delete_readers(world: World) -> None:
    world.tell("the readers are deleted")
    world.stream.lose_readers(world.random.choice((b"", b"409 Consumer Deleted")))


# --- the record -------------------------------------------------------------------------------------------------------


def delete_record(world: World) -> None:
    if world.nats.serves:
        world.tell("the record is deleted")
        world.bucket.delete_record()
        world.record_lost = True


def make_bucket_anew(world: World) -> None:
    if world.nats.serves:
        world.tell("the bucket is made anew")
        world.bucket.make_anew()
        world.record_lost = True


def set_record_back(world: World) -> None:
    """A power cut of the only server. (A cluster's bucket that is set back is not covered.)"""
    if not world.nats.cluster and world.nats.up:
        restart_nats(world)
        _set_back(world)


def _set_back(world: World) -> None:
    world.tell("the record is set back")
    world.bucket.set_back()
    world.record_lost = True


# --- the stream -------------------------------------------------------------------------------------------------------


def set_stream_back(world: World) -> None:
    """A power cut: its end is lost; and perhaps the record's, too."""
    if not world.nats.cluster and world.nats.up and world.stream.exists:
        restart_nats(world)
        world.tell("the stream is set back")
        world.stream.set_back(world.random.randint(1, 20))
        if world.random.random() < 0.3:
            _set_back(world)


def recreate_stream(world: World) -> None:
    if world.nats.serves and world.stream.exists:
        world.tell("the stream is deleted")
        world.stream.delete()
        world.after(world.random.choice((0.0, 0.1, 3.0)), _create_stream, world)


def _create_stream(world: World) -> None:
    if not world.stream.exists:
        world.tell("the stream is made anew")
        world.stream.create()


def discard(world: World) -> None:
    world.tell("the stream discards its oldest messages")
    world.stream.discard(world.random.randint(1, 30))


def discard_anywhere(world: World) -> None:
    world.tell("the stream discards messages anywhere")
    world.stream.discard_anywhere(world.random.randint(1, 10))


# --- ClickHouse -------------------------------------------------------------------------------------------------------


def kill_clickhouse(world: World) -> None:
    server = world.random.choice(world.clickhouse.servers)
    if server.up:
        world.tell(f"{server.name} is killed")
        world.clickhouse.kill(server)
        world.after(world.random.choice((0.2, 2, 25)), _clickhouse_is_back, world, server)


def _clickhouse_is_back(world: World, server: Server) -> None:
    world.tell(f"{server.name} is back")
    world.clickhouse.restart(server)


def trouble(world: World) -> None:
    world.clickhouse.trouble = world.random.choice(([252, 241], [60, 516], [77777], [77777, 0], [242, 0]))
    world.tell(f"ClickHouse is in trouble: {world.clickhouse.trouble}")
    world.after(world.random.choice((1, 20)), _trouble_is_over, world)


def _trouble_is_over(world: World) -> None:
    world.clickhouse.trouble = []


FAULTS = (
    kill_consumer, kill_consumer, freeze_consumer, freeze_consumer, replace_frozen_consumer, terminate_consumer,
    restart_nats, cut_off_consumer, step_down, stop_reader, delete_readers,
    delete_record, make_bucket_anew, set_record_back, set_record_back,
    set_stream_back, set_stream_back, recreate_stream, discard, discard_anywhere,
    kill_clickhouse, kill_clickhouse, trouble, trouble,
)  # fmt: skip

"""The lane's record: whatever steps are taken, claims follow each other without a gap, and what is done stays done."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from marketprism_consumer.ingest.record import (
    VERSION,
    Claim,
    Cut,
    Record,
    claimed,
    cut_next,
    dump,
    heard,
    held_back,
    lane_key,
    load,
    new_epoch,
    nothing_left,
    own,
    record_done,
    recovered,
    released,
    reset,
    set_aside,
    taken_over,
)

EMPTY = Record("MARKET_DATA", "2025-01-01T00:00:00Z", "trade.>", "2b1c", write="a")
OWNERS = st.sampled_from(("one", "two"))
A_FEW = st.integers(0, 4)


def cut_to(end: int, *, epoch: int = 0, token: str = "t") -> Cut:
    return Cut(end, end * 10, 60, epoch, 1, token)


class Lane(RuleBasedStateMachine):
    """Two processes that take any step on any claim. The stream's message at `n` arrived at `10 n`."""

    def __init__(self) -> None:
        super().__init__()
        self.record = EMPTY
        self.last = 0
        self.names = 0

    def name(self) -> str:
        self.names += 1
        return str(self.names)

    def pick(self, data: st.DataObject) -> Claim:
        assume(self.record.claims)
        return data.draw(st.sampled_from(self.record.claims))

    def take(self, after: Record | None) -> None:
        """None is a step that can't be taken."""
        if after is None:
            return
        before, self.record = self.record, after
        for seq in range(self.last + 1):
            assert after.is_done(seq) or not before.is_done(seq)
        assert after.done >= before.done
        assert after.seen >= before.seen

    @initialize(last=st.integers(0, 12))
    def holds(self, last: int) -> None:
        self.last = last

    @rule(more=A_FEW)
    def is_published(self, more: int) -> None:
        self.last += more

    @rule(owner=OWNERS, chunk=st.none() | A_FEW)
    def claims(self, owner: str, chunk: int | None) -> None:
        before = self.record
        after = claimed(before, self.name(), owner, None if chunk is None else before.end + chunk)
        assert (after is None) == (before.has_tail or chunk == 0)
        self.take(after)

    @rule(data=st.data(), owner=OWNERS)
    def takes_over(self, data: st.DataObject, owner: str) -> None:
        claim = self.pick(data)
        after = taken_over(self.record, claim, owner)
        assert after
        self.take(after)
        assert own(self.record, claim.id, owner) or claim.finished
        assert taken_over(self.record, claim, owner) is None  # seen before; somebody was first

    @rule(data=st.data(), owner=OWNERS, more=st.integers(-1, 6), beyond=st.none() | st.integers(-2, 6))
    def cuts(self, data: st.DataObject, owner: str, more: int, beyond: int | None) -> None:
        before, claim = self.record, self.pick(data)
        cut = cut_to(min(claim.done + more, self.last), epoch=0 if claim.after is None else 1, token=self.name())
        end = None if beyond is None else cut.end + beyond
        after = cut_next(before, claim.id, owner, claim.done, cut, end=end)
        fits = claim.done < cut.end and (claim.end is None or cut.end <= claim.end)
        assert (after is not None) == (claim.owner == owner and claim.cut is None and fits)
        self.take(after)
        if after:
            changed = after.claim(claim.id)
            assert changed
            assert changed.cut == cut
            may_move = claim == before.claims[-1] and claim.after is None and (end is None or end >= cut.end)
            assert changed.end == (end if may_move else claim.end)

    @rule(data=st.data(), owner=OWNERS)
    def is_done(self, data: st.DataObject, owner: str) -> None:
        claim = self.pick(data)
        assume(claim.cut)
        assert claim.cut
        after = record_done(self.record, claim.id, owner, claim.cut)
        assert (after is not None) == (claim.owner == owner)
        self.take(after)
        assert after is None or all(after.is_done(seq) for seq in range(claim.start, claim.cut.end + 1))

    @rule(data=st.data(), owner=OWNERS, to=st.integers(0, 12))
    def finds_nothing(self, data: st.DataObject, owner: str, to: int) -> None:
        claim = self.pick(data)
        to = min(to, self.last)
        after = nothing_left(self.record, claim.id, owner, claim.done, (to, to * 10))
        assert (after is not None) == (claim.owner == owner and claim.cut is None and to >= claim.done)
        self.take(after)
        if after:
            assert after.mark
            assert after.mark[0] >= to

    @rule(data=st.data(), owner=OWNERS)
    def begins_an_epoch(self, data: st.DataObject, owner: str) -> None:
        claim = self.pick(data)
        assume(claim.cut)
        assert claim.cut
        after = new_epoch(
            self.record, claim.id, owner, claim.cut, mark=claim.cut.mark, until=120, rules=2, token=self.name()
        )
        assert (after is not None) == (claim.owner == owner)
        self.take(after)
        if after:
            assert record_done(after, claim.id, owner, claim.cut) is None  # the earlier one is nobody's any more

    @rule(data=st.data(), owner=OWNERS)
    def sets_aside(self, data: st.DataObject, owner: str) -> None:
        before, claim = self.record, self.pick(data)
        rest = self.name()
        after = set_aside(before, claim.id, owner, rest)
        assert (after is not None) == (claim.owner == owner and claim.cut is not None)
        self.take(after)
        if after and claim.cut:
            aside, behind = after.claim(claim.id), after.claim(rest)
            assert aside
            assert (aside.cut, aside.end) == (claim.cut, claim.cut.end)
            assert (behind is None) == (claim.end == claim.cut.end)
            if behind:
                assert (behind.end, behind.owner, behind.after) == (claim.end, owner, claim.after)

    @rule(data=st.data(), owner=OWNERS)
    def holds_back(self, data: st.DataObject, owner: str) -> None:
        before, claim = self.record, self.pick(data)
        assume(claim.cut)
        assert claim.cut
        earlier, new = data.draw(st.sampled_from(before.claims)), self.name()
        after = held_back(before, claim.id, owner, claim.cut, earlier.id, new)
        assert (after is not None) == (claim.owner == owner and claim.after is None)
        self.take(after)
        if after:
            held = after.claim(new) or after.claim(earlier.id)
            assert held
            assert held.waits
            assert held.end == claim.cut.end
            assert held.done <= claim.done
            assert held.after
            assert held.after >= claim.cut.until
            assert not any(after.is_done(seq) for seq in range(claim.done + 1, claim.cut.end + 1))

    @rule(owner=OWNERS)
    def beats(self, owner: str) -> None:
        self.take(heard(self.record, owner))

    @rule(owner=OWNERS)
    def ends(self, owner: str) -> None:
        self.take(released(self.record, owner))
        assert all(claim.owner != owner for claim in self.record.claims)

    @rule(after=st.integers(0, 200))
    def is_recovered(self, after: int) -> None:
        before = self.record
        self.take(recovered(before, after, self.last, self.name(), everything=False))
        self.is_in_doubt(after)
        for claim in self.record.claims:
            was = before.claim(claim.id)
            if claim.cut and was and was.cut:
                assert claim.cut.epoch > was.cut.epoch
                assert claim.cut.until >= max(after, was.cut.until)

    @rule(after=st.integers(0, 200))
    def stream_is_set_back(self, after: int) -> None:
        before = self.record
        self.record = recovered(before, after, self.last, self.name(), everything=True)
        assert (self.record.done, self.record.mark) == (0, None)
        assert self.record.generation == before.generation + 1
        self.is_in_doubt(after)

    @rule(after=st.integers(0, 200), to=st.integers(0, 12))
    def is_reset(self, after: int, to: int) -> None:
        before = self.record
        self.record = reset(before, to, after, self.last, self.name())
        assert self.record.done == min(to, self.last)
        assert self.record.mark == before.mark
        self.is_in_doubt(after)

    def is_in_doubt(self, after: int) -> None:
        """All that is not done, to the stream's end."""
        assert self.record.end >= self.last
        assert not self.record.has_tail
        assert (
            all(claim.owner == "" and claim.after and claim.after >= after for claim in self.record.claims) or not after
        )

    @invariant()
    def claims_follow_each_other(self) -> None:
        record, end = self.record, self.record.done
        for claim in record.claims:
            assert claim.start == end
            assert claim.start <= claim.done <= claim.position
            if claim.end is None:
                assert claim is record.claims[-1]
            else:
                assert claim.position <= claim.end
                end = claim.end
        assert record.end == (record.claims[-1].position if record.has_tail else end)
        assert len({claim.id for claim in record.claims}) == len(record.claims)

    @invariant()
    def a_finished_front_is_gone(self) -> None:
        assert not self.record.claims or not self.record.claims[0].finished

    @invariant()
    def it_knows_of_no_more_than_there_is(self) -> None:
        assert self.record.seen <= self.last

    @invariant()
    def the_untouched_is_neither_done_nor_cut_nor_in_doubt(self) -> None:
        record = self.record
        for seq in range(1, self.last + 3):
            untouched = any(start < seq and (end is None or seq <= end) for start, end in record.untouched)
            of = next(
                (each for each in record.claims if each.start < seq and (each.end is None or seq <= each.end)), None
            )
            if of is None:
                assert untouched == (seq > record.done)
            else:
                assert untouched == (seq > of.position and of.after is None)

    @invariant()
    def it_can_be_read_again(self) -> None:
        assert load(dump(self.record)) == self.record


TestLane = Lane.TestCase
TestLane.settings = settings(max_examples=100, stateful_step_count=30)


# --- steps that can't be taken


def test_only_the_owner_writes_and_only_by_what_is_there() -> None:
    claim = Claim("c", 0, 10, 2, "one", cut=cut_to(5))
    record = replace(EMPTY, claims=(claim,))
    cut, other = cut_to(5), cut_to(5, token="other")
    for id, owner in (("c", "two"), ("c", ""), ("d", "one")):
        assert record_done(record, id, owner, cut) is None
        assert new_epoch(record, id, owner, cut, mark=7, until=120, rules=1, token="n") is None
        assert set_aside(record, id, owner, "r") is None
        assert own(record, id, owner) is None
    assert record_done(record, "c", "one", other) is None
    assert new_epoch(record, "c", "one", other, mark=7, until=120, rules=1, token="n") is None

    assert cut_next(record, "c", "one", 2, cut_to(7), end=10) is None  # one at a time
    assert nothing_left(record, "c", "one", 2, (10, 100)) is None

    idle = replace(record, claims=(replace(claim, cut=None),))
    assert set_aside(idle, "c", "one", "r") is None
    for id, owner, start in (("c", "two", 2), ("d", "one", 2), ("c", "one", 3)):
        assert cut_next(idle, id, owner, start, cut, end=10) is None
        assert nothing_left(idle, id, owner, start, (10, 100)) is None
    assert cut_next(idle, "c", "one", 2, cut_to(11), end=20) is None  # beyond its end
    assert cut_next(idle, "c", "one", 2, cut_to(2), end=10) is None  # of nothing
    assert nothing_left(idle, "c", "one", 2, (1, 10)) is None


def test_a_claim_is_taken_over_as_it_was_seen() -> None:
    record = replace(EMPTY, claims=(Claim("c", 0, None, 0, "one", beat=3),))
    seen = record.claims[0]
    assert taken_over(record, seen, "two") is not None
    assert taken_over(heard(record, "one"), seen, "two") is None
    assert taken_over(released(record, "one"), seen, "two") is None
    assert taken_over(record, replace(seen, id="d"), "two") is None


# --- where a claim ends


def tail(**more: object) -> Record:
    return replace(EMPTY, claims=(Claim("c", 0, None, 0, "one", **more),))  # type: ignore[arg-type]


def test_a_tail_that_ends_leaves_the_rest_to_others() -> None:
    record = cut_next(tail(), "c", "one", 0, cut_to(5), end=8)
    assert record
    other = claimed(record, "d", "two", None)
    assert other
    assert [(claim.start, claim.end) for claim in other.claims] == [(0, 8), (8, None)]
    done = record_done(other, "c", "one", cut_to(5))
    assert done
    assert cut_next(done, "c", "one", 5, cut_to(8), end=None) == cut_next(done, "c", "one", 5, cut_to(8), end=8)


def test_a_claim_in_doubt_keeps_its_end() -> None:
    """Behind it others cut as if nobody had before: rows that are on their way would be there twice."""
    record = recovered(EMPTY, 60, 10, "c", everything=False)
    taken = taken_over(record, record.claims[0], "one")
    assert taken
    for end in (5, 8, 20, None):
        cut = cut_next(taken, "c", "one", 0, cut_to(5, epoch=1), end=end)
        assert cut
        assert cut.end == 10


def test_what_is_behind_a_cut_that_waits_is_as_much_in_doubt() -> None:
    record = recovered(EMPTY, 60, 10, "c", everything=False)
    record = replace(record, claims=(replace(record.claims[0], owner="one", cut=cut_to(5, epoch=1)),))
    aside = set_aside(record, "c", "one", "r")
    assert aside
    assert [(claim.id, claim.end, claim.after) for claim in aside.claims] == [("c", 5, 60), ("r", 10, 60)]


# --- a stream that is set back


def test_done_moves_with_the_mark() -> None:
    """Else a stream that was set back has other messages in these places, and nobody looks at them."""
    record = nothing_left(tail(), "c", "one", 0, (7, 70))
    assert record
    assert (record.claims[0].done, record.mark, record.seen) == (7, (7, 70), 7)
    closed = nothing_left(replace(EMPTY, claims=(Claim("c", 0, 5, 0, "one"),)), "c", "one", 0, (7, 70))
    assert closed
    assert (closed.done, closed.claims, closed.mark) == (5, (), (7, 70))


def test_the_mark_never_moves_back() -> None:
    record = replace(EMPTY, mark=(9, 90), claims=(Claim("c", 0, 5, 0, "one", cut=cut_to(5)),))
    done = record_done(record, "c", "one", cut_to(5))
    assert done
    assert done.mark == (9, 90)


def test_a_claim_may_end_beyond_the_stream() -> None:
    """That alone is no sign that the stream was set back."""
    record = replace(EMPTY, claims=(Claim("c", 0, 100, 0, "one", cut=cut_to(5)),))
    assert record.end == 100
    assert record.seen == 5


def test_a_reset_goes_no_further_than_the_stream() -> None:
    record = reset(replace(EMPTY, done=5, mark=(5, 50)), 100, 60, 8, "c")
    assert (record.done, record.begin, record.claims) == (8, 8, ())


# --- as bytes


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("stream"),
        lambda value: value.update(more=1),
        lambda value: value.update(done="1"),
        lambda value: value.update(claims=[{"id": "c"}]),
        lambda value: value.update(mark=[1]),
        lambda value: value.update(version=VERSION + 1),
    ],
)
def test_no_record_of_ours_is_refused(change: Callable[[dict[str, object]], object]) -> None:
    value = json.loads(dump(EMPTY))
    change(value)
    with pytest.raises(ValueError, match="a lane's record"):
        load(json.dumps(value).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(Record.__struct_fields__), inner),
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_record_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="a lane's record"):
        load(value)


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_byte_that_is_another_makes_no_other_exception(at: int, byte: int) -> None:
    value = bytearray(dump(replace(EMPTY, mark=(3, 30), claims=(Claim("c", 0, None, 2, "é", cut=cut_to(3), after=9),))))
    value[at % len(value)] = byte
    try:
        record = load(bytes(value))
    except ValueError:
        return
    assert isinstance(record, Record)


def test_each_lane_has_its_key() -> None:
    parts = ["trade", "MARKET_DATA", "2025-01-01T00:00:00Z", "trade.>", "2b1c"]
    keys = {lane_key(*(part + "x" * (index == other) for index, part in enumerate(parts))) for other in range(6)}
    assert len(keys) == 6
    assert all(key.startswith("trade") for key in keys)

"""Each rule of the protocol as a switch. With all on the guarantee holds; without any one of them it does not."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Rules:
    """All on. `without` one of them the explorer finds a history that loses, doubles or buries a message."""

    # --- the steady path
    cut_first: bool = True
    """The boundaries are in the record before anything is sent. Else whoever comes next draws other ones."""
    one_block_per_cut: bool = True
    """A cut is sent as one block. Split by content, a message that expires moves the boundaries under the same tokens."""
    done_when_answered: bool = True
    """Only what ClickHouse has answered for is recorded as done."""
    fixed_until: bool = True
    """The moment after which ClickHouse refuses the block stands in the cut; no attempt gets a later one."""
    few_partitions: bool = True
    """A block has no more partitions than ClickHouse's deduplication window remembers."""
    mark_in_cut: bool = True
    """The arrival time of the cut's last message is in the record. Another one there: the content is not what was cut."""
    version_in_cut: bool = True
    """Only a process with the same decoding rules sends a cut again; others look up."""
    doubt_keeps_its_end: bool = True
    """The end of a claim in doubt is not moved. Behind it others cut as if nobody had before."""
    aside_ends: bool = True
    """What is set aside ends with its cut. Else two claims have the messages behind it."""
    rest_stays_in_doubt: bool = True
    """And what is split off behind it is as much in doubt as it was."""
    held_stays_in_doubt: bool = True
    """Of a cut whose bad messages are held back a stretch in doubt is left, and only what is behind it is done with."""
    owner_writes: bool = True
    """Only the owner of a claim writes to it. All that leans on it is that a cutter need not verify its first attempt."""

    # --- after an unknown outcome
    verify_after_unknown: bool = True
    """Answered after an attempt of unknown outcome, the rows are looked up: a token may be stored without its part."""
    verify_after_take_over: bool = True
    """The same where another process may have sent the block before."""
    verify_what_was_sent: bool = True
    """The very rows that were sent are looked up. Others of the same range may make up for them in a mere count."""

    # --- a new epoch
    epoch_waits: bool = True
    """It begins after the earlier one's `until` has passed by ClickHouse's own clock."""
    slowest_clock: bool = True
    """By the slowest clock, where the table has several servers."""
    epoch_settles: bool = True
    """And after the inserts are done that were let in before."""
    one_winner: bool = True
    """One process wins it by compare-and-set; nobody else sends anything of it."""
    epoch_is_its_writers: bool = True
    """Who takes up a cut that is in a later epoch begins the next one; also where he is the same, begun anew."""
    epoch_looks_up: bool = True
    """It sends only what is neither stored nor buried."""
    look_up_by_arrival: bool = True
    """Stored is a message by sequence and arrival time: a stream that was set back uses sequences again."""
    look_up_in_cold: bool = True
    """What tiering has moved is stored, too."""
    hot_before_cold: bool = True
    """And in this order: what is moved between the two look-ups is seen twice rather than never."""
    fresh_tokens: bool = True
    """Cuts and epochs draw their tokens at random. A counter comes again after a set-back, with another content."""
    isolation_is_an_epoch: bool = True
    """Smaller pieces are sent only when nobody can send the whole any more."""
    bury_alone: bool = True
    """A refused row is buried when it was sent alone."""
    bury_for_the_row: bool = True
    """And only with a code that blames the row."""

    # --- tiering
    drop_waits: bool = True
    """DROP PARTITION frees its tokens: not before each block of the last insert is past its `until`."""
    drop_settles: bool = True
    """And the inserts are done that were let in before."""

    # --- the record deleted, set back, or in a bucket made anew
    read_after_reconnect: bool = True
    """After a reconnect nothing is written by what was read before it, nor what a client has kept to send then."""
    notice_missing: bool = True
    """No record: in doubt, even where the table is empty. What was sent may still arrive. Only who has just made the table
    begins an empty one."""
    notice_revision: bool = True
    """A revision below one that is known: set back."""
    notice_table: bool = True
    """The table has rows of what nobody has cut by the record: set back. A claim may end far beyond what is cut of it."""
    notice_boot: bool = True
    """The bucket's server was started anew: perhaps set back."""
    recover_waits: bool = True
    """What is in doubt is begun only when no attempt of a forgotten cut can be stored any more."""
    fastest_clock: bool = True
    """The doubt's end is counted from the fastest clock, where the table has several servers: as late as any `until`."""
    recover_to_stream_end: bool = True
    """In doubt is everything to the stream's end; the table's end says nothing about what is on its way."""
    recover_old_claims: bool = True
    """What the record still knows may have been in a later epoch: it waits as well, and goes by look-ups."""
    close_open_tails: bool = True
    """Nobody goes on in an open tail beyond which others have cut."""
    new_bucket_above: bool = True
    """Revisions of a new bucket begin above all that ever were. Else a stale compare-and-set succeeds."""

    reset_waits: bool = True
    """What somebody has looked up again by hand is in doubt as well: consumers run, and what they have sent may arrive."""

    # --- the stream set back and refilled
    notice_shorter_stream: bool = True
    """The stream ends before the record does: set back."""
    mark_at_done: bool = True
    """The arrival time of the last message that is done is kept and compared."""
    nothing_left_marks: bool = True
    """Where nothing of ours is left, `done` moves to a message that the stream holds, and keeps its arrival time."""
    reset_keeps_mark: bool = True
    """A reset by hand keeps what is known of the stream."""

    def without(self, rule: str) -> Rules:
        return replace(self, **{rule: False})


NAMES = tuple(field.name for field in fields(Rules))

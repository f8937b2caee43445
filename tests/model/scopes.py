"""How much of the world is explored: small scopes for every test run, large ones for the command line, and for each rule
the scope in which its absence shows."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from tests.model.state import Faults, Kind, Scope

Messages = tuple[tuple[str, Kind], ...]

ONE: Messages = (("A", "good"),)
TWO: Messages = (("A", "good"), ("A", "good"))
THREE: Messages = (("A", "good"), ("A", "good"), ("A", "good"))
APART: Messages = (("A", "good"), ("B", "good"))  # in two partitions
REFUSED: Messages = (("A", "good"), ("A", "refused"))
REFUSED_LAST: Messages = (("A", "good"), ("A", "good"), ("A", "refused"))
BAD: Messages = (("A", "good"), ("A", "bad"))
OTHERS: Messages = (("A", "good"), ("", "other"))
ALONE = (0,)  # one process, killed and started again
TWO_VERSIONS = (0, 1)

SMALL = (
    Scope("requests late, in part or torn; kills", APART, Faults(kills=1, torn=1), partial=True),
    Scope("requests that arrive twice", APART, Faults(kills=1), partial=True, repeats=2, versions=ALONE),
    Scope("epochs", APART, Faults(kills=1, torn=1), clock=3, partial=True, versions=ALONE),
    Scope("epochs of two processes", ONE, Faults(kills=1), clock=3),
    Scope("a clock that is behind", ONE, Faults(kills=1, odd_codes=1), clock=4, lag=1, versions=ALONE),
    Scope("inserts that run on", ONE, Faults(kills=1, odd_codes=1), clock=3, slow=True, versions=ALONE),
    Scope("a claim for each", TWO, clock=1, chunk=1),
    Scope("messages of a claim expire", TWO, Faults(kills=1, expiries=2), clock=1, chunk=1, versions=ALONE),
    Scope("messages expire", APART, Faults(kills=1, expiries=2, torn=1), clock=1, versions=ALONE),
    Scope("messages expire, two processes", TWO, Faults(expiries=1)),
    Scope(
        "a replicated table", APART, Faults(kills=1, expiries=1), clock=1, partial=True, replicated=True, versions=ALONE
    ),
    Scope("a row is refused", REFUSED, Faults(kills=1), clock=3, versions=ALONE),
    Scope("a row is refused, two processes", REFUSED, clock=2),
    Scope("a code that nobody knows", TWO, Faults(kills=1, odd_codes=2), clock=3, versions=ALONE),
    Scope("two versions", (("A", "newer"), ("A", "moved")), clock=2, versions=TWO_VERSIONS),
    Scope("two versions and bad messages", (("A", "bad"), ("B", "newer")), Faults(kills=1), versions=TWO_VERSIONS),
    Scope("more partitions than the window", APART, Faults(kills=1), clock=2, window=1, versions=ALONE),
    Scope("tiering", ONE, Faults(kills=1, drops=1, odd_codes=1), clock=4, slow=True, versions=ALONE),
    Scope("record set back", ONE, Faults(set_backs=1), clock=0),
    Scope("record set back, epochs", ONE, Faults(kills=1, set_backs=1), clock=3, versions=ALONE),
    Scope("record set back twice", ONE, Faults(set_backs=2), clock=2, versions=ALONE),
    Scope("bucket deleted", ONE, Faults(deletions=1), clock=1),
    Scope("bucket deleted, epochs", TWO, Faults(deletions=1), clock=2, versions=ALONE),
    Scope("stream set back", ONE, Faults(stream_set_backs=1), clock=1),
    Scope("stream set back, epochs", TWO, Faults(stream_set_backs=1), clock=1, versions=ALONE),
    Scope("refused in pieces, then alone", REFUSED_LAST, clock=4, versions=ALONE),
    Scope("a cut is set aside", TWO, Faults(asides=1, kills=1)),
    Scope("a cut is set aside, refused", REFUSED, Faults(asides=2, kills=1), clock=3, versions=ALONE),
    Scope("a cut is set aside, in doubt", TWO, Faults(asides=1, set_backs=1), versions=ALONE),
    Scope("claims end elsewhere", TWO, Faults(moves=1)),
    Scope("claims end elsewhere, killed", THREE, Faults(moves=2, kills=1), versions=ALONE),
    Scope("claims end elsewhere, in doubt", TWO, Faults(moves=1, set_backs=1), clock=1, versions=ALONE),
    Scope("bad ones are held back", BAD, Faults(holds=1, kills=1), clock=2, versions=ALONE),
    Scope("bad ones are held back, two processes", BAD, Faults(holds=1), clock=1),
    Scope("bad ones are held back in one stretch", (*BAD, BAD[1]), Faults(holds=2), clock=2, versions=ALONE),
    Scope("bad ones are held back, record set back", BAD, Faults(holds=1, set_backs=1), clock=1, versions=ALONE),
    Scope("bad ones are held back, stream set back", BAD, Faults(holds=1, stream_set_backs=1), clock=1, versions=ALONE),
    Scope("ended in order", ONE, Faults(releases=1, torn=1)),
    Scope("ended in order, epochs", TWO, Faults(releases=2, kills=1), clock=2, versions=ALONE),
    Scope("messages of others", OTHERS, Faults(kills=1, expiries=1)),
    Scope("messages of others, stream set back", OTHERS, Faults(expiries=1, stream_set_backs=1), versions=ALONE),
    Scope("messages come", TWO, Faults(kills=1), later=1),
    Scope("messages come, reset", TWO, Faults(resets=1), clock=2, later=1, versions=ALONE),
    Scope("messages come, record set back", TWO, Faults(set_backs=1), clock=1, later=1, versions=ALONE),
    Scope("messages come, bucket deleted", TWO, Faults(deletions=1), clock=2, later=1, versions=ALONE),
    Scope("a table just made", ONE, Faults(kills=1), clock=2, begun=False),
    Scope("reset", ONE, Faults(resets=1), clock=2),
    Scope("reset twice", TWO, Faults(resets=2, kills=1), clock=2, versions=ALONE),
    Scope("reset, inserts that run on", ONE, Faults(resets=1, kills=1), clock=3, slow=True, versions=ALONE),
    Scope("reset, a clock behind", ONE, Faults(resets=1, kills=1), clock=4, lag=1, versions=ALONE),
    Scope("reset, record set back", ONE, Faults(resets=1, set_backs=1), clock=2, versions=ALONE),
    Scope("reset, stream set back", ONE, Faults(resets=1, stream_set_backs=1), clock=2, versions=ALONE),
    Scope("record set back at rest", THREE, Faults(set_backs=1), chunk=2, silent=True, at_rest=True, versions=ALONE),
)

LARGE = (
    Scope("two processes, three messages", (*APART, ONE[0]), Faults(kills=1, torn=1), partial=True),
    Scope("requests that arrive twice", APART, Faults(kills=1), clock=2, partial=True, repeats=2),
    Scope("epochs", APART, Faults(kills=1, torn=1), clock=3, partial=True),
    Scope("long epochs", ONE, Faults(kills=1, torn=1), clock=5),
    Scope("a clock that is behind", ONE, Faults(kills=1, odd_codes=1), clock=4, lag=1),
    Scope("inserts that run on", ONE, Faults(kills=1, odd_codes=1), clock=4, slow=True),
    Scope("a claim for each", (*APART, ONE[0]), Faults(kills=1), chunk=1),
    Scope("messages expire", (*APART, ONE[0]), Faults(kills=1, expiries=2, torn=1), clock=2, versions=ALONE),
    Scope("messages expire, two processes", TWO, Faults(expiries=1), clock=2),
    Scope("a row is refused", REFUSED, Faults(kills=1), clock=4),
    Scope("a code that nobody knows", TWO, Faults(odd_codes=2), clock=3),
    Scope("two versions", (("A", "newer"), ("A", "moved")), Faults(kills=1), clock=3, versions=TWO_VERSIONS),
    Scope("tiering", APART, Faults(kills=1, drops=2, odd_codes=1), clock=5, slow=True, versions=ALONE),
    Scope("tiering, two processes", ONE, Faults(kills=1, drops=1), clock=4, slow=True),
    Scope("record set back", TWO, Faults(set_backs=1), clock=1),
    Scope("record set back, epochs", TWO, Faults(kills=1, set_backs=1), clock=4, versions=ALONE),
    Scope("bucket deleted", TWO, Faults(kills=1, deletions=1), clock=1),
    Scope("bucket deleted, epochs", TWO, Faults(kills=1, deletions=2), clock=4, versions=ALONE),
    Scope("stream set back", ONE, Faults(kills=1, stream_set_backs=1), clock=2),
    Scope("stream set back, epochs", TWO, Faults(kills=1, stream_set_backs=1), clock=2, versions=ALONE),
    Scope(
        "record set back, inserts that run on", ONE, Faults(kills=1, set_backs=1), clock=3, slow=True, versions=ALONE
    ),
    Scope("record set back, a clock behind", ONE, Faults(kills=1, set_backs=1), clock=4, lag=1, versions=ALONE),
    Scope("record and stream set back", ONE, Faults(set_backs=1, stream_set_backs=1), clock=3, versions=ALONE),
    Scope("refused in pieces, then alone", REFUSED_LAST, clock=3),
    Scope("a cut is set aside", TWO, Faults(asides=1, kills=1, torn=1), clock=1),
    Scope("a cut is set aside, refused", REFUSED, Faults(asides=1), clock=3),
    Scope("a cut is set aside, in doubt", TWO, Faults(asides=1, resets=1), clock=2),
    Scope("a cut is set aside, record set back", TWO, Faults(asides=1, set_backs=1), clock=2, versions=ALONE),
    Scope("claims end elsewhere", TWO, Faults(moves=2, kills=1), clock=1),
    Scope("claims end elsewhere, three messages", THREE, Faults(moves=1)),
    Scope("claims end elsewhere, in doubt", TWO, Faults(moves=1, resets=1), clock=2),
    Scope("ended in order", TWO, Faults(releases=1, torn=1), clock=2),
    Scope("messages of others, stream set back", OTHERS, Faults(kills=1, expiries=1, stream_set_backs=1), clock=1),
    Scope("messages come, record set back", TWO, Faults(set_backs=1), later=1),
    Scope(
        "messages come, claims end elsewhere", TWO, Faults(kills=1, moves=1, resets=1), clock=2, later=1, versions=ALONE
    ),
    Scope("messages come, stream set back twice", TWO, Faults(stream_set_backs=2), later=1, versions=ALONE),
    Scope("a table just made", TWO, Faults(kills=1), clock=2, begun=False),
    Scope("reset", TWO, Faults(resets=1), clock=2),
    Scope("reset, stream set back", ONE, Faults(resets=1, stream_set_backs=1), clock=2),
    Scope("reset, record set back", TWO, Faults(resets=1, set_backs=1), clock=2, versions=ALONE),
    Scope("by hand and in order", TWO, Faults(asides=1, moves=1, releases=1, resets=1), clock=3, versions=ALONE),
    Scope(
        "everything at once",
        (ONE[0], ("B", "refused")),
        Faults(kills=1, expiries=1, drops=1, torn=1, odd_codes=1),
        clock=4,
        partial=True,
        versions=ALONE,
    ),
)

SETS = {"small": SMALL, "large": LARGE}


class Needed(NamedTuple):
    """Without the rule the scope has a history with this kind of harm. With it the scope holds."""

    rule: str
    harm: str
    scope: Scope


def needed(rule: str, harm: str, messages: Messages, faults: Faults | None = None, **more: object) -> Needed:
    return Needed(rule, harm, replace(Scope(f"needs {rule}", messages, faults or Faults()), **more))  # type: ignore[arg-type]


NEEDED = (
    needed("cut_first", "doubled", TWO),
    needed("one_block_per_cut", "lost", THREE, Faults(kills=1, expiries=1), replicated=True, versions=ALONE),
    needed("done_when_answered", "lost", ONE, clock=2, versions=ALONE),
    needed("fixed_until", "doubled", ONE, clock=3),
    needed("few_partitions", "doubled", APART, window=1, versions=ALONE),
    needed("mark_in_cut", "lost", ONE, Faults(stream_set_backs=1), requests=1, replicated=True, versions=ALONE),
    needed("version_in_cut", "doubled", (("A", "moved"),), versions=TWO_VERSIONS),
    needed("doubt_keeps_its_end", "doubled", TWO, Faults(moves=1, resets=1), clock=2, versions=ALONE),
    needed("aside_ends", "doubled", TWO, Faults(asides=1), versions=ALONE),
    needed("rest_stays_in_doubt", "doubled", TWO, Faults(asides=1, resets=1), clock=2, versions=ALONE),
    needed("held_stays_in_doubt", "lost", BAD, Faults(holds=1), versions=ALONE),
    needed("owner_writes", "lost", ONE, Faults(torn=1)),
    needed("verify_after_unknown", "lost", ONE, Faults(torn=1), versions=ALONE),
    needed("verify_after_take_over", "lost", ONE, Faults(kills=1, torn=1), versions=ALONE),
    needed("verify_what_was_sent", "lost", APART, Faults(kills=1, torn=1, expiries=1), versions=ALONE),
    needed("epoch_waits", "doubled", ONE, Faults(odd_codes=1), clock=1, versions=ALONE),
    needed("slowest_clock", "doubled", ONE, Faults(odd_codes=1), clock=3, lag=1, versions=ALONE),
    needed("epoch_settles", "doubled", ONE, Faults(odd_codes=1), clock=2, slow=True, versions=ALONE),
    needed("one_winner", "doubled", ONE, Faults(odd_codes=1), clock=2),
    needed("epoch_is_its_writers", "lost", TWO, Faults(kills=1, odd_codes=1), clock=2, versions=ALONE),
    needed("epoch_looks_up", "doubled", ONE, Faults(odd_codes=1), clock=2, versions=ALONE),
    needed("look_up_by_arrival", "lost", ONE, Faults(stream_set_backs=1), clock=2, versions=ALONE),
    needed("look_up_in_cold", "doubled", ONE, Faults(kills=1, drops=1), clock=2, versions=ALONE),
    needed("hot_before_cold", "doubled", ONE, Faults(kills=1, drops=1), clock=2, versions=ALONE),
    needed("fresh_tokens", "lost", TWO, Faults(stream_set_backs=1), versions=ALONE),
    needed("isolation_is_an_epoch", "doubled", TWO, Faults(odd_codes=1)),
    needed("bury_alone", "buried", REFUSED, versions=ALONE),
    needed("bury_for_the_row", "buried", ONE, Faults(odd_codes=2), clock=2, versions=ALONE),
    needed("drop_waits", "doubled", ONE, Faults(drops=1), versions=ALONE),
    needed("drop_settles", "doubled", ONE, Faults(drops=1), clock=2, slow=True, versions=ALONE),
    needed("read_after_reconnect", "doubled", ONE, Faults(set_backs=1)),
    needed("notice_missing", "doubled", TWO, Faults(kills=1, deletions=1), versions=ALONE),
    needed("notice_revision", "doubled", TWO, Faults(set_backs=1), silent=True, versions=ALONE),
    needed("notice_table", "doubled", TWO, Faults(kills=1, set_backs=1), silent=True, at_rest=True, versions=ALONE),
    needed("notice_boot", "doubled", TWO, Faults(kills=1, set_backs=1), versions=ALONE),
    needed("recover_waits", "doubled", TWO, Faults(set_backs=1), clock=1, versions=ALONE),
    needed("fastest_clock", "doubled", ONE, Faults(kills=1, resets=1), clock=2, lag=1, versions=ALONE),
    needed("recover_to_stream_end", "doubled", TWO, Faults(set_backs=1), versions=ALONE),
    needed("recover_old_claims", "doubled", TWO, Faults(set_backs=1), clock=2, versions=ALONE),
    needed("close_open_tails", "doubled", ONE, Faults(kills=1, set_backs=1), clock=2, versions=ALONE),
    needed("new_bucket_above", "doubled", TWO, Faults(deletions=1)),
    needed("reset_waits", "doubled", ONE, Faults(resets=1), versions=ALONE),
    needed("notice_shorter_stream", "lost", ONE, Faults(stream_set_backs=1), versions=ALONE),
    needed("mark_at_done", "lost", ONE, Faults(stream_set_backs=1), versions=ALONE),
    needed("nothing_left_marks", "lost", OTHERS, Faults(expiries=1, stream_set_backs=1), versions=ALONE),
    needed("reset_keeps_mark", "lost", ONE, Faults(resets=1, stream_set_backs=1), versions=ALONE),
)

# What the protocol does not cover, with the harm that it does: the guarantee names it.
NOT_COVERED = {
    "the record is set back in silence: no process has lost a connection, and what was started since knows nothing": (
        "doubled",
        Scope("silent set-back", TWO, Faults(kills=1, set_backs=1), silent=True, versions=ALONE),
    ),
    "a plain MergeTree is killed between token and part, and something on the way has sent the request again itself": (
        "lost",
        Scope("torn and repeated", ONE, Faults(torn=1), repeats=2, versions=ALONE),
    ),
    "the bucket is deleted while who has made the table is still about to begin its record, and others have waited for it": (
        "doubled",
        Scope("made and deleted", ONE, Faults(deletions=1), clock=2, begun=False),
    ),
    "the stream is set back and filled again, and before anybody looks the message in the marked place is gone again": (
        "lost",
        Scope("set back and expired", TWO, Faults(expiries=1, stream_set_backs=1), expires_again=True, versions=ALONE),
    ),
}

"""The ranges protocol as a checked model: how a stream is kept in ClickHouse exactly once, and what may happen meanwhile.

The stream is cut once, a cut is one block, and ClickHouse takes a block once:

    claim → read → cut → bury the bad ones → insert → (verify) → record that it is done

and for everything unusual there is one rare path: wait until no earlier attempt can be stored any more, then let one
process look up what is stored and send only the rest.

    state.py       the words: record, claim, cut, block, token, process; how big a scope is
    rules.py       each rule of the protocol as a switch, with what happens without it
    protocol.py    the steps of a process on the steady path
    epochs.py      the steps of the rare path
    set_back.py    what a process does when the record or the stream is not what it was
    record.py      reading and writing the record by compare-and-set
    blocks.py      what is made of the messages of a range
    answers.py     what is made of the answer to an insert, and of none
    clickhouse.py  what ClickHouse promises, and what not
    world.py       what everybody else may do: requests late, twice, in part; kills; expiry; set-backs; tiering
    explore.py     every history of a scope, and a shortest one that breaks the guarantee
    scopes.py      how much of the world is explored at once

The guarantee: once everything comes to rest, each message that the stream still holds is a row or a dead letter; none is a
row twice; none is buried that decodes and that ClickHouse takes. A message that is bad for one version of the decoding
rules and good for another may end as row and letter.

`python -m tests.model --help` explores from the command line.
"""

"""The ranges protocol as a checked model: how a stream is kept in ClickHouse exactly once, and what may happen meanwhile.

The stream is cut once, a cut is one block, and ClickHouse takes a block once:

    claim → read → cut → bury the bad ones → insert → (verify) → record that it is done

and for everything unusual there is one rare path: wait until no earlier attempt can be stored any more, then let one
process look up what is stored and send only the rest.

    state.py       the words: lane, record, claim, cut, block, token, process
    rules.py       each rule of the protocol as a switch, with what happens without it
    protocol.py    the steps of a process on the steady path
    epochs.py      the steps of the rare path
    set_back.py    what a process does when the record or the stream is not what it was
    clickhouse.py  what ClickHouse promises, and what not
    world.py       what everybody else may do: requests late, twice, in part; kills; expiry; set-backs; tiering
    explore.py     every history of a scope, and the shortest one that breaks the guarantee
    scopes.py      how much of the world is explored at once

`python -m tests.model --help` explores from the command line.
"""

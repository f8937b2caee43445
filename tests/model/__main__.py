"""Explore every history of the ranges protocol within a scope:

python -m tests.model --scope large                            # what takes minutes
python -m tests.model --scope "epochs"                         # one scope, by its name
python -m tests.model --scope small --without epoch_settles    # the history that a rule prevents
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from tests.model.explore import explore
from tests.model.rules import NAMES
from tests.model.scopes import NEEDED, NOT_COVERED, SETS
from tests.model.state import Scope

EVERY = 50_000  # states between two lines of progress


def named(name: str) -> tuple[Scope, ...]:
    if name in SETS:
        return SETS[name]
    others = (*(case.scope for case in NEEDED), *(scope for _, scope in NOT_COVERED.values()))
    return tuple(scope for scope in (*SETS["large"], *SETS["small"], *others) if scope.name == name)[:1]


def telling(scope: Scope) -> Callable[[int], None]:
    began = time.monotonic()

    def progress(states: int) -> None:
        if states % EVERY == 0:
            rate = states / (time.monotonic() - began)
            print(f"{scope.name}: {states:,} states, {rate:,.0f} a second", file=sys.stderr, flush=True)

    return progress


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scope", default="small", help="small, large, or the name of one scope")
    parser.add_argument("--list", action="store_true", help="the names of the large scopes")
    parser.add_argument(
        "--without", action="append", default=[], choices=NAMES, metavar="RULE", help="switch a rule off"
    )
    parser.add_argument("--limit", type=int, default=3_000_000, help="states per scope, each about 1 kB")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(scope.name for scope in SETS["large"]))
        return 0
    scopes = named(arguments.scope)
    if not scopes:
        parser.error(f"no scope is called {arguments.scope}; see --list")

    states, seconds = 0, 0.0
    for scope in scopes:
        for rule in arguments.without:
            scope = replace(scope, rules=scope.rules.without(rule))
        result = explore(scope, arguments.limit, telling(scope))
        states += result.states
        seconds += result.seconds
        verdict = result.violation or ("holds" if result.complete else "holds so far, not complete")
        print(f"{scope.name}: {result.states:,} states, {result.seconds:.1f} s: {verdict}", flush=True)
        if result.violation:
            return 1
    print(f"{states:,} states in {seconds:.0f} s, {states / seconds:,.0f} states a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())

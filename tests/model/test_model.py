"""With every rule the guarantee holds in every history of the small scopes; without any one of them it does not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from random import Random

import pytest

from tests.model.explore import explore
from tests.model.rules import NAMES
from tests.model.scopes import LARGE, NEEDED, NOT_COVERED, SMALL, Needed
from tests.model.state import Scope, first
from tests.model.world import steps


@pytest.mark.parametrize("scope", SMALL, ids=lambda scope: scope.name)
def test_nothing_is_lost_doubled_or_buried(scope: Scope) -> None:
    result = explore(scope)
    assert not result.violation, str(result.violation)
    assert result.complete


@pytest.mark.parametrize("case", NEEDED, ids=lambda case: case.rule)
def test_each_rule_is_needed(case: Needed) -> None:
    holds = explore(case.scope)
    assert not holds.violation, str(holds.violation)
    assert holds.complete

    broken = explore(replace(case.scope, rules=case.scope.rules.without(case.rule)), limit=100_000)
    assert broken.violation, f"no history shows that {case.rule} is needed"
    print(f"without {case.rule}: {broken.violation}")
    assert broken.violation.kind == case.harm


HAPPENINGS = (
    "claims the tail", "claims (", "takes over", "cuts (", "too late for", "buries", "inserts", "reads (",
    "hears no answer", "finds its rows", "misses rows", "finds nothing left", "finds its cut gone", "records (",
    "to a new epoch", "begins epoch", "looks up in hot", "looks up and misses", "reads the record", "recovers",
    "refused, the record is not", "is let in", "refused: late", "refused for a row", "nobody listens", "stores nothing new",
    "answer is lost", "stores only", "by a clock that is behind", "between token and part", "code that nobody knows",
    "is killed", "expires", "to cold", "deleted and made anew", "backed up", "record is set back", "stream is set back",
    "is published", "clock of ClickHouse", "in doubt until", "begins an empty record", "is reset", "ends, and releases",
    "aside", "out of hand", "for later", "] back", "and ends the claim at",
)  # fmt: skip


def test_all_that_may_happen_does() -> None:
    """A step that could never be taken would be checked in vain."""
    missing = set(HAPPENINGS)
    random = Random(1)
    for scope in SMALL:
        for _ in range(150):
            world = first(scope)
            while (choices := list(steps(scope, world))) and random.random() > 0.02:
                step = random.choice(choices)
                missing -= {each for each in missing if each in step.text}
                world = step.world
    assert not missing


def test_every_rule_has_its_case() -> None:
    assert tuple(case.rule for case in NEEDED) == NAMES


@pytest.mark.parametrize("what", NOT_COVERED)
def test_what_is_not_covered_is_found(what: str) -> None:
    harm, scope = NOT_COVERED[what]
    violation = explore(scope).violation
    assert violation, f"covered after all: {what}"
    assert violation.kind == harm


def test_all_that_leans_on_owners_is_not_to_verify() -> None:
    """Any process may do anything to any claim, as long as ClickHouse never keeps a token without its part."""
    anybody = next(scope for scope in SMALL if scope.name == "requests late, in part or torn; kills")
    faults = anybody.faults._replace(torn=0)
    anybody = replace(anybody, faults=faults, rules=anybody.rules.without("owner_writes"))
    result = explore(anybody)
    assert not result.violation, str(result.violation)
    assert result.complete


def test_a_counterexample_reads_like_a_story() -> None:
    case = next(case for case in NEEDED if case.rule == "verify_after_unknown")
    violation = explore(replace(case.scope, rules=case.scope.rules.without(case.rule))).violation
    assert violation
    assert str(violation).splitlines() == [
        "lost: message 1",
        "   1 P0 claims the tail from 0",
        "   2 P0 cuts (0, 1] until 1: 1 [token 0.0]",
        "   3 P0 inserts 1 [token 0.0] until 1",
        "   4 the insert of 1 [token 0.0] by P0: ClickHouse is killed between token and part of A",
        "   5 and when nothing else goes wrong:",
        "   6 P0 hears no answer",
        "   7 P0 inserts 1 [token 0.0] until 1",
        "   8 the insert of 1 [token 0.0] by P0 stores nothing new",
        "   9 P0 records (0, 1] as done",
    ]


def test_the_same_scope_is_the_same_exploration() -> None:
    case = next(case for case in NEEDED if case.rule == "fresh_tokens")
    scope = replace(case.scope, rules=case.scope.rules.without(case.rule))
    one, two = explore(scope), explore(scope)
    assert (one.states, str(one.violation)) == (two.states, str(two.violation))


def test_a_limit_is_told() -> None:
    result = explore(SMALL[0], limit=100)
    assert not result.complete
    assert not result.violation


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tests.model", *arguments], capture_output=True, text=True, timeout=60)


def test_the_command_line_fails_with_the_history() -> None:
    found = run("--scope", "needs drop_waits", "--without", "drop_waits")
    assert found.returncode == 1
    assert "tiering moves A to cold" in found.stdout
    assert "doubled: message 1" in found.stdout

    holds = run("--scope", "needs drop_waits")
    assert holds.returncode == 0
    assert "states a second" in holds.stdout


def test_the_command_line_names_what_it_knows() -> None:
    text = " ".join(run("--help").stdout.split())
    assert "small" in text
    assert "large" in text
    assert {scope.name for scope in LARGE} <= set(run("--list").stdout.splitlines())
    wrong = run("--scope", "no such scope")
    assert wrong.returncode == 2
    assert "--list" in wrong.stderr

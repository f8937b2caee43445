"""Replay one seed with its history, or soak many:

python -m tests.simulation --seed 1234
python -m tests.simulation --seeds 0:100000
"""

import argparse
import sys
import time

from tests.simulation.world import Violation, World

parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
parser.add_argument("--seed", type=int, help="one seed, with everything that happens")
parser.add_argument("--seeds", default="0:2000", help="FROM:TO")
arguments = parser.parse_args()

if arguments.seed is not None:
    World(arguments.seed, trace=True).run()
    print("holds")
    sys.exit(0)

first, last = map(int, arguments.seeds.split(":"))
started = time.monotonic()
for seed in range(first, last):
    try:
        World(seed).run()
    except Violation as violation:
        print(f"seed {seed}: {violation}\nreplay: python -m tests.simulation --seed {seed}")
        sys.exit(1)
print(f"{last - first} seeds hold, {(last - first) / (time.monotonic() - started):.0f} a second")

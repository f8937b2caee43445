"""Replay one seed with its history, or soak many:

python -m tests.simulation --seed 1234
python -m tests.simulation --seeds 0:100000
"""

import argparse
import gc
import sys
import time

from tests.simulation.world import Violation, World

parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
parser.add_argument("--seed", type=int, help="one seed, with everything that happens")
parser.add_argument("--seeds", default="0:2000", help="FROM:TO")
parser.add_argument("--all", action="store_true", help="go on after a violation")
arguments = parser.parse_args()

if arguments.seed is not None:
    World(arguments.seed, trace=True).run()
    print("holds")
    sys.exit(0)

first, last = map(int, arguments.seeds.split(":"))
started = time.monotonic()
broken = 0
for seed in range(first, last):
    try:
        World(seed).run()
    except Violation as violation:
        broken += 1
        print(f"seed {seed}: {violation}\nreplay: python -m tests.simulation --seed {seed}", flush=True)
        if not arguments.all:
            sys.exit(1)
    if seed % 100 == 0:
        gc.collect()  # worlds are cycles of loops and tasks, and asyncio looks through all that are left
print(f"{last - first} seeds, {broken} broken, {(last - first) / (time.monotonic() - started):.0f} a second")
sys.exit(1 if broken else 0)

"""Damage files of every kind by chance, thousands of times, and use each as a user does.

python benchmarks/fuzz.py [--kinds store,probe] [--count 2000] [--seed 0]
python benchmarks/fuzz.py --kinds store --seed 0 --case 1234 [--keep DIR]

A case is a genuine small file, changed: bytes flipped, cut, swapped, interesting integers written
over; or, by one who knows its format, with other values, shapes and types and with checksums that
fit them, since they have no key. Then it is opened, looked at, verified, exported, trained on,
searched, added to. It may work, or be refused by a VggfeatError. All else is a fault: another
exception, a process that dies, a case that takes more than --seconds, or memory beyond the size of
the files times the factor of its kind and a constant. Exit status 1 where there is a fault.
The second form tells all of one case; with --keep its files stay at DIR. Linux.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"  # before NumPy and FAISS are there
_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "tests")]  # whose makers of files serve here, too

from fuzzing.kinds import Kind  # noqa: E402
from fuzzing.registry import KINDS  # noqa: E402
from fuzzing.running import FAULT, REFUSED, WORKS, Outcome, outcomes, prepared  # noqa: E402


def measured(kind: Kind, options: argparse.Namespace) -> tuple[dict[str, object], list[Outcome]]:
    """Try all cases of a kind; return what a row of the table says, and the faults."""
    began, counts = time.monotonic(), Counter()
    faults, slowest, largest, most = [], 0.0, 0, 0.0
    for outcome in outcomes(
        kind, range(options.count), options.seed, seconds=options.seconds, workers=options.workers
    ):
        counts[outcome.result] += 1
        slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.memory)
        if outcome.size:
            most = max(most, outcome.memory / kind.allowed(outcome.size))
        if outcome.result == FAULT:
            faults.append(outcome)
    row = {
        "kind": kind.name,
        "cases": counts.total(),
        "accepted": counts[WORKS],
        "refused": counts[REFUSED],
        "faults": counts[FAULT],
        "worst memory, MiB": round(largest / 2**20, 1),
        "share of allowed": round(most, 3),
        "slowest, s": round(slowest, 2),
        "all, s": round(time.monotonic() - began),
    }
    return row, sorted(faults, key=lambda one: one.case)


def tell(kind: Kind, faults: list[Outcome], seed: int) -> None:
    """Print faults, those of one place once."""
    places: dict[str, list[Outcome]] = {}
    for fault in faults:
        places.setdefault(fault.place, []).append(fault)
    for alike in sorted(places.values(), key=len, reverse=True):
        print(f"  {len(alike)} x {alike[0].reason}")
        cases = " ".join(str(one.case) for one in alike[:5])
        print(f"     replay: --kinds {kind.name} --seed {seed} --case {cases.split()[0]} ({cases})")


def replay(kind: Kind, case: int, seed: int, keep: Path) -> None:
    """Do one case step by step in this process, with the trace of each exception."""
    import traceback

    faulthandler.enable()
    shutil.rmtree(keep, ignore_errors=True)
    keep.mkdir(parents=True)
    maker = os.fork()
    if not maker:
        kind.make(keep)
        os._exit(0)
    os.waitpid(maker, 0)
    for step in prepared(kind, keep, case, seed):
        print(f"--- {getattr(step, '__name__', step)}", flush=True)
        try:
            step(keep / kind.path)
        except Exception:
            traceback.print_exc()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", default="", help="separated by commas; all by default")
    parser.add_argument("--without", default="", help="kinds that are left out")
    parser.add_argument("--count", type=int, default=2000, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20, help="limit for a case")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--case", type=int, help="do this one alone")
    parser.add_argument("--keep", type=Path, default=Path("/tmp/fuzz-case"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    without = options.without.split(",") if options.without else []
    names = options.kinds.split(",") if options.kinds else list(KINDS)
    names = [name for name in names if name not in without]
    if unknown := {*names, *without} - set(KINDS):
        parser.error(f"kinds are {', '.join(KINDS)}; not {', '.join(sorted(unknown))}")
    if options.case is not None:
        replay(KINDS[names[0]], options.case, options.seed, options.keep)
        return 0
    header = True
    told, failed = [], 0
    for name in names:
        row, faults = measured(KINDS[name], options)
        failed += len(faults)
        told.append(row | {"found": [one.reason for one in faults]})
        if options.json:
            continue
        if header:
            print("| " + " | ".join(row) + " |\n|" + " --- |" * len(row), flush=True)
            header = False
        print("| " + " | ".join(map(str, row.values())) + " |", flush=True)
        tell(KINDS[name], faults, options.seed)
    if options.json:
        print(json.dumps(told, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""A process that encodes ranges of vectors: ``python -m vggfeat.index.encode_ranges THREADS``.

Each line of its input is a :class:`~vggfeat.index.shards.RangeTask` as JSON, and each line of its
output the shard of one, or ``{"error": ...}``; it ends with its input.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from vggfeat.errors import VggfeatError
from vggfeat.index.shards import RangeTask, encode


def main() -> None:
    """Do the tasks of the input."""
    for line in sys.stdin:
        told = json.loads(line)
        task = RangeTask(**{**told, "blocks": tuple(told["blocks"])})
        try:
            answer = asdict(encode(task, threads=int(sys.argv[1])))
        except (VggfeatError, OSError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

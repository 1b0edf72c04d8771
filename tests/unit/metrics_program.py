"""A worker of `test_metrics`: counts calls into `PROMETHEUS_MULTIPROC_DIR`; with `render` prints what all workers counted.

python -m tests.unit.metrics_program count 7 | render | crash
"""

import sys

from compat.telemetry.metrics import Metrics, Readings
from tests.unit.telemetry.test_metrics import RECORD


def main(command: str, count: int) -> None:
    metrics = Metrics()
    if command == "render":
        print(metrics.render()[1].decode())
        return
    for _ in range(count):
        metrics.began()
        metrics.observe(RECORD)
    metrics.began()
    metrics.sample(Readings(circuits={("up", "open"): 1}, dropped={"log lines": 2}))
    print(metrics.fault, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

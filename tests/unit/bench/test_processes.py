"""CPU and memory of a process tree, as the kernel tells them."""

import os
import subprocess
import sys
import time

from bench.processes import Running

_BURN = """
import time
while time.process_time() < 0.15: pass
print(time.process_time(), flush=True)
input()
"""


def test_cpu_has_that_of_the_process_to_less_than_a_tick():
    running = Running(os.getpid(), 0, 0.0)
    before_s, begun_s = running.cpu_s(), time.process_time()
    while time.process_time() < begun_s + 0.003:
        pass
    used_s = time.process_time() - begun_s
    assert used_s <= running.cpu_s() - before_s < used_s + 0.1


def test_cpu_has_that_of_children_that_run_and_of_those_that_have_ended():
    running = Running(os.getpid(), 0, 0.0)
    before_s = running.cpu_s()
    child = subprocess.Popen([sys.executable, "-c", _BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    used_s = float(child.stdout.readline())
    assert running.cpu_s() - before_s >= used_s
    child.communicate(b"\n")
    assert running.cpu_s() - before_s >= used_s - 0.02  # of a child that has ended there are ticks
    assert running.memory_mb() > 1


def test_a_process_that_is_gone_costs_nothing():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert Running(child.pid, 0, 0.0).cpu_s() == 0

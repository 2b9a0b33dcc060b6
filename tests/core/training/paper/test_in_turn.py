# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of a machine that each read a whole model do so one after the other."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from fireedit_core.training.paper.stage import in_turn


@pytest.mark.slow
@pytest.mark.parametrize(("here", "machines"), [(3, 1), (2, 2)])
def test_one_process_of_a_machine_at_a_time(monkeypatch, here, machines):
    """Threads stand for the processes; `LOCAL_WORLD_SIZE` is what torch.distributed.run sets."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    world = here * machines
    barrier, lock, at_once, most = threading.Barrier(world, timeout=20), threading.Lock(), [0] * machines, [0] * machines

    def process(rank: int) -> int:
        machine = rank // here

        def make() -> int:
            with lock:
                at_once[machine] += 1
                most[machine] = max(most[machine], at_once[machine])
            time.sleep(0.05)
            with lock:
                at_once[machine] -= 1
            return rank

        return in_turn(SimpleNamespace(num_processes=world, local_process_index=rank % here, wait_for_everyone=barrier.wait), make)

    with ThreadPoolExecutor(world) as pool:
        assert list(pool.map(process, range(world))) == list(range(world))
    assert most == [1] * machines

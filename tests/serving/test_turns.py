"""The order in which jobs wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from unistep.serving.jobs import OWN, CallJob
from unistep.serving.latency import Latency
from unistep.serving.turns import Turns


def job(client: str, seconds: float = 1.0, what: str = "work") -> CallJob:
    latency = Latency()
    latency.observe(1, seconds)
    served: Any = SimpleNamespace(latency=lambda kind: latency)
    return CallJob(
        served=served, deadline=1e9, client=client, what=what, steps=1, items=1, call=lambda stop: torch.zeros(1)
    )


def add(turns: Turns, *jobs: CallJob) -> None:
    turns.assign(jobs)
    turns.add(jobs)


def served(turns: Turns) -> list[str]:
    """Clients in the order in which their jobs are done."""
    order = []
    while (first := turns.first) is not None:
        order.append(first.client)
        turns.remove([first])
    return order


def test_one_clients_jobs_stay_in_order():
    turns, jobs = Turns(), [job("a") for _ in range(5)]
    for one in jobs:
        add(turns, one)
    assert list(turns) == jobs


def test_whoever_comes_later_waits_for_one_job_of_each_other_client():
    turns = Turns()
    add(turns, *(job("greedy") for _ in range(50)))
    for _ in range(3):
        turns.remove([turns.first])
    add(turns, job("honest"), job("honest"))
    add(turns, job("third"))
    order = served(turns)
    assert order.index("honest") <= 2
    assert order.index("third") <= 2
    assert order[:8].count("greedy") >= 3  # and nobody waits for ever
    assert order.count("greedy") == 47


def test_turns_are_seconds_of_the_network():
    turns = Turns()
    add(turns, *(job("long", 10.0) for _ in range(3)))
    add(turns, *(job("short", 1.0) for _ in range(25)))
    order = served(turns)
    assert order[: order.index("long", 1)].count("short") in (9, 10)


def test_what_was_not_served_gives_no_credit():
    turns = Turns()
    add(turns, *(job("a") for _ in range(20)))
    assert served(turns) == ["a"] * 20
    add(turns, job("a"), job("b"), job("a"))
    assert served(turns) == ["a", "b", "a"]  # what was done while nobody else was there counts no more


def test_seconds_until_a_turn_are_of_those_before_it():
    turns = Turns()
    add(turns, *(job("greedy") for _ in range(50)))
    late = job("honest")
    turns.assign([late])
    assert turns.before(late.turn).seconds <= 2.0
    assert turns.before(late.turn + 1000.0).seconds == turns.seconds == 50.0


def test_seconds_follow_what_waits():
    turns = Turns()
    together = [job("a") for _ in range(4)]
    add(turns, *together)
    assert turns.seconds == 4.0  # each by itself
    for one in together[:3]:
        turns.remove([one])
    assert turns.seconds == 1.0
    groups = turns.before(1000.0)
    groups.add(job("b"))
    assert (groups.seconds, turns.seconds) == (2.0, 1.0)


def test_places_are_counted_but_for_the_servers_own():
    turns = Turns()
    add(turns, job("a"), job(OWN), job("a"))
    assert turns.shares.held("a") == turns.shares.total == 2
    assert len(turns.clear()) == 3
    assert turns.shares.total == len(turns) == 0

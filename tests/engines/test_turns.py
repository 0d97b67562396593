"""Who comes next: addresses take turns, so do their visitors, and nobody fills all lines or pushes others out."""

import threading
import time

import pytest

from jepa_app.engines.turns import BusyError, Lines, Turns, Visitor
from jepa_app.studio.jobs import Job, Jobs
from tests.support.studio_server import PATIENCE


def test_addresses_take_turns_and_so_do_their_visitors() -> None:
    lines = Lines[str]()
    for item in ("a1x", "a1y", "a1z", "a2x", "b1x", "b1y"):  # address, session, item
        lines.add(item, Visitor(item[0], item[1]))
    order = ["a1x", "b1x", "a2x", "b1y", "a1y", "a1z"]
    assert [lines.num_ahead(item) for item in order] == [0, 1, 2, 3, 4, 5]
    assert lines.remove("b1y", Visitor("b", "1"))
    assert not lines.remove("b1y", Visitor("b", "1"))
    assert (len(lines), lines.num_of("a"), lines.num_of("b"), lines.num_ahead("b1y")) == (5, 4, 1, 0)
    assert [lines.pop() for _ in range(5)] == ["a1x", "b1x", "a2x", "a1y", "a1z"]


def test_a_program_with_a_session_for_each_call_waits_as_one_visitor() -> None:
    lines = Lines[int]()
    for number in range(280):
        lines.add(number, Visitor("10.0.0.1", f"session {number}"))
    lines.add(1000, Visitor("10.0.0.2", "a person"))
    assert lines.num_ahead(1000) == 1
    assert lines.pop(skipped=["10.0.0.1"]) == 1000
    with pytest.raises(LookupError):
        lines.pop(skipped=["10.0.0.1"])
    assert lines.pop() == 0


def test_an_address_cannot_fill_the_lines() -> None:
    lines = Lines[int]()
    for number in range(3):
        lines.add(number, Visitor("a", str(number)))
    with pytest.raises(BusyError, match="3 pictures of yours are waiting already"):
        lines.check_room(Visitor("a", "new"), 10, 3, "pictures")
    lines.check_room(Visitor("b"), 10, 3, "pictures")
    lines.check_room(None, 10, 3, "pictures")  # somebody in this process
    with pytest.raises(BusyError, match="3 pictures are waiting already; try again"):
        lines.check_room(Visitor("b"), 3, 3, "pictures")


def test_one_works_while_the_others_wait_in_turn() -> None:
    turns, order = Turns("scores"), list[str]()
    first = turns.ask(Visitor("a", "1"))
    waiting = {name: turns.ask(Visitor(name[0], name)) for name in ("a1", "a2", "b1")}
    assert first.wait(0)
    assert {name: turn.num_ahead for name, turn in waiting.items()} == {"a1": 1, "b1": 2, "a2": 3}
    assert not waiting["a1"].wait(0.01)

    def work(name: str) -> None:
        assert waiting[name].wait(PATIENCE)
        order.append(name)
        time.sleep(0.02)
        waiting[name].close()

    workers = [threading.Thread(target=work, args=[name]) for name in waiting]
    for worker in workers:
        worker.start()
    first.close()
    for worker in workers:
        worker.join(PATIENCE)
    assert order == ["a1", "b1", "a2"]
    with turns.taken():
        pass


def test_who_leaves_the_line_does_not_hold_it_up() -> None:
    turns = Turns("scores", most=2, most_each=1)
    held, leaving, other = turns.ask(Visitor("a")), turns.ask(Visitor("a")), turns.ask(Visitor("b"))
    with pytest.raises(BusyError, match="2 scores are waiting already"):
        turns.ask(Visitor("c"))
    leaving.close()
    with pytest.raises(BusyError, match="1 scores of yours"):
        turns.ask(Visitor("b"))
    held.close()
    assert other.wait(0)


def test_nobody_pushes_the_kept_runs_of_others_out() -> None:
    jobs = Jobs(capacity=8)
    mine = jobs.keep(Job(), Visitor("10.0.0.2", "me"))
    flood = [jobs.keep(Job(), Visitor("10.0.0.1", f"session {number}")) for number in range(64)]
    assert jobs.get(mine.name) is mine
    assert len(jobs) == 8
    assert jobs.get(flood[-1].name) is flood[-1]
    with pytest.raises(ValueError, match="no longer kept"):
        jobs.get(flood[0].name)


def test_of_one_visitor_the_oldest_run_goes_first() -> None:
    jobs = Jobs(capacity=3)
    kept = [jobs.keep(Job(), None) for _ in range(5)]
    for job in kept[2:]:
        assert jobs.get(job.name) is job
    for job in kept[:2]:
        with pytest.raises(ValueError, match="no longer kept"):
            jobs.get(job.name)

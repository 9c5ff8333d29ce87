from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from maquette.backend.server.estimate import Clock, Timing, percent
from maquette.backend.server.jobs import RESTARTED, JobStore, QueueFull
from maquette.backend.wire import JobError, VideoPlan

PLAN = VideoPlan(100, 100, 100, 24.0)
ENDED = ("completed", "failed", "cancelled")


def add(store: JobStore, client: str = "a", **more: Any):
    return store.create(client, "x", "m", 10, PLAN, ["fitted"], **{"max_queue": 100, **more})


@pytest.fixture
def store(tmp_path: Path):
    store = JobStore(tmp_path / "jobs.sqlite")
    yield store
    store.close()


class StoreMachine(RuleBasedStateMachine):
    """Whatever is done in whatever order, deaths included, no job is lost and none runs twice at a time."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "jobs.sqlite"
        self.store = JobStore(self.path)
        self.known: dict[str, str] = {}

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @rule(target=jobs)
    def create(self) -> str:
        job = add(self.store)
        self.known[job.id] = "queued"
        return job.id

    @rule()
    def claim(self) -> None:
        if "in_progress" in self.known.values():
            return
        queued = [job for job, status in self.known.items() if status == "queued"]
        job = self.store.claim()
        assert (job.id if job else None) == (queued[0] if queued else None)
        if job:
            self.known[job.id] = "in_progress"

    @rule(job=jobs, status=st.sampled_from(ENDED))
    def finish(self, job: str, status: str) -> None:
        running = self.known.get(job) == "in_progress"
        error = JobError("x", "y") if status == "failed" else None
        assert self.store.finish(job, status, error=error, notes=("fitted", "more")) is running
        if running:
            self.known[job] = status

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        self.store.request_cancel(job)
        if self.known.get(job) == "queued":
            self.known[job] = "cancelled"

    @rule(job=jobs, step=st.integers(0, 10))
    def progress(self, job: str, step: int) -> None:
        self.store.progress(job, "denoising", step, 10, percent("denoising", step, 10), None)

    @rule(job=jobs)
    def delete(self, job: str) -> None:
        if self.store.delete(job):
            assert self.known.pop(job) in ENDED
        else:
            assert self.known.get(job) not in ENDED

    @rule(gently=st.booleans())
    def restart(self, gently: bool) -> None:
        running = [job for job, status in self.known.items() if status == "in_progress"]
        marked = {job: self.store.get(job).cancel_requested for job in running}
        if gently:
            for job in running:
                self.store.requeue(job)
        self.store.close()
        self.store = JobStore(self.path)
        self.store.recover(max_attempts=1000)
        for job in running:
            self.known[job] = "cancelled" if marked[job] else "queued"

    @invariant()
    def nothing_is_lost(self) -> None:
        seen = {job.id: job for job in self.store.of_client("a")}
        assert {job: data.status for job, data in seen.items()} == self.known
        waiting = [job.id for job in self.store.waiting()]
        for job in seen.values():
            view = self.store.view(job)
            assert (view.queue_position is not None) == (job.status == "queued")
            if job.status == "queued":
                assert waiting[view.queue_position] == job.id
            assert (view.finished_at is not None) == job.ended
            assert 0 <= view.progress <= 100


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def test_the_queue_has_an_end(store: JobStore):
    for _ in range(3):
        add(store, max_queue=3)
    with pytest.raises(QueueFull):
        add(store, max_queue=3)


def test_only_one_of_many_takes_a_job(store: JobStore):
    ids = [add(store).id for _ in range(20)]
    taken: list[str] = []

    def take() -> None:
        while job := store.claim():
            taken.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


def test_a_restart_keeps_attempts_only_when_it_was_no_choice(store: JobStore):
    job = add(store)
    for _ in range(5):
        store.claim()
        store.count_attempt(job.id)
        store.requeue(job.id, forgive=True)
    assert store.get(job.id).attempts == 0 and store.get(job.id).notes == ("fitted", RESTARTED)
    for _ in range(5):
        # It died before the first denoising step.
        store.claim()
        store.recover(max_attempts=3)
    for _ in range(3):
        assert store.claim().id == job.id
        store.count_attempt(job.id)
        store.recover(max_attempts=3)
    assert store.get(job.id).status == "failed"


def test_clients_take_turns_and_what_was_interrupted_comes_first(store: JobStore):
    for client, count in (("a", 4), ("b", 2), ("c", 1)):
        for _ in range(count):
            add(store, client)
    assert [job.client for job in store.waiting()] == list("abcabaa")
    first = store.claim()
    assert first.client == "a" and [job.client for job in store.waiting()] == list("bcabaa")
    add(store, "d")
    store.requeue(first.id)
    assert store.waiting()[0].id == first.id
    done = []
    while job := store.claim():
        store.finish(job.id, "completed")
        done.append(job.client)
        waiting = store.waiting()
        assert [store.view(each).queue_position for each in waiting] == list(range(len(waiting)))
    assert "".join(done) == "abcdabaa"


def test_what_is_urgent_comes_before_its_clients_other_jobs(store: JobStore):
    jobs = [add(store, client, urgency=urgency).id for client, urgency in (("a", 3), ("a", 5), ("b", 3), ("a", 2))]
    assert [jobs.index(job.id) for job in store.waiting()] == [2, 3, 0, 1]


def test_everybody_has_a_share_of_the_queue(store: JobStore):
    for client, share in (("a", 6), ("b", 3), ("c", 2), ("a", 0)):
        for _ in range(share):
            add(store, client, max_queue=6)
        with pytest.raises(QueueFull):
            add(store, client, max_queue=6)
    # However many they are, there is an end.
    with pytest.raises(QueueFull):
        for number in range(100):
            add(store, str(number), max_queue=6)
    assert len(store.waiting()) == store.size == 24


def test_an_upload_sent_again_makes_no_second_job(store: JobStore):
    job = add(store, upload_key="key-of-it")
    assert add(store, upload_key="key-of-it").id == job.id
    assert add(store, "b", upload_key="key-of-it").id != job.id
    store.request_cancel(job.id)
    again = add(store, upload_key="key-of-it")
    assert again.id != job.id and store.by_key("a", "key-of-it") == again
    assert len(store.of_client("a")) == 2


def test_a_clock_that_jumps_back(store: JobStore, monkeypatch: pytest.MonkeyPatch):
    job = add(store)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 1e9)
    store.claim()
    store.progress(job.id, "denoising", 5, 10, 50.0, 13.0)
    assert store.view(store.get(job.id)).eta_seconds == pytest.approx(13, abs=5)
    store.finish(job.id, "completed")
    job = store.get(job.id)
    assert job.created_at <= job.started_at <= job.finished_at


def test_pages(store: JobStore):
    ids = [add(store).id for _ in range(5)]
    first = store.of_client("a", 3)
    assert [job.id for job in first] == ids[:1:-1]
    assert [job.id for job in store.of_client("a", 3, first[-1].seq)] == ids[1::-1]


def test_listeners_hear_every_change(store: JobStore):
    heard = []
    stop = store.subscribe(lambda: heard.append(1))
    job = add(store)
    store.request_cancel(job.id)
    assert len(heard) == 2
    store.request_cancel(job.id)
    assert len(heard) == 2, "nothing has changed"
    stop()
    store.delete(job.id)
    assert len(heard) == 2


def test_a_full_disk_is_tried_once_more(store: JobStore, monkeypatch: pytest.MonkeyPatch):
    class Full:
        def __init__(self, times: int) -> None:
            self.times = times

        def execute(self, sql: str, values: tuple = ()):
            if sql.startswith("INSERT INTO jobs") and self.times:
                self.times -= 1
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorname = "SQLITE_FULL"
                raise error
            return db.execute(sql, values)

        def close(self) -> None:
            db.close()

    db = store._db
    store._db = Full(1)
    with pytest.raises(sqlite3.OperationalError):
        add(store)
    made: list[bool] = []
    store._make_room = lambda: made.append(True) is None
    store._db = Full(1)
    assert add(store).status == "queued" and made == [True]


def test_time_left_in_the_queue(store: JobStore):
    first, second = add(store), add(store)
    assert store.view(second).eta_seconds is None, "nothing measured yet"
    store.save_timing("m", Timing(head=1.0, step=2.0, tail=3.0))
    # 1 + 10 x 2 + 3 seconds for each, at one million pixels.
    assert store.view(first).eta_seconds == 24 and store.view(second).eta_seconds == 48
    store.claim()
    store.progress(first.id, "denoising", 5, 10, 50.0, 13.0)
    assert store.view(store.get(second.id)).eta_seconds == pytest.approx(37, abs=1)


def run_clock(known: Timing | None) -> tuple[list[float | None], Timing | None]:
    """A job of 1 s encoding, 4 steps of 2 s after a first of 5 s, 3 s decoding, 1 s writing; work 0.5."""
    now = [0.0]
    clock = Clock(0.5, 5, known, lambda: now[0])
    etas = [clock.update("loading", 0, 0)]
    for seconds, stage, step, steps in [
        (10, "encoding", 0, 0), (1, "denoising", 0, 5), (5, "denoising", 1, 5), (2, "denoising", 2, 5),
        (2, "denoising", 3, 5), (2, "denoising", 4, 5), (2, "denoising", 5, 5), (0, "decoding", 0, 1),
        (3, "writing", 0, 9),
    ]:  # fmt: skip
        now[0] += seconds
        etas.append(clock.update(stage, step, steps))
    now[0] += 1
    return etas, clock.finish()


def test_time_left_without_history():
    etas, timing = run_clock(None)
    # Nothing before the first step; then its time; from the second on the first, which warms up, does not count.
    assert etas == [None, None, None, 20.0, 6.0, 4.0, 2.0, 0.0, None, None]
    assert timing == Timing(head=2.0, step=4.0, tail=8.0)


def test_time_left_with_history():
    etas, _ = run_clock(Timing(head=2.0, step=4.0, tail=8.0))
    assert etas == [15.0, 15.0, 14.0, 12.0, 10.0, 8.0, 6.0, 4.0, 4.0, 1.0]


def test_a_job_too_short_to_measure_leaves_no_timing():
    clock = Clock(1.0, 1, None)
    clock.update("denoising", 1, 1)
    assert clock.finish() is None


def test_progress_never_falls():
    stages = ["loading", "encoding", "denoising", "decoding", "writing"]
    seen = [percent(stage, step, 4) for stage in stages for step in range(5)]
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 100
    assert percent("other", 1, 2) == 0 and percent("denoising", 9, 4) == 90

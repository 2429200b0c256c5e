"""When packets are due: at a clock of the test's own."""

import threading

import pytest

from netbpf.traffic.pace import Flood, Recorded, Steady


class Clock:
    """A monotonic clock that moves when it is told, and when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 10**12
        monkeypatch.setattr("netbpf.traffic.pace.time.monotonic_ns", lambda: self.now)
        monkeypatch.setattr("netbpf.traffic.pace.time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Stop(threading.Event):
    """A stop that is waited for by the test's clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._own = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._own.sleep(timeout or 0)
        return False


@pytest.mark.parametrize("rate", [0.5, 3, 1000, 123_457, 2_000_000])
def test_packets_leave_at_their_rate_and_nothing_adds_up(clock: Clock, rate: float) -> None:
    steady, stop, begin = Steady(rate), Stop(clock), clock.now
    done = calls = 0
    while done < 5000:
        due = steady.allowed(done)
        assert due >= 0
        if due:
            # Not one before its time.
            assert done + due <= (clock.now - begin) * rate / 1e9 + 1
            done += due
            calls += 1
        else:
            steady.wait(done, stop)
    seconds = (clock.now - begin) / 1e9
    assert seconds == pytest.approx((done - 1) / rate, rel=0.001, abs=0.001)
    assert not steady.behind
    assert calls <= seconds / 0.0004 + 1  # groups of half a millisecond, not a call for each


def test_slow_packets_leave_one_by_one(clock: Clock) -> None:
    steady, stop = Steady(100), Stop(clock)
    for done in range(20):
        while not (due := steady.allowed(done)):
            steady.wait(done, stop)
        assert due == 1


def test_a_short_pause_is_made_good_and_a_long_one_is_told(clock: Clock) -> None:
    steady = Steady(10_000)
    clock.sleep(0.02)
    assert steady.allowed(0) == 201
    assert not steady.behind
    clock.sleep(5)
    assert steady.allowed(201) <= 0.05 * 10_000 + 2
    assert steady.behind


def test_recorded_times(clock: Clock) -> None:
    recorded, stop, begin = Recorded(2.0), Stop(clock), clock.now
    times = [0, 1_000_000, 1_000_000, 5_000_000, 400_000_000]
    recorded.use(0, times)
    left = []
    done = 0
    while done < 5:
        due = recorded.allowed(done)
        left += [clock.now - begin] * due
        done += due
        if not due:
            recorded.wait(done, stop)
    assert left == [0, 500_000, 500_000, 2_500_000, 200_000_000]  # twice as fast
    assert not recorded.behind
    recorded.use(5, [500_000_000])
    clock.sleep(1)
    assert recorded.allowed(5) == 1
    assert recorded.behind


def test_a_flood_waits_for_nothing() -> None:
    assert Flood().allowed(10**9) > 10**12

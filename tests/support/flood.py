"""Frames without end, sent by a process of its own.

A thread would take turns with the test's own code (the interpreter's lock): the test would take several times as long,
and few frames would be sent just when it matters, while netbpf is at work.
"""

import os
import select
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from netns_fixtures.sockets import sender
from netns_fixtures.topology import End

_AT_ONCE: Final = 8  # frames sent between two looks at whether it is over
_COUNT: Final = struct.Struct("=Q")


class Flood:
    """``sent`` is how many frames there were, once it is over."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.sent = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is sent until the block ends: who reads what arrived would otherwise never come to an end."""
        os.kill(self._pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, self._pid, os.WSTOPPED)
            yield
        finally:
            os.kill(self._pid, signal.SIGCONT)


@contextmanager
def flood(end: End, frame: bytes, *, pause: float = 0.0) -> Iterator[Flood]:
    """Send ``frame`` out of ``end`` again and again until the block ends, with ``pause`` seconds after every eighth.

    The first ones are sent when the block begins. All of them have gone through the other end's hooks when it is over:
    on a veth the receiving side runs within the send.
    """
    sock = sender(end.namespace, end.ifname)
    stop, stopping = os.pipe()
    counted, counting = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(stopping)
        _send(sock.send, frame, pause, stop, counting)
    made, words = Flood(pid), b""
    try:
        os.close(stop)
        os.close(counting)
        assert os.read(counted, 1), "nothing could be sent"
        yield made
    finally:
        os.close(stopping)
        while read := os.read(counted, _COUNT.size):
            words += read
        os.close(counted)
        os.waitpid(pid, 0)
        sock.close()
    assert len(words) == _COUNT.size, "the sender ended early"
    [made.sent] = _COUNT.unpack(words)


def _send(send: Callable[[bytes], int], frame: bytes, pause: float, stop: int, result: int) -> None:
    """The process: ends when the other side of ``stop`` is closed, by the block's end or the test's."""
    # Ctrl-C is for the test; this ends with it all the same.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status, number = 1, 0
    try:
        while not select.select([stop], [], [], pause)[0]:  # readable: its other side is closed
            for _ in range(_AT_ONCE):
                send(frame)
            if not number:
                os.write(result, b"!")
            number += _AT_ONCE
        os.write(result, _COUNT.pack(number))
        status = 0
    finally:
        os._exit(status)  # nothing of the test's may be ended or flushed here

"""What programs print with bpf_printk(), with the program and source line that printed it.

Usually read from ``trace_pipe``, which gives each line to one reader only and does not tell which program it is from.
The helper also is a tracepoint, ``bpf_trace:bpf_trace_printk`` (Linux 5.9, kernel commit ac5a72ea5c89): a perf event on
it gets every line too and takes none from anybody, is gone with its descriptor, needs no mounted tracefs, counts what
is lost - and records the kernel's call chain, in which the program is by the address of its machine code.
"""

import errno
import select
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.perf_output import tracepoint_event
from netbpf.bpf.hookup import tracepoint_id
from netbpf.bpf.perfring import BPF_EVENT, HEADER, LOST, SAMPLE, PerfRing, online_cpus
from netbpf.errors import KernelError, NotAttachedError, NotSupportedError
from netbpf.insight.choose import Wanted
from netbpf.listen.buffers import tail_called
from netbpf.listen.trace_programs import Place, ProgramTable
from netbpf.model import Attachment
from netbpf.text import escape

TRACEPOINT: Final = "bpf_trace/bpf_trace_printk"
_SAMPLE: Final = struct.Struct("<IIQQ")  # pid, tid, time, number of addresses
_LOADED, _UNLOADED = 1, 2  # PERF_BPF_EVENT_PROG_LOAD, _UNLOAD
_TEXT_AT: Final = 8  # of the tracepoint's record: where its text is, u16 offset and u16 length
_PAGES: Final = 64  # for each CPU
_AGAIN: Final = 1.0  # seconds after which a program that was on no hook is looked for again
_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class TraceLine:
    """One call of bpf_printk(). ``time_ns`` is Unix time, ``pid`` the thread that was interrupted or sent the packet.

    ``place`` is None where the program is not known: unloaded before it was looked at, interpreted, or its addresses
    are hidden. ``hooks`` are the hooks of the namespace on which that program runs, such as ``eth0 xdp``: which
    of several it was on, nothing tells. ``member`` is the member of a chain.
    """

    time_ns: int
    cpu: int
    pid: int
    task: str
    text: str
    place: Place | None = None
    hooks: tuple[str, ...] = ()
    member: str = ""


class Trace:
    """Lines as they come. Close it, or use it as a context manager.

    ``lines`` and ``unknown`` count those that were given, and those that a filter left out because nothing tells whose
    they are.
    """

    def __init__(
        self,
        status: Callable[[], list[Attachment]],
        *,
        interface: str | None = None,
        program: Wanted | None = None,
    ) -> None:
        """``status`` gives the attachments of a namespace; only lines of programs on ``interface``, or of ``program``.

        Raises NotAttachedError where there is no program on the interface, PermissionDeniedError without CAP_SYS_ADMIN
        and CAP_PERFMON, NotSupportedError before Linux 5.9.
        """
        self._status, self._interface, self._program = status, interface, program
        self._hooks: dict[int, dict[str, Attachment]] = {}
        self._looked = _NEVER
        number = _tracepoint()
        self._look()
        if interface is not None and not any(
            one.occupant.interface.name == interface
            for hooks in self._hooks.values()
            for one in hooks.values()
        ):
            raise NotAttachedError(f"no XDP or TC program on {escape(interface)}")
        self.lines = self.unknown = self._lost = 0
        with ExitStack() as undo:
            self._poll = undo.enter_context(select.epoll())
            self._rings: list[PerfRing] = []
            for cpu in online_cpus():
                self._rings.append(undo.enter_context(_ring(number, cpu)))
                self._poll.register(self._rings[-1].event.fileno(), select.EPOLLIN)
            # After the events: a program that is loaded meanwhile is in one or the other.
            self._programs = ProgramTable()
            self._stack = undo.pop_all()

    @property
    def lost(self) -> int:
        """Lines, loads and unloads that found no room, on all CPUs, by the kernel's count."""
        return sum(one.lost for one in self._rings)

    def read(self, timeout: float | None = None) -> list[TraceLine]:
        """What was printed, in order of time; waits up to ``timeout`` seconds, None: for ever. Empty: nothing came."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            found = [line for line in self._records() if self._wanted(line)]
            if found:
                self.lines += len(found)
                return found
            left = -1 if end is None else end - time.monotonic()
            if end is not None and left <= 0:
                return []
            self._poll.poll(left)

    def __iter__(self) -> Iterator[TraceLine]:
        """Every line from now on; without an end."""
        while True:
            yield from self.read()

    # --- records ---

    def _records(self) -> list[TraceLine]:
        taken = sorted(record for ring in self._rings for record in _split(ring))
        if self.lost != self._lost:
            # Loads and unloads may be among what was lost, and addresses may belong to others now.
            self._lost, self._programs = self.lost, ProgramTable()
        offset, tasks = time.time_ns() - time.monotonic_ns(), dict[int, str]()
        found = []
        for time_ns, cpu, kind, data in taken:
            if kind == BPF_EVENT:
                what, _, number = struct.unpack_from("<HHI", data, 8)
                if what == _LOADED:
                    self._programs.add(number)
                elif what == _UNLOADED:
                    self._programs.remove(number)
                continue
            _, thread, _, count = _SAMPLE.unpack_from(data, 8)
            behind = 8 + _SAMPLE.size + 8 * count
            place = self._programs.find(struct.unpack_from(f"<{count}Q", data, 8 + _SAMPLE.size))
            hooks, member = self._where(place)
            if thread not in tasks:
                tasks[thread] = _task(thread)
            found.append(
                TraceLine(
                    time_ns + offset, cpu, thread, tasks[thread], _text(data[behind + 4 :]), place, hooks, member
                )
            )  # fmt: skip
        return found

    # --- where programs run ---

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._hooks = {}
        for one in self._status():
            occupant = one.occupant
            hook = f"{occupant.interface.name} {occupant.hook}"
            numbers = {one.program.id, *(each.prog_id for each in one.neighbours)}
            numbers |= {each.id for each in tail_called(one.program.map_ids)}
            for number in numbers:
                self._hooks.setdefault(number, {})[hook] = one

    def _where(self, place: Place | None) -> tuple[tuple[str, ...], str]:
        """The hooks of a program, and the member of a chain whose function it is."""
        if place is None:
            return (), ""
        if place.program_id not in self._hooks and time.monotonic() - self._looked > _AGAIN:
            self._look()
        hooks = self._hooks.get(place.program_id, {})
        for one in hooks.values():
            for member in one.members if one.is_chain else ():
                if place.function in (member.program, member.name):
                    return tuple(hooks), member.name
        return tuple(hooks), ""

    def _wanted(self, line: TraceLine) -> bool:
        if self._interface is None and self._program is None:
            return True
        if line.place is None:
            self.unknown += 1
            return False
        if self._program is not None:
            place, names = line.place, (line.place.program, line.place.function, line.member)
            if not any(self._program.fits(place.program_id, name) for name in names if name):
                return False
        return self._interface is None or any(
            hook.startswith(f"{self._interface} ") for hook in line.hooks
        )

    def close(self) -> None:
        """Stop listening; nothing stays behind."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _tracepoint() -> int:
    try:
        return tracepoint_id(TRACEPOINT)
    except NotSupportedError:
        raise NotSupportedError(
            f"this kernel has no tracepoint {TRACEPOINT}, by which lines are read (Linux 5.9)",
            hint="cat /sys/kernel/tracing/trace_pipe",
        ) from None


def _ring(number: int, cpu: int) -> PerfRing:
    try:
        event, counts = tracepoint_event(number, cpu)
    except KernelError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise permission_error("read what programs print", Capability.PERFMON) from None
        raise
    return PerfRing(event, counts, cpu, _PAGES)


def _split(ring: PerfRing) -> Iterator[tuple[int, int, int, bytes]]:
    """(time, CPU, type, record) of what waits in one ring, which then is empty."""
    data, at = ring.take(), 0
    while at < len(data):
        kind, _, size = HEADER.unpack_from(data, at)
        record = data[at : at + size]
        if kind == SAMPLE:
            yield _SAMPLE.unpack_from(record, 8)[2], ring.cpu, kind, record
        elif kind == BPF_EVENT:
            # The time is at the end of records that are no samples (sample_id_all): pid, tid, time.
            yield struct.unpack_from("<Q", record, size - 8)[0], ring.cpu, kind, record
        elif kind == LOST:
            ring.tell(struct.unpack_from("<Q", record, 16)[0])
        at += size
    if at:
        ring.give(at)


def _text(raw: bytes) -> str:
    offset, length = struct.unpack_from("<HH", raw, _TEXT_AT)
    text = raw[offset : offset + length].split(b"\0")[0].decode(errors="backslashreplace")
    return text.removesuffix("\n")


def _task(thread: int) -> str:
    """A thread's name when the line is read, "" where it has ended meanwhile."""
    if thread == 0:
        return "swapper"
    try:
        with open(f"/proc/{thread}/comm", errors="backslashreplace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""

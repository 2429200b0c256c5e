"""Watching what goes wrong: XDP exceptions, failed redirects, packets that could not be sent, and drops by reason."""

import errno
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Final, Literal, Self

from netbpf._sys.memlock import without_memlock_limit
from netbpf.bpf.btf.kernel import kernel_btf
from netbpf.constants import Hook, XdpAction
from netbpf.errors import InterfaceNotFoundError, UsageError
from netbpf.listen.monitor_causes import Facts, Words, words
from netbpf.listen.monitor_model import Count, Happening, Kind, Lost, Reading, Suspect
from netbpf.listen.monitor_probes import Place, Probes, Raw, Scope, Tally
from netbpf.listen.monitor_reasons import Reasons, hook_of
from netbpf.listen.monitor_reasons import words as reason_words
from netbpf.listen.monitor_scene import Scene
from netbpf.manager.status import opened
from netbpf.model import Interface
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netbpf.text import escape

Drops = Literal["programs", "all", "none"]
# Python calls the first one ENOTSUP, and libc does not know the second (include/linux/errno.h).
_KERNEL_NAMES: Final = {errno.EOPNOTSUPP: "EOPNOTSUPP", 524: "ENOTSUPP"}
_NO_VERDICT: Final = -1
_COUNTED_AS: Final = {
    XdpAction.ABORTED: "aborted", XdpAction.DROP: "drop", XdpAction.PASS: "pass", XdpAction.TX: "tx",
    XdpAction.REDIRECT: "redirect",
}  # fmt: skip
_ORDER: Final = {kind: number for number, kind in enumerate(Kind)}
_WITHOUT_INTERFACE: Final = (Kind.CPUMAP_ENQUEUE, Kind.CPUMAP_KTHREAD, Kind.CPUMAP_PROGRAM)


class Monitor:
    """What goes wrong from now on, until it is closed. ``read`` gives the counts; they are exact at any rate.

    ``missing`` are tracepoints that this kernel lacks, or has with other arguments.
    """

    def __init__(
        self,
        interface: str | None = None,
        *,
        netns: str | Namespace | None = None,
        all_netns: bool = False,
        drops: Drops = "programs",
    ) -> None:
        """``drops`` are those of interfaces with a program, of all, or none.

        Raises InterfaceNotFoundError, NamespaceNotFoundError, NotSupportedError (BTF; no tracepoint),
        PermissionDeniedError (CAP_BPF and CAP_PERFMON; CAP_SYS_ADMIN to read programs by their id), UsageError.
        """
        if all_netns and (interface is not None or netns is not None):
            raise UsageError("all namespaces and one interface or namespace contradict each other")
        self._drops = drops
        self.interface = interface
        self._seen: dict[tuple[object, ...], _Row] = {}
        self._stack = ExitStack()
        with ExitStack() as undo:
            undo.enter_context(self._stack)
            self.namespace = self._stack.enter_context(opened(netns)).duplicate()
            self._stack.callback(self.namespace.close)
            self._place = self._resolved()
            self._scene = Scene(self.namespace, interface, everywhere=all_netns)
            self._stack.callback(self._scene.close)
            scope = Scope(
                0 if all_netns else self.namespace.inode,
                interface is not None,
                drops == "all",
            )
            self._probes = without_memlock_limit(
                lambda: Probes(scope, self._watched(), without_drops=drops == "none")
            )
            self._stack.callback(self._probes.close)
            # A cpumap belongs to no interface: those of programs that run here matter, or have run here meanwhile.
            self._maps = None if all_netns else self._scene.map_ids(self._place)
            self._reasons = Reasons(kernel_btf())
            undo.pop_all()
        self.missing = self._probes.missing
        self._at = time.monotonic()

    def _resolved(self) -> Place | None:
        """Where the named interface is: one that goes and comes again has another index."""
        if self.interface is None:
            return None
        with Session(self.namespace) as session:
            found = resolve(session, self.interface)
        return Place(found.netns, found.index)

    def _watched(self) -> set[Place]:
        return {self._place} if self._place else self._scene.places

    @property
    def interfaces(self) -> int:
        """How many interfaces have programs, or 1 where one was named."""
        return len(self._watched())

    def read(self) -> Reading:
        """Everything that went wrong so far, and how much of it since the last reading."""
        if self._scene.refresh():
            with suppress(InterfaceNotFoundError):  # it may come again
                self._place = self._resolved()
            self._probes.watch(self._watched())
            if self._maps is not None:
                self._maps |= self._scene.map_ids(self._place)
        now = time.monotonic()
        seconds, self._at = now - self._at, now
        found = [one for one in self._probes.read().items() if self._concerns(one[0])]
        for row in self._seen.values():
            row.before, row.now = row.now, (0, 0)
        # What came meanwhile has no order in time: it is told from the program to the driver.
        for raw, tally in sorted(found, key=lambda one: (_ORDER[one[0].kind], one[0][1:])):
            self._add(raw, tally)
        crowded, nested = self._probes.crowded(), self._probes.nested()
        lost = Lost(tuple(crowded.items()), tuple(nested.items()))
        counts = tuple(self._count(row) for row in self._seen.values())
        return Reading(time.time(), seconds, counts, lost)

    def _concerns(self, raw: Raw) -> bool:
        return self._maps is None or raw.kind not in _WITHOUT_INTERFACE or raw.map_id in self._maps

    def _add(self, raw: Raw, tally: Tally) -> None:
        # One function drops at several addresses.
        key = (*raw[:-1], tally.function)
        row = self._seen.get(key)
        if row is None:
            row = self._seen[key] = _Row(raw, tally, Happening(raw.kind))
        row.raw, row.tally = raw, tally
        row.now = (row.now[0] + tally.events, row.now[1] + tally.packets)

    def _count(self, row: "_Row") -> Count:
        events, packets = row.now
        new_events, new_packets = events - row.before[0], packets - row.before[1]
        if new_events:
            row.happening = self._happening(row)
        return Count(row.happening, events, packets, new_events, new_packets)

    # --- in words ---

    def _happening(self, row: "_Row") -> Happening:
        raw, tally = row.raw, row.tally
        names = self._scene.netns_names
        found = Happening(
            raw.kind,
            _interface(raw.at, tally.interface) if raw.at.ifindex else None,
            names.get(raw.at.netns),
            target=_interface(raw.to, tally.target) if raw.to.ifindex else None,
            target_netns=names.get(raw.to.netns),
            map_id=raw.map_id,
            function=tally.function,
            example=tally.last,
            alike=tally.first == tally.last,
        )
        found = self._named(found)
        if raw.kind is Kind.DROP:
            return self._drop(raw, found)
        if raw.kind is Kind.EXCEPTION:
            verdict = (
                str(tally.last) if raw.code == _NO_VERDICT else f"XDP_{XdpAction(raw.code).name}"
            )
            counted = "other" if raw.code == _NO_VERDICT else _COUNTED_AS[XdpAction(raw.code)]
            suspect = self._scene.suspect(raw.prog_id, tally.program, counted)
            found = replace(found, program=suspect, hook="xdp", verdict=verdict)
        elif raw.kind is Kind.REDIRECT:
            suspect = self._scene.suspect(raw.prog_id, tally.program, "redirect")
            found = replace(found, program=suspect, hook="xdp", errno=-raw.code)
        elif raw.kind in _WITHOUT_INTERFACE:
            found = replace(found, cpu=raw.code, program=self._scene.user_of(raw.map_id))
        else:
            counted = "tx" if raw.kind is Kind.BULK_TX else "redirect"
            suspect_there = self._scene.suspect_on(raw.at, Hook.XDP, counted)
            found = replace(found, program=suspect_there, hook="xdp", errno=max(-raw.code, 0))
        said = words(self._facts(raw, found))
        return replace(found, cause=said.cause, advice=said.advice)

    def _named(self, found: Happening) -> Happening:
        """With the names that the kernel did not write down: an interface by its index, the map."""
        if found.map_id and (info := self._scene.map(found.map_id)):
            found = replace(found, map_name=info.name)
        return replace(
            found, interface=self._with_name(found.interface), target=self._with_name(found.target)
        )

    def _with_name(self, one: Interface | None) -> Interface | None:
        if one is None or one.name:
            return one
        looked = self._scene.look(Place(one.netns, one.index))
        return replace(one, name=looked[0].name) if looked else one

    def _drop(self, raw: Raw, found: Happening) -> Happening:
        reason = self._reasons.name(raw.code)
        hook = hook_of(reason, found.function)
        suspect: Suspect | None = None
        several = 0
        if hook is not None:
            verdict = "drop" if hook is Hook.XDP else "shot"
            suspect = self._scene.suspect_on(raw.at, hook, verdict)
            several = len(self._scene.on(raw.at, hook))
        said: Words = reason_words(
            reason, function=found.function, interface=_shown(found.interface), programs=several
        )
        return replace(
            found, reason=reason, hook=hook.value if hook else "", program=suspect, cause=said.cause,
            advice=said.advice,
        )  # fmt: skip

    def _facts(self, raw: Raw, found: Happening) -> Facts:
        where = found.target or (found.interface if raw.kind is Kind.BULK_TX else None)
        looked = (
            self._scene.look(Place(where.netns, where.index)) if where and raw.code < 0 else None
        )
        info = self._scene.map(raw.map_id) if raw.map_id else None
        # The types of a program's maps matter only where it may be about one that had no entry.
        aborted = raw.kind is Kind.EXCEPTION and raw.code == XdpAction.ABORTED
        maps = self._scene.redirects_through(raw.prog_id) if aborted else set()
        return Facts(
            raw.kind,
            raw.code,
            _shown(found.interface),
            _shown(found.target),
            found.example,
            found.alike,
            driver=looked[1] if looked else "",
            mtu=looked[0].mtu if looked else 0,
            flags=looked[0].flags if looked else None,
            peer=escape(looked[2]) if looked else "",
            map_type=info.type if info else 0,
            map_name=escape(found.map_name),
            maps=frozenset(maps),
        )

    def close(self) -> None:
        """Stop watching; nothing stays in the kernel."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(slots=True)
class _Row:
    """Something that happened, with (events, packets) of this reading and of the one before."""

    raw: Raw
    tally: Tally
    happening: Happening
    now: tuple[int, int] = (0, 0)
    before: tuple[int, int] = (0, 0)


def _interface(place: Place, name: str) -> Interface:
    return Interface(name, place.ifindex, place.netns)


def _shown(interface: Interface | None) -> str:
    if interface is None:
        return ""
    return escape(interface.name) or f"interface {interface.index}"


def error_name(number: int) -> str:
    """``EOPNOTSUPP``; "" for 0."""
    if number in _KERNEL_NAMES:
        return _KERNEL_NAMES[number]
    return errno.errorcode.get(number, str(number)) if number else ""

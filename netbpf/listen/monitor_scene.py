"""Who is where: the interfaces, programs and members that a monitor names, asked of the kernel as it goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.constants import Hook
from netbpf.errors import InterfaceNotFoundError, NetbpfError
from netbpf.listen.monitor_model import Suspect
from netbpf.listen.monitor_probes import Place
from netbpf.live.members import MemberCounts
from netbpf.manager.status import status
from netbpf.model import Attachment, MapInfo
from netbpf.net.devices import Device, device, other_end
from netbpf.net.ethtool import driver
from netbpf.net.netns import Namespace, all_namespaces, names
from netbpf.net.rtnetlink import Session

# Looking at everything takes milliseconds for each namespace: at most so much of the time goes into it.
_SHARE: Final = 0.1


class Scene:
    """What is attached where, looked at again with ``refresh``. Close it, or use it as a context manager."""

    def __init__(self, namespace: Namespace, interface: str | None, *, everywhere: bool) -> None:
        """Raises what ``status`` raises; InterfaceNotFoundError for an interface that is not there."""
        self.namespace = namespace
        self._interface = interface
        self._everywhere = everywhere
        self._found: dict[tuple[Place, Hook], list[Attachment]] = {}
        self._counts: dict[int, MemberCounts] = {}
        # By the map of the counters, which stays when a chain gets other members.
        self._before: dict[int, dict[str, dict[str, int]]] = {}
        self._maps: dict[int, int] = {}
        self._first = True
        self._next = 0.0
        self.netns_names: dict[int, str] = {}
        self.refresh()

    # --- looking ---

    def refresh(self) -> bool:
        """Look again, unless that was just done and takes long; whether it was done."""
        started = time.monotonic()
        if started < self._next:
            return False
        try:
            attachments = status(
                self._interface,
                netns=None if self._everywhere else self.namespace,
                all_netns=self._everywhere,
            )
        except InterfaceNotFoundError:
            if self._first:
                raise
            attachments = []  # it went away
        self.netns_names = names()
        self._found = {}
        for one in attachments:
            here = one.occupant.interface
            key = (Place(here.netns, here.index), one.occupant.hook)
            self._found.setdefault(key, []).append(one)
        self._count_members(attachments)
        self._next = time.monotonic() + (time.monotonic() - started) * (1 / _SHARE - 1)
        return True

    def _count_members(self, attachments: list[Attachment]) -> None:
        chains = {one.program.id: one for one in attachments if one.is_chain}
        for number in self._counts.keys() - chains.keys():
            self._counts.pop(number).close()
        for number in chains.keys() - self._counts.keys():
            with suppress(NetbpfError):  # gone again
                self._counts[number] = counts = MemberCounts(chains[number])
                # What a chain that came later counted, it counted while this was watching.
                before = counts.read() if self._first else {}
                self._before.setdefault(chains[number].counters, before)
                self._maps[number] = chains[number].counters
        self._first = False

    # --- interfaces ---

    @property
    def places(self) -> set[Place]:
        """Interfaces with programs."""
        return {place for place, _ in self._found}

    def map_ids(self, place: Place | None) -> set[int]:
        """The maps of all programs, or of those on one interface."""
        return {
            number
            for (at, _), several in self._found.items()
            if place in (None, at)
            for one in several
            for number in one.program.map_ids
        }

    def look(self, place: Place) -> tuple[Device, str, str] | None:
        """An interface as it is now, its driver ("" where it does not say), and the name of a veth's other end."""
        with self._in(place.netns) as session:
            if session is None:
                return None
            found = device(session, place.ifindex)
            if found is None:
                return None
            other = other_end(session, found)
            return found, driver(session, found.name) or "", other.name if other else ""

    @contextmanager
    def _in(self, inode: int) -> Iterator[Session | None]:
        if inode == self.namespace.inode:
            with Session(self.namespace) as session:
                yield session
            return
        for namespace in all_namespaces():
            if namespace.inode == inode:
                with Session(namespace) as session:
                    yield session
                return
        yield None

    # --- programs ---

    def on(self, place: Place, hook: Hook) -> list[Attachment]:
        """What is on a hook."""
        return self._found.get((place, hook), [])

    def suspect(self, number: int, name: str, verdict: str) -> Suspect:
        """The program that the kernel named, with the members of a chain that gave a verdict."""
        return Suspect(number, name, self.members(number, verdict))

    def suspect_on(self, place: Place, hook: Hook, verdict: str) -> Suspect | None:
        """The program on a hook, where there is just one."""
        found = self.on(place, hook)
        if len(found) != 1:
            return None
        program = found[0].program
        members = self.members(program.id, verdict)
        return Suspect(program.id, program.name, members, certain=False)

    def user_of(self, map_id: int) -> Suspect | None:
        """The program that uses a map, where there is just one on all hooks."""
        programs = {
            one.program.id: one.program
            for several in self._found.values()
            for one in several
            if map_id in one.program.map_ids
        }
        if len(programs) != 1:
            return None
        [program] = programs.values()
        return Suspect(program.id, program.name, self.members(program.id, "redirect"), False)

    def members(self, number: int, verdict: str) -> tuple[str, ...]:
        """Those of a chain that gave a verdict since watching began."""
        counts = self._counts.get(number)
        if counts is None:
            return ()
        before = self._before.get(self._maps[number], {})
        try:
            now = counts.read()
        except NetbpfError:
            return ()
        return tuple(
            name
            for name, given in now.items()
            if given.get(verdict, 0) > before.get(name, {}).get(verdict, 0)
        )

    def redirects_through(self, number: int) -> set[int]:
        """The types of the maps of a program; nothing where it is gone."""
        try:
            with Program.by_id(number) as program:
                ids = program.info.map_ids
        except NetbpfError:
            return set()
        return {found.type for one in ids if (found := self.map(one))}

    def map(self, number: int) -> MapInfo | None:
        """A map, None where it is gone."""
        try:
            with Map.by_id(number) as found:
                return found.info
        except NetbpfError:
            return None

    def close(self) -> None:
        """Let go of the counters of chains."""
        for counts in self._counts.values():
            counts.close()
        self._counts.clear()

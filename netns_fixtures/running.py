"""A program that runs, on a hook or in TEST_RUN: its variables, maps and counters by name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from netbpf.bpf.btf.encode import Encodable
from netbpf.bpf.btf.values import Value
from netbpf.bpf.loader import Loaded
from netbpf.constants import Hook, Mode
from netbpf.model import Attachment, Interface, Occupant, TcFilter
from netns_fixtures.counters import PATIENCE, Changes, flatten
from netns_fixtures.kinds import AttachKind

if TYPE_CHECKING:
    from netbpf.live.model import HookStats
    from netbpf.live.reader import HookReader, OpenMap


class Running:
    """A program in the kernel with its maps.

    ``counters`` reads everything that can count, ``get`` and ``set`` one value by name. ``shared`` says that other
    tests use it too, so that its counters did not begin with this one.
    """

    def __init__(self, loaded: Loaded, kind: AttachKind, interface: Interface) -> None:
        self.loaded = loaded
        self.kind = kind
        self.hook = Hook(kind.hook)
        self.shared = False
        self._interface = interface
        self._place: TcFilter | None = None
        self._opened: HookReader | None = None

    @property
    def name(self) -> str:
        """The program's function."""
        return self.loaded.program_spec.name

    @property
    def id(self) -> int:
        """The kernel's id of the program."""
        return self.loaded.program.info.id

    @property
    def closed(self) -> bool:
        """Whether it has been let go of."""
        return self.loaded.program.fd.closed

    @property
    def attachment(self) -> Attachment:
        """What the rest of netbpf takes for a program on a hook."""
        # For TEST_RUN it says nothing but which program: the mode is never looked at.
        mode = Mode(self.kind.mode) if self.kind.on_wire else Mode.NATIVE
        occupant = Occupant(self._interface, self.hook, mode, self.id, filter=self._place)
        return Attachment(occupant, self.loaded.program.info, managed=False, manager=None)

    @property
    def _reader(self) -> "HookReader":
        from netbpf.live.reader import HookReader

        if self._opened is None:
            self._opened = HookReader(self.attachment)
        return self._opened

    # --- what it holds ---

    def get(self, name: str) -> Value:
        """A variable or map entry by name: ``"counter"``, ``"cfg.port"``, ``"ports[2]"``, ``"rules[10.0.0.0/8]"``."""
        from netbpf.live.access import Access

        with Access([self.attachment], self._interface.name) as access:
            return access.get(name)

    def set(self, changes: Mapping[str, Encodable]) -> None:
        """Write variables and map entries of the running program, under the same names."""
        from netbpf.live.access import Access

        with Access([self.attachment], self._interface.name) as access:
            access.set(changes)

    def stats(self) -> "HookStats":
        """Everything netbpf can read of the program, as ``netbpf stats`` shows it."""
        return self._reader.read(limit=None)

    def counters(self) -> dict[str, Value]:
        """Every number (and other value) of variables and maps, by its path; zeros of arrays are left out.

        ``counter``, ``cfg.port``, ``rules[10.0.0.0/8].hits``; per-CPU values are sums. netbpf's own tables are
        named: ``verdicts[drop].packets``, ``protocols[ipv4/udp].bytes``.
        """
        from netbpf.live.reader import read_variables

        found: dict[str, Value] = {}
        for one in self._reader.maps:
            if one.holds_variables:
                for variable in read_variables(one):
                    flatten(variable.name, variable.value, found)
            else:
                self._entries(one, found)
        return found

    def _entries(self, one: "OpenMap", into: dict[str, Value]) -> None:
        from netbpf.bpf.btf.values import format_value
        from netbpf.constants import ARRAY_MAPS, MapType
        from netbpf.live.tables import PROTOCOLS_MAP, VERDICTS_MAP, protocol_name, verdict_name

        name = one.name
        table = one.info.type == MapType.PERCPU_ARRAY and name in (VERDICTS_MAP, PROTOCOLS_MAP)
        entries = one.map.nonzero() if one.info.type in ARRAY_MAPS else one.map.entries()
        for key, data in entries:
            if table and name == VERDICTS_MAP:
                path = f"verdicts[{verdict_name(self.hook, int.from_bytes(key, 'little'))}]"
            elif table:
                path = f"protocols[{protocol_name(int.from_bytes(key, 'little'))}]"
            else:
                path = f"{name}[{format_value(one.key(key))}]"
            flatten(path, one.total(data), into)

    def initial(self) -> dict[str, Value]:
        """The variables as the object has them, with what was set before the load."""
        found: dict[str, Value] = {}
        for one in self._reader.maps:
            spec = self.loaded.spec.maps.get(one.name)
            if spec is not None and spec.is_data and spec.initial and one.section:
                values = one.value(bytes(spec.initial))
                found.update(values if isinstance(values, dict) else {})
        return found

    def verifier_log(self) -> str:
        """What the verifier says of the program, which is loaded once more for it."""
        from netbpf.bpf.loader import verifier_log

        return verifier_log(self.loaded, self.hook)

    def changes(
        self,
        expected: Mapping[str, Any],
        *,
        ignore: Sequence[str] = (),
        within: float = PATIENCE,
    ) -> Changes:
        """A ``with`` block during which exactly these ``counters`` move, by so much, and no other one does."""
        from netbpf.packets.cases_counters import canonical

        maps = {one.name: one for one in self._reader.maps}
        named: dict[str, Any] = {}
        flatten("", expected, named)
        named = {canonical(maps, name): value for name, value in named.items()}
        # TEST_RUN has counted when it returns.
        patience = within if self.kind.on_wire else 0.0
        return Changes(self.counters, named, ignore=ignore, within=patience)

    # --- the end ---

    def close(self) -> None:
        """Let go of it."""
        if self._opened:
            self._opened.close()
            self._opened = None
        self.loaded.close()

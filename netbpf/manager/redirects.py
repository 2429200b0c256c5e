"""Entries of devmaps and cpumaps, with the programs that run there (``--redirect 'tx[0]=eth1:program'``).

A program of a devmap runs on what is sent to that interface, one of a cpumap on the other CPU (Linux 5.8 and 5.9).
The entry holds the program, by a descriptor that only the process that loads it has; so it is written here.
"""

import errno
import re
import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ProgramSpec
from netbpf.constants import AttachType, Hook, MapType, ProgType
from netbpf.errors import KernelError, NetbpfError, NotSupportedError, ObjectError, UsageError
from netbpf.net.interfaces import resolve
from netbpf.net.rtnetlink import Session
from netbpf.text import did_you_mean, escape

_FORM = re.compile(r"(?P<map>[^\[\]=]+)\[(?P<key>[^\[\]]+)\]=(?P<target>[^:]+)(:(?P<program>.+))?")
_DEVMAPS = (MapType.DEVMAP, MapType.DEVMAP_HASH)
EVERY = "*"
_WITH_PROGRAM = 8  # bytes: struct bpf_devmap_val, struct bpf_cpumap_val


class Redirect(NamedTuple):
    """One entry as it was typed: ``target`` is an interface (devmaps) or a queue size in packets (cpumaps)."""

    map: str
    key: str
    target: str
    program: str | None


def parse(text: str) -> Redirect:
    """``MAP[KEY]=TARGET`` or ``MAP[KEY]=TARGET:PROGRAM``; UsageError for anything else."""
    found = _FORM.fullmatch(text)
    if not found:
        raise UsageError(
            f"--redirect '{escape(text)}' is not MAP[KEY]=TARGET[:PROGRAM]",
            hint="such as 'tx[0]=eth1', 'tx[0]=eth1:stamp', 'cpus[2]=1024:on_cpu' or 'cpus[*]=1024'",
        )
    return Redirect(found["map"], found["key"], found["target"], found["program"])


def fill(
    redirects: Sequence[str],
    loaded: Iterable[Loaded],
    session: Session,
    kernel_btf: Path | None = None,
) -> None:
    """Write the entries into the maps of what has just been loaded.

    Raises UsageError, ObjectError for maps and programs that are none or of the wrong kind, InterfaceNotFoundError,
    VerifierError for a program that is rejected, NotSupportedError.
    """
    with ExitStack() as held:
        filling = _Filling(list(loaded), session, kernel_btf, held)
        for one in map(parse, redirects):
            filling.write(one)


class _Filling:
    def __init__(
        self, loaded: list[Loaded], session: Session, kernel_btf: Path | None, held: ExitStack
    ) -> None:
        self.loaded, self.session, self.kernel_btf, self.held = loaded, session, kernel_btf, held
        self.programs: dict[tuple[str, str, AttachType], Loaded] = {}

    def write(self, one: Redirect) -> None:
        """Write an entry, or that of every CPU."""
        owner = self._owner(one)
        made = owner.maps[one.map]
        if made.info.type in _DEVMAPS:
            keys = [_device_key(one, self.session)]
            first, kind = resolve(self.session, one.target).index, AttachType.XDP_DEVMAP
        elif made.info.type == MapType.CPUMAP:
            keys = _cpus() if one.key == EVERY else [_number(one.key, "CPU")]
            first, kind = _number(one.target, "queue size in packets"), AttachType.XDP_CPUMAP
        else:
            raise ObjectError(
                f"map {escape(one.map)} is neither a devmap nor a cpumap, so nothing is redirected to it"
            )
        size, number = made.info.value_size, 0
        if one.program is not None:
            if size < _WITH_PROGRAM:
                raise _no_room(one, size, kind)
            number = self._program(one.program, kind, owner).program.fd.fileno()
        value = struct.pack("=II", first, number)[:size].ljust(size, b"\0")
        for key in keys:
            # The kernel looks for the interface in the namespace of the thread that writes (kernel/bpf/devmap.c).
            self.session.namespace.run(_update, made, one, key, value)

    def _owner(self, one: Redirect) -> Loaded:
        owners = [each for each in self.loaded if one.map in each.maps]
        if len(owners) == 1:
            return owners[0]
        name = escape(one.map)
        if owners:
            raise UsageError(
                f"{len(owners)} objects have a map {name}", hint="attach them one by one"
            )
        if any(one.map in each.spec.maps for each in self.loaded):
            raise ObjectError(f"no program that is attached uses map {name}")
        known = [each for single in self.loaded for each in single.maps]
        hint = did_you_mean(one.map, known, "the maps are")
        raise ObjectError(f"there is no map {name}", hint=hint)

    def _program(self, name: str, kind: AttachType, owner: Loaded) -> Loaded:
        key = (owner.spec.path, name, kind)
        if key not in self.programs:
            spec = _spec(name, owner)
            # Whatever its section says: it was asked for as a program of this map.
            declared = replace(spec.declared, type=ProgType.XDP, attach_type=kind)
            self.programs[key] = self.held.enter_context(
                load(
                    owner.spec, replace(spec, declared=declared), Hook.XDP,
                    reuse=owner.maps, kernel_btf=self.kernel_btf,
                )
            )  # fmt: skip
        return self.programs[key]


def _no_room(one: Redirect, size: int, kind: AttachType) -> ObjectError:
    struct_name = "bpf_cpumap_val" if kind is AttachType.XDP_CPUMAP else "bpf_devmap_val"
    return ObjectError(
        f"map {escape(one.map)} has values of {size} bytes, without room for a program",
        hint=f"make struct {struct_name} the type of its values",
    )


def _update(made: Map, one: Redirect, key: int, value: bytes) -> None:
    name = f"{escape(one.map)}[{key}]"
    try:
        made.update(key.to_bytes(4, "little"), value)
    except KernelError as error:
        if error.errno == errno.ENODEV:
            raise UsageError(f"{name}: there is no CPU {key}") from None
        if error.errno == errno.EOVERFLOW:
            raise UsageError(
                f"{name}: a queue of {escape(one.target)} packets is too long",
                hint="the kernel takes 16384",
            ) from None
        if error.errno == errno.EINVAL and one.program:
            raise NotSupportedError(
                f"{name} does not take program {escape(one.program)}",
                hint="both programs need xdp.frags or neither; devmaps take programs from Linux 5.8 on, cpumaps 5.9",
            ) from None
        raise NetbpfError(f"cannot write {name}: {error.message}") from None


def _spec(name: str, owner: Loaded) -> ProgramSpec:
    found = next((one for one in owner.spec.programs if one.name == name), None)
    if found is None:
        raise ObjectError(
            f"{owner.spec.elf.origin} holds no program '{escape(name)}'",
            hint=did_you_mean(name, (one.name for one in owner.spec.programs), "its programs are"),
        )
    if found.declared.type not in (ProgType.XDP, ProgType.UNSPEC):
        raise ObjectError(
            f"{escape(name)} (section {escape(found.section)}) is no xdp program",
            hint='programs of devmaps and cpumaps are in sections "xdp/devmap" and "xdp/cpumap"',
        )
    return found


def _device_key(one: Redirect, session: Session) -> int:
    """The index in a devmap: a number, or the name of an interface for its number (devmap_hash by ifindex)."""
    if one.key.isdecimal():
        return _number(one.key, "index")
    if one.key == EVERY:
        raise UsageError(f"{escape(one.map)}[*]: only cpumaps have an entry for each CPU")
    return resolve(session, one.key).index


def _number(text: str, what: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 1 << 32
    if number >= 1 << 32:
        raise UsageError(f"--redirect: '{escape(text)}' is no {what}")
    return number


def _cpus() -> list[int]:
    """The CPUs that are switched on: a cpumap takes others too, but nothing would run there."""
    with open("/sys/devices/system/cpu/online") as file:
        parts = [part.partition("-") for part in file.read().strip().split(",")]
    return [cpu for low, _, high in parts for cpu in range(int(low), int(high or low) + 1)]

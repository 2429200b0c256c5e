"""``attach HOOK IFACE pinned:PATH``: a program that ``load`` put into the kernel, as it is there."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from netbpf.bpf.loader import Loaded, prepare
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.bpf.pin import is_bpffs
from netbpf.bpf.program import Program
from netbpf.constants import Hook, ProgType
from netbpf.errors import NotAttachedError, NotManagedError, ObjectError, UsageError
from netbpf.insight.choose import by_pin
from netbpf.manager import loadpins
from netbpf.manager.loadpins import LoadedSet, Pinned
from netbpf.manager.request import PINNED, AttachRequest
from netbpf.manager.sources import Source
from netbpf.text import escape


class PinnedProgram(NamedTuple):
    """A program of a set, and where the copy of its object is."""

    pin: Pinned
    of: LoadedSet

    @property
    def source(self) -> Source:
        """The object, under the name of the one that was loaded."""
        return Source(loadpins.kept_object(self.of), self.of.object.path)


def find_pinned(argument: str) -> PinnedProgram:
    """The program behind ``pinned:PATH``, the path of its pin or that of the directory.

    Raises NotAttachedError where nothing is pinned, NotManagedError for a pin that ``load`` did not make, UsageError
    for a directory with several programs.
    """
    path = Path(os.path.abspath(argument.removeprefix(PINNED)))  # noqa: PTH100 - without following links
    shown = escape(str(path))
    for one in loadpins.sets():
        if not one.object.sha256:
            continue  # its record was lost, and the object with it
        if one.directory == path:
            if len(one.programs) > 1:
                pins = ", ".join(escape(f"{PINNED}{each.pin}") for each in one.programs[:6])
                raise UsageError(f"{shown} has {len(one.programs)} programs", hint=f"say which: {pins}")  # fmt: skip
            return PinnedProgram(one.programs[0], one)
        for each in one.programs:
            if each.pin == path:
                return PinnedProgram(each, one)
    if os.path.lexists(path) and is_bpffs(path):
        raise NotManagedError(
            f"{shown} was not pinned by netbpf load, so netbpf does not have its object",
            hint="attach the object itself: netbpf attach xdp IFACE OBJECT",
        )
    raise NotAttachedError(f"there is no pin {shown}", hint="netbpf load makes one")


def check_request(request: AttachRequest) -> None:
    """UsageError for what can only be asked for before a program is loaded."""
    for given, option in (
        (request.settings, "--set"), (request.map_sizes, "--map-size"), (request.share, "--share"),
        (request.maps, "--map"), (request.tail_calls, "--tail-call"), (request.pin_maps, "--pin-maps"),
        (request.program, "-n"), (request.kernel_btf, "--btf"),
    ):  # fmt: skip
        if given:
            raise UsageError(
                f"{option} is for a program that is not loaded yet", hint=f"give {option} to netbpf load"
            )  # fmt: skip


def adopt(spec: ObjectSpec, program: ProgramSpec, hook: Hook, pinned: PinnedProgram) -> Loaded:
    """The program and its maps as they are in the kernel, with the code for a chain, as ``load`` would give them.

    Raises ObjectError for a program of another type than the hook's, NotAttachedError where it is gone.
    """
    with ExitStack() as undo:
        live = undo.enter_context(Program(by_pin(pinned.pin.pin, "program")))
        wanted = ProgType.XDP if hook is Hook.XDP else ProgType.SCHED_CLS
        if live.info.type != wanted:
            raise ObjectError(
                f"{escape(pinned.pin.name)} was not loaded as a program for {hook}",
                hint=f"load it as one: netbpf load OBJECT --type {'xdp' if hook is Hook.XDP else 'tc'}",
            )
        maps = {}
        for name, number in pinned.of.uses:
            if number in live.info.map_ids:
                maps[name] = undo.enter_context(Map.by_id(number))
        with prepare(spec, program, hook, reuse=maps) as code:
            undo.pop_all()
            for one in maps.values():
                one.close()
            made = Loaded(spec, program, live, code.image, dict(code.maps))
            code.maps.clear()  # theirs now
            return made

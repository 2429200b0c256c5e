"""``load`` and ``unload``: programs and maps in the kernel without a hook, held by pins.

Without a pin, and without a process that has it open, the kernel would let go of a program at once. So what is loaded
is pinned: in a directory of netbpf's own, or in one that the user names. All programs of an object, or none.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from netbpf import layout
from netbpf.bpf import pin
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.bpf.program import Program
from netbpf.bpf.sections import declared
from netbpf.bpf.targets import target
from netbpf.constants import ProgType
from netbpf.errors import NetbpfError, NotAttachedError, NotSupportedError, ObjectError, UsageError
from netbpf.manager import loadpins, settings, tailcalls
from netbpf.manager.loadpins import LoadedSet, Pinned
from netbpf.manager.making import Making
from netbpf.manager.mappins import SharedMaps
from netbpf.manager.mapsources import given_to
from netbpf.manager.sources import BUILTIN, Source, find_source
from netbpf.manager.status import opened
from netbpf.manager.undo import uninterrupted
from netbpf.manager.usage import Remaining, attachments, remaining
from netbpf.model import MapInfo, ObjectRef, ProgramInfo
from netbpf.net.netns import Namespace
from netbpf.state.lock import DEFAULT_TIMEOUT, locked
from netbpf.text import did_you_mean, escape, word

_SUFFIXES = re.compile(r"(\.bpf)?\.[co]$")


@dataclass(frozen=True, slots=True)
class LoadRequest(Making):
    """One ``load``. ``programs`` narrows it to these, by function or section name; () takes all.

    ``pin`` is the directory for the pins, None for one of netbpf's own. ``type`` is a section name, as if the programs
    had that: for sections that say nothing.
    """

    object: str
    programs: tuple[str, ...] = ()
    pin: Path | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What was loaded: the set, what the kernel says of its programs and maps (in its order), and notes."""

    loaded: LoadedSet
    programs: tuple[ProgramInfo, ...]
    maps: tuple[MapInfo, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnloadResult:
    """What was unloaded; ``remaining`` are programs that are still in the kernel, ``foreign`` pins that were left."""

    unloaded: LoadedSet
    remaining: tuple[Remaining, ...] = ()
    foreign: tuple[Path, ...] = ()


def load_object(request: LoadRequest, netns: str | Namespace | None = None) -> LoadResult:
    """Load the programs of an object and pin them with their maps; all of them or none.

    Raises ObjectError, CompileError, VerifierError, NotSupportedError, PermissionDeniedError, LockTimeoutError,
    UsageError for a directory that takes no pins, NetbpfError where a name is taken.
    """
    source = find_source(request.object, request.compiler)
    spec = ObjectSpec.open(source.path, source.name)
    tailcalls.fill([spec], request.tail_calls)
    chosen, notes = _choose(spec, request)
    directory = _directory(request, source)
    loadpins.missing_directories(directory)  # before the verifier works for nothing
    with ExitStack() as stack:
        touched = settings.apply(spec, request.settings)
        settings.resize(spec, request.map_sizes)
        namespace = stack.enter_context(opened(netns))
        given = stack.enter_context(given_to(spec, request, namespace, touched, stack))
        shared = stack.enter_context(SharedMaps(request.pin_maps, spec, given.maps))
        there = {**shared.maps, **given.maps}
        loaded, used, last = _load_all(spec, request, chosen, there, touched, stack)
        given.check_used(escape(request.object), used)
        all_used = replace(last, maps=used)
        notes += source.notes + given.notes + shared.pin_new(all_used)
        notes += tailcalls.unfilled(all_used, there)
        mine = {name: one for name, one in used.items() if name not in there}
        with locked(request.lock_timeout), uninterrupted() as checkpoint:
            loadpins.sweep()
            checkpoint()
            reference = ObjectRef(source.shown, spec.sha256)
            one, fds = _planned(directory, reference, chosen, loaded, mine)
            one = replace(one, uses=tuple((name, each.info.id) for name, each in used.items()))
            with loadpins.made(one, spec.data, fds):
                checkpoint()
            return LoadResult(
                one,
                tuple(loaded[program.name].info for program in chosen),
                tuple(each.info for each in mine.values()),
                notes,
            )


def _load_all(
    spec: ObjectSpec,
    request: LoadRequest,
    chosen: list[ProgramSpec],
    there: dict[str, Map],
    touched: tuple[str, ...],
    stack: ExitStack,
) -> tuple[dict[str, Program], dict[str, Map], Loaded]:
    """Each program by its name, the maps that they use, and what was loaded last."""
    jumped_to = {name for array in spec.maps.values() for name in array.slots.values()}
    programs: dict[str, Program] = {}
    maps, used = dict(there), dict[str, Map]()
    last: Loaded | None = None
    # What others jump to comes with them, in their prog arrays.
    for one in sorted(chosen, key=lambda program: program.name in jumped_to):
        if one.name in programs:
            continue
        with _named(one, chosen):
            last = stack.enter_context(
                load(spec, one, None, reuse=maps, extra_maps=touched, kernel_btf=request.kernel_btf)
            )
        programs |= {one.name: last.program, **last.siblings}
        maps = last.maps | maps
        used |= {name: maps[name] for name in last.maps}
    assert last is not None
    return programs, used, last


@contextmanager
def _named(program: ProgramSpec, chosen: list[ProgramSpec]) -> Iterator[None]:
    """Errors within say how to go on without the program."""
    try:
        yield
    except NetbpfError as error:
        others = ",".join(escape(one.name) for one in chosen if one is not program)
        hints = [error.hint] if error.hint else []
        if program.declared.type is ProgType.UNSPEC and isinstance(error, ObjectError):
            hints.append("say what it is: --type xdp, --type tc, --type tracepoint/CATEGORY/NAME")
        if others:
            hints.append(f"without it: -n {others}")
        error.hint = "; ".join(hints) or None
        raise


# --- which programs ---


def _choose(spec: ObjectSpec, request: LoadRequest) -> tuple[list[ProgramSpec], tuple[str, ...]]:
    if request.programs:
        chosen = [one for name in request.programs for one in spec.named(name)]
        chosen = list({one.name: one for one in chosen}.values())
        notes: tuple[str, ...] = ()
    else:
        # A question mark is libbpf's sign for: only when asked for by name.
        chosen = [one for one in spec.programs if not one.section.startswith("?")]
        left = [escape(one.name) for one in spec.programs if one.section.startswith("?")]
        notes = (f"not loaded, as their sections begin with '?': {', '.join(left)}",) * bool(left)
    if not chosen:
        raise ObjectError(f"{spec.elf.origin} holds no program")
    return [_typed(one, request.type) for one in chosen], notes


def _typed(program: ProgramSpec, section: str | None) -> ProgramSpec:
    if section is None:
        return program
    kind = declared(section, None, None)
    if kind.type is ProgType.UNSPEC and target(section) is None:
        raise UsageError(
            f"--type {escape(section)} is no type of a program",
            hint="such as xdp, tc, socket, cgroup_skb/egress, tracepoint/CATEGORY/NAME",
        )
    return replace(program, section=section, declared=kind)


# --- where ---


def _directory(request: LoadRequest, source: Source) -> Path:
    if request.pin is not None:
        return Path(os.path.abspath(request.pin))  # noqa: PTH100 - without following links
    name = _SUFFIXES.sub("", Path(source.shown.removeprefix(BUILTIN)).name)
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    try:
        return layout.loaded_pins(pin.bpffs()) / (name or "object")
    except NotSupportedError:
        raise NotSupportedError(
            "there is no bpffs here that outlives this mount namespace, so nothing would stay loaded",
            hint="run netbpf outside of `ip netns exec`",
        ) from None


def _planned(
    directory: Path,
    reference: ObjectRef,
    chosen: list[ProgramSpec],
    loaded: dict[str, Program],
    maps: dict[str, Map],
) -> tuple[LoadedSet, dict[Path, int]]:
    """The set with the pins that are to be made, and what each is to hold."""
    for one in loadpins.sets():
        if one.directory == directory:
            raise NetbpfError(
                f"{escape(one.name)} is loaded already, from {escape(one.object.path)}",
                hint=f"unload it: netbpf unload {word(one.name)}; or pin this one elsewhere: --pin DIR",
            )
    fds: dict[Path, int] = {}
    pins = []
    for program in chosen:
        path = _free(directory / _plain(program.name), fds)
        fds[path] = loaded[program.name].fd.fileno()
        number = loaded[program.name].info.id
        pins.append(Pinned("program", program.name, number, path, program.section))
    for name, live in maps.items():
        path = _free(directory / loadpins.MAPS / _plain(name.lstrip(".")), fds)
        fds[path] = live.fd.fileno()
        pins.append(Pinned("map", name, live.info.id, path))
    directories = loadpins.missing_directories(directory / loadpins.MAPS if maps else directory)
    own = layout.loaded_pins(layout.BPFFS), layout.loaded_pins(layout.own_bpffs())
    made = tuple(path for path in directories if not any(one.is_relative_to(path) for one in own))
    for path in directories:
        if path not in made:
            path.mkdir(mode=0o700, exist_ok=True)  # netbpf's own, which stay
    return LoadedSet(directory, reference, loadpins.now(), tuple(pins), made), fds


def _plain(name: str) -> str:
    """A bpffs takes no dots."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)[:200] or "unnamed"


def _free(path: Path, taken: dict[Path, int]) -> Path:
    number, found = 1, path
    while found in taken or found.name == loadpins.MAPS:
        number += 1
        found = path.with_name(f"{path.name}_{number}")
    return found


# --- unloading ---


def unload(
    which: str | None = None,
    *,
    everything: bool = False,
    missing_ok: bool = False,
    netns: str | Namespace | None = None,
    lock_timeout: float = DEFAULT_TIMEOUT,
) -> list[UnloadResult]:
    """Take away what ``load`` pinned: by name, directory, pin or object, or the only set there is.

    ``netns`` is looked at for what still runs them, besides all namespaces that can be found. Programs that something
    else holds stay in the kernel, and the result says what. Raises NotAttachedError (not with ``missing_ok``),
    UsageError where several are meant and ``everything`` is not, NotManagedError for pins that ``load`` did not make.
    """
    with locked(lock_timeout), uninterrupted() as checkpoint:
        loadpins.sweep()
        found = meant(which)
        if not found:
            if missing_ok:
                return []
            raise _nothing(which)
        if len(found) > 1 and not everything:
            listed = ", ".join(
                f"{escape(one.name)} ({escape(str(one.directory))})" for one in found[:10]
            )
            raise UsageError(
                f"{len(found)} sets are meant: {listed}",
                hint=f"name one: netbpf unload {word(str(found[0].directory))}; or unload all with --all",
            )
        gone = []
        for one in found:
            checkpoint()
            gone.append((one, loadpins.remove(one)))
    attached = attachments(netns)
    return [
        UnloadResult(one, remaining(one.programs, one.maps, attached), foreign)
        for one, foreign in gone
    ]


def meant(which: str | None) -> list[LoadedSet]:
    """The sets of a name, a directory, a pin or an object."""
    every = loadpins.sets()
    if which is None:
        return every
    path = Path(os.path.abspath(which))  # noqa: PTH100
    real = os.path.realpath(which)
    by_place = [o for o in every if o.directory == path or path in [each.pin for each in o.pins]]
    by_name = [one for one in every if one.name == which]
    return by_place or by_name or [one for one in every if one.object.path in (which, real)]


def _nothing(which: str | None) -> NetbpfError:
    if which is None:
        return NotAttachedError(
            "nothing is loaded by netbpf load", hint="netbpf prog lists programs"
        )
    path, shown = Path(which), escape(which)
    if "/" in which and pin.is_bpffs(path) and os.path.lexists(path):
        from netbpf.errors import NotManagedError

        return NotManagedError(
            f"{shown} was not pinned by netbpf load", hint=f"if nothing needs it: rm {word(which)}"
        )
    names = [one.name for one in loadpins.sets()]
    return NotAttachedError(
        f"there is nothing called {shown} that netbpf load loaded",
        hint=did_you_mean(which, names, "loaded are"),
    )

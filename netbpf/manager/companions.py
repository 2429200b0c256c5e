"""``attach auto``: programs that are on no interface, attached by what their sections say, as one set.

A set is what one command attached. It has a number, and its links are pinned in a bpffs; these pins are what there
is, and the record beside them only says from which object they came. All of a set is attached, or nothing.
"""

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from netbpf.bpf import hookup
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.bpf.sections import fits
from netbpf.bpf.targets import Target, Way, target
from netbpf.constants import Hook, ProgType
from netbpf.errors import NetbpfError, NotAttachedError, ObjectError, UsageError
from netbpf.manager import autopins, mappinned, settings, tailcalls
from netbpf.manager.autopins import CompanionSet, Note
from netbpf.manager.making import Making
from netbpf.manager.mappins import SharedMaps
from netbpf.manager.mapsources import given_to
from netbpf.manager.sources import find_source
from netbpf.manager.status import opened
from netbpf.manager.undo import uninterrupted
from netbpf.model import ObjectRef
from netbpf.net.netns import Namespace
from netbpf.state.lock import DEFAULT_TIMEOUT, locked
from netbpf.text import escape


@dataclass(frozen=True, slots=True)
class AutoRequest(Making):
    """One ``attach auto``. ``programs`` narrows it to these, by function or section name; () takes all that it can."""

    object: str
    programs: tuple[str, ...] = ()
    cgroup: Path | None = None


@dataclass(frozen=True, slots=True)
class AutoResult:
    """What was attached, and what should be said aloud."""

    attached: CompanionSet
    notes: tuple[str, ...] = ()


def attach(request: AutoRequest, netns: str | Namespace | None = None) -> AutoResult:
    """Attach the programs of an object to the hooks that their sections name; all of them or none.

    Raises ObjectError, CompileError, VerifierError, NotSupportedError where the kernel lacks a hook,
    PermissionDeniedError, LockTimeoutError, UsageError.
    """
    source = find_source(request.object, request.compiler)
    spec = ObjectSpec.open(source.path, source.name)
    tailcalls.fill([spec], request.tail_calls)
    chosen, notes = _choose(spec, request.programs)
    with ExitStack() as stack:
        namespace = stack.enter_context(opened(netns))
        around = hookup.Surroundings(namespace.fileno(), request.cgroup)
        touched = settings.apply(spec, request.settings)
        settings.resize(spec, request.map_sizes)
        given = stack.enter_context(given_to(spec, request, namespace, touched, stack))
        shared = stack.enter_context(SharedMaps(request.pin_maps, spec, given.maps))
        every: list[Loaded] = []
        made: dict[str, Map] = {**shared.maps, **given.maps}
        for program, _ in chosen:
            with _named(program, spec, chosen):
                loaded = load(
                    spec,
                    program,
                    None,
                    reuse=made,
                    extra_maps=touched,
                    kernel_btf=request.kernel_btf,
                )
            every.append(stack.enter_context(loaded))
            made = loaded.maps | made
        used = {name: one for name, one in made.items() if any(name in each.maps for each in every)}
        given.check_used(escape(request.object), used)
        notes += source.notes + given.notes + shared.pin_new(replace(every[0], maps=used))
        notes += tailcalls.unfilled(replace(every[0], maps=used), {*shared.maps, *given.maps})
        with locked(request.lock_timeout), uninterrupted() as checkpoint:
            autopins.sweep()
            reference = ObjectRef(source.shown, spec.sha256)
            with autopins.new(reference) as pins:
                for (program, wanted), loaded in zip(chosen, every, strict=True):
                    checkpoint()
                    note = Note(program.name, program.section, hookup.where(wanted, around))
                    with _named(program, spec, chosen):
                        link = hookup.attach(loaded.program.fd.fileno(), wanted, around)
                    try:
                        pins.keep(note, (link or loaded.program.fd).fileno())
                    finally:
                        if link:
                            link.close()
                for name, one in used.items():
                    if name not in given.maps and mappinned.needs_holding(
                        spec.maps[name], spec.btf
                    ):
                        pins.keep_map(name, one.fd.fileno())
                checkpoint()
                return AutoResult(autopins.find(pins.number), notes)


class _named:  # noqa: N801 - used as a statement
    """Errors within say which program it was, and how to go on without it."""

    def __init__(
        self, program: ProgramSpec, spec: ObjectSpec, chosen: "list[tuple[ProgramSpec, Target]]"
    ) -> None:
        self.what = f"program {escape(program.name)}"
        self.origin = spec.elf.origin
        self.others = ",".join(escape(one.name) for one, _ in chosen if one is not program)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, NetbpfError):
            return
        if self.what not in error.message:
            error.message = f"{self.what} of {self.origin}: {error.message}"
        if self.others:
            without = f"without it: -n {self.others}"
            error.hint = f"{error.hint}; {without}" if error.hint else without


# --- which programs ---


def _choose(
    spec: ObjectSpec, names: tuple[str, ...]
) -> tuple[list[tuple[ProgramSpec, Target]], tuple[str, ...]]:
    """The programs that are meant with their hooks, and what to say of the others."""
    if names:
        return [_wanted(program) for name in names for program in spec.named(name)], ()
    jumped_to = {one for array in spec.maps.values() for one in array.slots.values()}
    chosen, for_interfaces = [], []
    for program in spec.programs:
        if program.declared.type in (ProgType.XDP, ProgType.SCHED_CLS, ProgType.SCHED_ACT):
            for_interfaces.append(program)
        # A question mark is libbpf's sign for: only when asked for by name.
        elif program.name not in jumped_to and not program.section.startswith("?"):
            chosen.append(_wanted(program))
    if not chosen:
        hint = (
            f"attach it with: netbpf attach {_kind(for_interfaces[0])} IFACE OBJECT"
            if for_interfaces
            else None
        )
        raise ObjectError(
            f"{spec.elf.origin} holds no program that its section attaches", hint=hint
        )
    notes = tuple(
        f"{escape(one.name)} needs an interface: netbpf attach {_kind(one)} IFACE OBJECT -n {escape(one.name)}"
        for one in for_interfaces
        if one.name not in jumped_to
    )
    return chosen, notes


def _kind(program: ProgramSpec) -> str:
    return "xdp" if fits(program.declared, Hook.XDP) else "tc"


def _wanted(program: ProgramSpec) -> tuple[ProgramSpec, Target]:
    """A program with its hook; ObjectError or NotSupportedError where its section does not name one in full."""
    section, name = escape(program.section), escape(program.name)
    found = target(program.section)
    if found is None:
        if program.declared.type in (ProgType.XDP, ProgType.SCHED_CLS, ProgType.SCHED_ACT):
            raise ObjectError(
                f"program {name} (section {section}) runs on an interface",
                hint=f"attach it with: netbpf attach {_kind(program)} IFACE OBJECT -n {name}",
            )
        raise ObjectError(
            f"section {section} of program {name} does not say to what it is attached",
            hint="such as tracepoint/CATEGORY/NAME, raw_tp/NAME, kprobe/FUNCTION, cgroup_skb/ingress",
        )
    if found.missing:
        where = (
            "its section does not say which"
            if found.way is not Way.NONE
            else "netbpf attach auto has none"
        )
        raise ObjectError(f"program {name} (section {section}) needs {found.missing}; {where}")
    return program, found


# --- taking off ---


def detach(
    which: str | None = None,
    *,
    everything: bool = False,
    missing_ok: bool = False,
    lock_timeout: float = DEFAULT_TIMEOUT,
) -> list[CompanionSet]:
    """Take sets off their hooks: by number, by object (as given, or its path), or the only one there is.

    Raises NotAttachedError (not with ``missing_ok``), UsageError where several are meant and ``everything`` is not.
    """
    with locked(lock_timeout), uninterrupted() as checkpoint:
        found = [one for one in autopins.sets() if which is None or _is(one, which)]
        if not found:
            autopins.sweep()
            if missing_ok:
                return []
            what = f" of {escape(which)}" if which else ""
            raise NotAttachedError(
                f"nothing{what} was attached by attach auto",
                hint="netbpf status shows what is attached",
            )
        if len(found) > 1 and not everything:
            listed = ", ".join(
                f"{one.number} ({escape(one.object.path) if one.object else 'unknown object'})"
                for one in found[:10]
            )
            raise UsageError(
                f"{len(found)} sets are meant: {listed}",
                hint=f"name one, such as: netbpf detach auto {found[0].number}; or take off all with --all",
            )
        for one in found:
            checkpoint()
            autopins.remove(one)
        with suppress(NetbpfError):
            autopins.sweep()
        return found


def _is(one: CompanionSet, which: str) -> bool:
    if which.isdecimal():
        return one.number == int(which)
    return one.object is not None and one.object.path in (which, str(Path(which).resolve()))

"""What this kernel has of BPF, all of it: each part is asked for when somebody wants it, and once."""

import functools
import os
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.probing import ProgramProbe
from netbpf.bpf import probes
from netbpf.bpf.probes import Told
from netbpf.constants import AttachType, ProgFlag, ProgType
from netbpf.errors import NetbpfError, UsageError
from netbpf.host import kernel_names
from netbpf.host.kfuncs import KernelFunction, Kfuncs
from netbpf.insight import instruction_sets
from netbpf.text import did_you_mean, escape

# Asking for it makes the kernel warn in its log that user memory may be corrupted (kernel/trace/bpf_trace.c
# bpf_get_probe_write_proto), so it is asked for by name only.
LOUD: Final = frozenset({"bpf_probe_write_user"})
_NO_ANSWER: Final = "asking for it makes the kernel log a warning; ask by name: --has"
# Nothing calls it but BPF_PROG_TEST_RUN, so nothing runs a program that is attached to it.
QUIET_FUNCTION: Final = "bpf_fentry_test1"
_STRUCT_OPS: Final = "tcp_congestion_ops"


class Kfunc(NamedTuple):
    """A kernel function for programs, its module ("" for the kernel), and the program types that may call it."""

    name: str
    module: str
    types: dict[str, Told]


class Features:
    """Asks the kernel. Each property is a dictionary from names to answers; see ``probes.Told``.

    A context manager. PermissionDeniedError where the kernel answers nothing at all.
    """

    def __init__(self) -> None:
        self._probe = ProgramProbe()
        self._types = kernel_names.program_types()
        self._helpers: dict[tuple[int, bool], dict[str, Told]] = {}
        self._kfuncs = Kfuncs()
        self.kernel = os.uname().release
        if not self.program_types["socket_filter"].here:
            raise permission_error(
                "ask the kernel what it has", Capability.BPF, Capability.PERFMON, Capability.NET_ADMIN
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kfuncs.__exit__()

    @property
    def asked(self) -> int:
        """How many programs have been loaded to find out."""
        return self._probe.asked

    # --- parts ---

    @functools.cached_property
    def program_types(self) -> dict[str, Told]:
        """Program types by name (``xdp``)."""
        return {
            name: self._restricted(self._program_type(number))
            for number, name in self._types.items()
        }

    def _program_type(self, kind: int) -> Told:
        told = Told(None)
        for attach, number in contexts(kind):
            told = probes.program_type(self._probe, kind, attach, number)
            if told.here:
                break
        return told

    @functools.cached_property
    def map_types(self) -> dict[str, Told]:
        """Map types by name (``lru_hash``)."""
        return {
            name: self._restricted(probes.map_type(number))
            for number, name in kernel_names.map_types().items()
        }

    def helpers(self, program_type: str, *, loud: bool = False) -> dict[str, Told]:
        """Helpers by name (``bpf_redirect_map``), and whether programs of a type may call them.

        ``loud``: those too that make the kernel log a warning.
        """
        number = self.type_number(program_type)
        key = (number, loud)
        if key not in self._helpers:
            self._helpers[key] = {
                name: self._helper(at, name, number, loud=loud)
                for at, name in kernel_names.helpers().items()
            }
        return self._helpers[key]

    def helper(self, name: str, program_type: str) -> Told:
        """One helper, and no other is asked for."""
        numbers = {found: number for number, found in kernel_names.helpers().items()}
        return self._helper(numbers[name], name, self.type_number(program_type), loud=True)

    def _helper(self, at: int, name: str, kind: int, *, loud: bool) -> Told:
        if kind == ProgType.EXT:
            return Told(None, "those of the program that it replaces")
        if name in LOUD and not loud:
            return Told(None, _NO_ANSWER)
        here = self.program_types[self._types[kind]]
        if not here.here:
            return here
        return _best(
            probes.helper(self._probe, at, kind, attach, number)
            for attach, number in contexts(kind)
        )

    @functools.cached_property
    def kfuncs(self) -> dict[str, Kfunc]:
        """Kernel functions by name; those that no program may call have no types. NotSupportedError without BTF."""
        functions, told = self._kfuncs.all()
        kinds = [
            (number, name) for number, name in self._types.items()
            if self.program_types[name].here and number not in (ProgType.EXT, ProgType.LIRC_MODE2)
        ]  # fmt: skip
        found = {}
        for function in functions:
            types = {name: self._kfunc(function, number) for number, name in kinds}
            # Where BTF does not tell, a function that no program may call is none for programs.
            if told or any(one.here for one in types.values()):
                found[function.name] = Kfunc(function.name, function.module, types)
        return found

    def _kfunc(self, function: KernelFunction, kind: int) -> Told:
        module = self._kfuncs.module_fd(function)
        return _best(
            probes.kernel_function(
                self._probe, function.btf_id, kind, attach, attach_btf_id=number, module_fd=module
            )
            for attach, number in contexts(kind)
        )

    @functools.cached_property
    def attach_kinds(self) -> dict[str, Told]:
        """The ways to attach (``xdp_link``, ``tcx_ingress``, ``fentry``): see ``host.attaching``."""
        from netbpf.host.attaching import attach_kinds

        return attach_kinds(self._probe)

    @functools.cached_property
    def misc(self) -> dict[str, Told]:
        """What programs may be made of: ``bounded_loops``, ``large_insn_limit``, ``v3_isa_extension`` and the like."""
        loop = bytes.fromhex(
            "b7000000000000000700000001000000a500feff0a000000"
        )  # while (++r0 < 10)
        answers = {
            "large_insn_limit": probes.large_programs(),
            "bounded_loops": instruction_sets.accepts(loop + probes.EXIT),
            "v2_isa_extension": instruction_sets.probe(instruction_sets.LESS),
            "v3_isa_extension": instruction_sets.probe(instruction_sets.NARROW),
            "v4_isa_extension": instruction_sets.probe(instruction_sets.V4),
            "function_calls": instruction_sets.probe(instruction_sets.CALLS),
            "callbacks": instruction_sets.probe(instruction_sets.CALLBACKS),
            "global_variables": instruction_sets.probe(instruction_sets.GLOBALS),
            "atomics": instruction_sets.probe(instruction_sets.ATOMICS),
            "may_goto": instruction_sets.probe(instruction_sets.MAY_GOTO),
            "load_acquire": instruction_sets.probe(instruction_sets.ACQUIRE),
            "xdp_frags": probes.xdp_frags(self._probe),
            "sleepable_programs": self._probe.ask(
                ProgType.SYSCALL, probes.RETURN_ONE, flags=ProgFlag.SLEEPABLE
            ).loaded,
        }  # fmt: skip
        return {name: Told(here) for name, here in answers.items()}

    # --- inside ---

    def type_number(self, name: str) -> int:
        """The number of a program type; UsageError with near names for one that the kernel does not name."""
        plain = name.lower().removeprefix("bpf_prog_type_")
        plain = _SECTIONS.get(plain, plain)
        for number, known in self._types.items():
            if known == plain:
                return number
        known_names = self._types.values()
        raise UsageError(
            f"there is no program type {escape(name)}",
            hint=did_you_mean(plain, known_names, "program types"),
        )

    def type_name(self, name: str) -> str:
        """The kernel's name of a program type."""
        return self._types[self.type_number(name)]

    @staticmethod
    def _restricted(told: Told) -> Told:
        """An answer that was refused says by which capability it would be given."""
        if told.here is not None:
            return told
        lacking = _lacking()
        return Told(None, f"not told: {lacking}" if lacking else told.why)


# What people call them, by the sections of objects.
_SECTIONS: Final = {
    "tc": "sched_cls", "tcx": "sched_cls", "classifier": "sched_cls", "action": "sched_act", "socket": "socket_filter",
    "fentry": "tracing", "fexit": "tracing", "tp_btf": "tracing", "iter": "tracing", "freplace": "ext",
    "tp": "tracepoint", "raw_tp": "raw_tracepoint", "uprobe": "kprobe", "sockops": "sock_ops", "lirc": "lirc_mode2",
}  # fmt: skip


# Programs of these types are of one function or struct of the kernel. What they may call depends on it for tracing:
# a function has other things to tell than what an iterator goes through.
_PLACES: Final = {
    ProgType.TRACING: (
        (AttachType.TRACE_FENTRY, QUIET_FUNCTION, True), (AttachType.TRACE_ITER, "bpf_iter_task", True),
    ),
    ProgType.LSM: ((AttachType.LSM_MAC, "bpf_lsm_file_open", True),),
    ProgType.STRUCT_OPS: ((AttachType.NONE, _STRUCT_OPS, False),),
}  # fmt: skip


@functools.cache
def contexts(kind: int) -> tuple[tuple[int, int], ...]:
    """With what programs of a type are loaded to ask: attach type and BTF id, one or several."""
    for one, places in _PLACES.items():
        if one == kind:
            return tuple((int(attach), btf_id(name, kept)) for attach, name, kept in places)
    return ((probes.first_attach(kind), 0),)


def _best(answers: Iterable[Told]) -> Told:
    """Yes before no before nothing: what is allowed in one place is allowed to the type."""
    best = Told(None)
    for told in answers:
        if told.here:
            return told
        if best.here is None:
            best = told
    return best


@functools.cache
def btf_id(name: str, function: bool = True) -> int:
    """The number of a function, or else of a struct, among the kernel's types; 0 where there is none."""
    from netbpf.bpf.btf.kernel import kernel_btf
    from netbpf.bpf.btf.types import Kind

    try:
        found = kernel_btf().find(name, Kind.FUNC if function else Kind.STRUCT)
    except NetbpfError:
        return 0
    return found[0].id if found else 0


def _lacking() -> str:
    from netbpf._sys.capabilities import missing

    names = [
        f"CAP_{one.name}"
        for one in missing(Capability.BPF, Capability.PERFMON, Capability.NET_ADMIN)
    ]
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing" if names else ""

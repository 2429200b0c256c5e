"""What a program takes from the kernel by name: kfuncs, kernel symbols, and the kernel's configuration.

``.ksyms`` and ``.kconfig`` are conventions of libbpf (bpf_helpers.h: __ksym, __kconfig). A weak extern that the
kernel lacks is 0, and a call of one becomes an instruction the verifier refuses only if it can be reached.
"""

import functools
import gzip
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.fixup import kconfig_layout
from netbpf.bpf.btf.kernel import kernel_btf
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.linker import ExternRef, Image, MapRef
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import MapFlag, MapType
from netbpf.errors import NetbpfError, NotSupportedError, ObjectError
from netbpf.text import escape

KCONFIG_MAP = ".kconfig"
# No helper has this number or the next: should the call be reached, the verifier names it, and absent() the function.
_UNREACHABLE_HELPER = 2002000000
_UNREACHED = re.compile(r"unknown#(2002\d{6})\b")
_TRISTATE = {"n": 0, "y": 1, "m": 2}  # enum libbpf_tristate


def resolve(image: Image, spec: ObjectSpec, program: str) -> None:
    """Patch every extern reference of an image; ObjectError or NotSupportedError names the one that fails."""
    sections = _declared(spec.btf) if spec.btf else {}
    for position, ref in enumerate(image.externs):
        section = sections.get(ref.name)
        if section is None:
            raise _unknown(spec, ref, program)
        if section == ".kconfig":
            _kconfig(image, spec, ref)
        elif ref.call:
            _kfunc(image, spec, ref, position)
        else:
            _ksym(image, spec, ref)


def _declared(btf: Btf) -> dict[str, str]:
    found = {}
    for section in btf.of_kind(Kind.DATASEC):
        if section.name in (".kconfig", ".ksyms"):
            for entry in btf.section_vars(section):
                one = btf.type(entry.type_id)
                # .ksyms holds functions too, .kconfig only variables.
                if one.kind is Kind.VAR or (one.kind is Kind.FUNC and section.name == ".ksyms"):
                    found[one.name] = section.name
    return found


def _unknown(spec: ObjectSpec, ref: ExternRef, program: str) -> ObjectError:
    name = escape(ref.name)
    what = f"{spec.elf.origin}: program {escape(program)} {'calls' if ref.call else 'uses'} {name}"
    if ref.call:
        return ObjectError(
            f"{what}, which is neither in the object nor a kernel function declared with __ksym",
            hint="libc functions do not exist in BPF; write it static inline, or use __builtin_memcpy and the like",
        )
    return ObjectError(
        f"{what}, which the object does not define", hint="link its objects together, or define it"
    )


# --- functions and symbols of the kernel ---


@functools.cache
def _kernel_function(name: str) -> int | None:
    """The BTF id of a kernel function; NotSupportedError where the kernel does not tell its types."""
    found = kernel_btf().find(name, Kind.FUNC)
    return found[0].id if found else None


def _kfunc(image: Image, spec: ObjectSpec, ref: ExternRef, position: int) -> None:
    number = _kernel_function(ref.name.partition("___")[0])
    one = bpf.read(image.insns, ref.at)
    if number is not None:
        call = one._replace(src=bpf.PSEUDO_KFUNC_CALL, off=0, imm=number)
        bpf.write(image.insns, ref.at, call)
    elif ref.weak:
        call = one._replace(src=0, off=0, imm=_UNREACHABLE_HELPER + position)
        bpf.write(image.insns, ref.at, call)
    else:
        raise NotSupportedError(
            f"this kernel has no function {escape(ref.name)}, which {spec.elf.origin} calls"
        )


def absent(log: str, image: Image) -> str | None:
    """The weak kernel function that a verifier log complains of because the kernel lacks it, or None."""
    found = _UNREACHED.search(log)
    position = int(found[1]) - _UNREACHABLE_HELPER if found else -1
    return image.externs[position].name if 0 <= position < len(image.externs) else None


def _ksym(image: Image, spec: ObjectSpec, ref: ExternRef) -> None:
    assert spec.btf is not None
    variable = spec.btf.find(ref.name, Kind.VAR, Kind.FUNC)[0]  # _declared() found it there
    one = bpf.read(image.insns, ref.at)
    typed = (
        variable.kind is Kind.VAR and spec.btf.resolve(variable.size_or_type).kind is not Kind.VOID
    )
    if typed:
        found = kernel_btf().find(ref.name, Kind.VAR)
        if found:
            bpf.write(image.insns, ref.at, one._replace(src=bpf.PSEUDO_BTF_ID, imm=found[0].id))
            bpf.set_imm(image.insns, ref.at + 1, 0)
            return
    address = 0 if typed else _kernel_address(ref.name)
    if not address and not ref.weak:
        raise NotSupportedError(
            f"this kernel has no symbol {escape(ref.name)}, which {spec.elf.origin} uses"
        )
    bpf.write(image.insns, ref.at, one._replace(src=0, imm=0))
    bpf.set_imm(image.insns, ref.at, address)
    bpf.set_imm(image.insns, ref.at + 1, address >> 32)


def _kernel_address(name: str) -> int:
    try:
        with open("/proc/kallsyms") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) >= 3 and fields[2] == name:
                    return int(fields[0], 16)
    except OSError:
        return 0  # without /proc, or hidden by kernel.kptr_restrict
    return 0


# --- the kernel's configuration ---


def _kconfig(image: Image, spec: ObjectSpec, ref: ExternRef) -> None:
    assert spec.btf is not None
    size, places = kconfig_layout(spec.btf)
    if KCONFIG_MAP not in spec.maps:
        section = spec.btf.find(KCONFIG_MAP, Kind.DATASEC)[0]
        spec.maps[KCONFIG_MAP] = MapSpec(
            KCONFIG_MAP, MapType.ARRAY, 4, size, 1, MapFlag.MMAPABLE | MapFlag.RDONLY_PROG,
            value_type_id=section.id, initial=bytearray(size),
        )  # fmt: skip
    offset, variable = places[ref.name]
    content = spec.maps[KCONFIG_MAP].initial
    assert content is not None
    value = _config_value(spec.btf, spec.btf.type(variable).size_or_type, ref)
    content[offset : offset + len(value)] = value
    image.maps.append(MapRef(ref.at, KCONFIG_MAP, offset))


def _config_value(btf: Btf, type_id: int, ref: ExternRef) -> bytes:
    kind, size, name = btf.resolve(type_id), btf.size(type_id), escape(ref.name)
    if ref.name in _FACTS:
        text: str | None = str(_FACTS[ref.name]())
    else:
        text = kernel_config().get(ref.name)
    if text is None:
        if ref.weak:
            return bytes(size)
        raise NotSupportedError(
            f"the kernel's configuration does not have {name}",
            hint="declare it __weak if the program can do without",
        )
    if kind.kind is Kind.ARRAY:
        return text.strip('"').encode()[: max(size - 1, 0)].ljust(size, b"\0")
    try:
        if text in _TRISTATE:
            # As in libbpf, any integer of one byte that is no bool is a character: 'y', 'm' or 'n'.
            character = kind.kind is Kind.INT and size == 1 and not btf.integer(kind).boolean
            number = ord(text) if character else _TRISTATE[text]
        else:
            number = int(text, 0)
        return number.to_bytes(size, "little", signed=number < 0)
    except (ValueError, OverflowError):
        raise ObjectError(
            f"{name} is {escape(text)} in the kernel's configuration, which its {size}-byte extern cannot hold"
        ) from None


def kernel_version() -> int:
    """KERNEL_VERSION(major, minor, patch) of the running kernel."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", os.uname().release)
    if not found:
        return 0
    major, minor, patch = (int(part or 0) for part in found.groups())
    return major << 16 | minor << 8 | min(patch, 255)


# Externs that are in no configuration file (libbpf answers them too).
_FACTS: dict[str, Callable[[], int]] = {
    "LINUX_KERNEL_VERSION": kernel_version,
    "LINUX_HAS_SYSCALL_WRAPPER": lambda: int(platform.machine() in ("x86_64", "aarch64", "s390x")),
    "LINUX_HAS_BPF_COOKIE": lambda: int(kernel_version() >= 0x050F00),
}


@functools.cache
def kernel_config() -> dict[str, str]:
    """The running kernel's configuration: /proc/config.gz, else /boot/config-RELEASE; NetbpfError without either."""
    for path in (Path("/proc/config.gz"), Path("/boot") / f"config-{os.uname().release}"):
        try:
            raw = path.read_bytes()
        except OSError:
            continue
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        lines = (
            line.partition("=")
            for line in text.decode(errors="replace").splitlines()
            if line.startswith("CONFIG_")
        )
        return {name: value for name, _, value in lines}
    raise NetbpfError(
        "the kernel's configuration is not readable",
        hint="modprobe configs, or install its /boot/config file",
    )

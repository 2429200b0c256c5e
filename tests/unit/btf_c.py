"""Real BTF for tests: C compiled by every clang that is installed."""

import functools
import os
import re
from pathlib import Path

from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.object import ObjectSpec
from tests.support import compiling


def _installed() -> list[str]:
    found = set()
    for directory in os.get_exec_path():
        if Path(directory).is_dir():
            names = (path.name for path in Path(directory).glob("clang-*"))
            found |= {name for name in names if re.fullmatch(r"clang-\d+", name)}
    return sorted(found, key=lambda name: int(name[6:])) or ["clang"]


CLANGS = _installed()

HEAD = """
#include <linux/types.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <stdbool.h>
#define TAG(text) __attribute__((btf_decl_tag(text)))
"""


@functools.cache
def compile_c(clang: str, source: str) -> ObjectSpec:
    """The object of some C, which need not hold a program."""
    flags = ("-Wall", "-Werror", "-Wno-unused-variable")
    return ObjectSpec(compiling.compile_c(HEAD + source, clang=clang, flags=flags), "object.o")


def btf_of(clang: str, source: str) -> Btf:
    """Only its types."""
    found = compile_c(clang, source).btf
    assert found
    return found


def variable(btf: Btf, name: str) -> int:
    """The id of a variable's VAR."""
    (found,) = btf.find(name, Kind.VAR)
    return found.id


def section(spec: ObjectSpec, name: str) -> tuple[Btf, int, bytes]:
    """A section of variables: the object's BTF, the DATASEC's id, the content."""
    assert spec.btf
    (found,) = spec.btf.find(name, Kind.DATASEC)
    content = spec.maps[name].initial
    assert content is not None
    return spec.btf, found.id, bytes(content)

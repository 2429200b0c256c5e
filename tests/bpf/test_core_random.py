"""CO-RE relocations of structs picked at random from the running kernel, declared more or less wrongly."""

import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbpf.bpf.btf.kernel import kernel_btf
from netbpf.bpf.btf.types import BtfType, Kind
from tests.bpf.core import oracle

CLANGS = ("clang-14", "clang-19")
INTS = ("__u8", "__u16", "__u32", "__u64", "char", "short", "int", "long", "_Bool")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long "
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "asm typeof bool true false noinline sink license".split()
)


def _usable(name: str) -> bool:
    return bool(_IDENTIFIER.fullmatch(name)) and name not in _KEYWORDS and "___" not in name


@pytest.fixture(scope="module")
def named() -> dict[Kind, list[BtfType]]:
    """The kernel's types whose names are theirs alone, by kind: others may be ambiguous."""
    types = [one for one in kernel_btf().types() if _usable(one.name)]
    count = Counter((one.kind, one.name) for one in types)
    found: dict[Kind, list[BtfType]] = {}
    for one in types:
        if count[one.kind, one.name] == 1:
            found.setdefault(one.kind, []).append(one)
    return found


def _fields(kind: BtfType) -> Iterator[tuple[str, BtfType, int]]:
    """Name, type and bitfield size of each named member, those of anonymous structs included."""
    btf = kernel_btf()
    for member in btf.members(kind):
        inside = btf.resolve(member.type_id)
        if member.name and _usable(member.name):
            yield member.name, inside, member.bitfield_size
        elif not member.name and inside.kind in (Kind.STRUCT, Kind.UNION):
            yield from _fields(inside)


def _declare(rng: random.Random, name: str, kind: BtfType, bits: int) -> tuple[str, str]:
    """A declaration that may differ from the kernel's, and what is asked about it."""
    btf = kernel_btf()
    if bits or rng.random() < 0.1:
        sort, width = rng.choice([("unsigned int", 32), ("int", 32), ("__u8", 8)])
        few = rng.choice([1, max(min(bits, width // 2), 1), width // 2 + 1])
        # clang itself gives up on some that share a word with others.
        return f"int before_{name}; {sort} {name} : {few};", "ALL_OF"
    match kind.kind:
        case Kind.INT if kind.size_or_type <= 8:
            return f"{rng.choice(INTS)} {name};", rng.choice(["ALL_OF", "LOAD", "STORE"])
        case Kind.PTR:
            return f"void *{name};", rng.choice(["PLACE_OF", "LOAD"])
        case Kind.ARRAY:
            inner, count = btf.resolve(btf.array(kind).type_id), btf.array(kind).count
            sort = rng.choice(INTS) if inner.kind is Kind.INT else "void *"
            wrong = rng.choice([count, count + 3, max(count // 2, 1)]) or 2
            return f"{sort} {name}[{wrong}];", f"ELEMENT{rng.randrange(wrong)}"
        case Kind.STRUCT | Kind.UNION:
            return f"struct {{ int whatever; }} {name};", "PLACE_OF"
        case _:
            return f"{rng.choice(['int', 'void *'])} {name};", "PLACE_OF"


def _ask(question: str, field: str) -> str:
    if question == "LOAD":
        return f"sink = (__u64)({field});"
    if question == "STORE":
        return f"{field} = sink;"
    if question.startswith("ELEMENT"):
        return f"PLACE_OF({field}); PLACE_OF({field}[{question.removeprefix('ELEMENT')}]);"
    return f"{question}({field});"


def _program(rng: random.Random, number: int, kind: BtfType) -> str:
    name = kind.name + rng.choice(["", "", "___flavor"])
    known = {field: (type_of, bits) for field, type_of, bits in _fields(kind)}
    chosen = rng.sample(sorted(known), min(len(known), 6))
    declared, asked = [], []
    for field in chosen:
        text, question = _declare(rng, field, *known[field])
        if rng.random() < 0.2:
            text = f"struct {{ int pad_{field}; {text} }};"
        if rng.random() < 0.1:
            text, field = re.sub(rf"\b{field}\b", f"no_{field}", text), f"no_{field}"
        declared.append(text)
        asked.append(_ask(question, f"it->{field}"))
    word = "struct" if kind.kind is Kind.STRUCT else "union"
    return (
        f"{word} {name} {{ {' '.join(declared)} }} KERNEL;\n"
        f'SEC("socket") int prog{number}(void *ctx) {{ {word} {name} *it = ctx; {" ".join(asked)} return 0; }}\n'
    )


@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.parametrize("seed", range(4))
def test_wrongly_declared_structs(
    seed: int, clang: str, named: dict[Kind, list[BtfType]], tmp_path: Path
) -> None:
    rng = random.Random(f"{seed} {clang}")
    # Offsets beyond 32767 fit no load; both refuse such an object as a whole.
    kinds = [
        one for one in named[Kind.STRUCT] + named[Kind.UNION]
        if one.size_or_type < 32768 and one.vlen and any(_fields(one))
    ]  # fmt: skip
    programs = [_program(rng, *pair) for pair in enumerate(rng.sample(kinds, 100))]
    file = tmp_path / "x.bpf.c"
    file.write_text('#include "lookup.h"\n' + "".join(programs))
    path = oracle.compile_object(file, tmp_path / "x.o", clang)
    _compare(path, 1000)


def _compare(path: Path, edits: int) -> None:
    theirs = oracle.libbpf(path)
    assert not theirs.failed, theirs.log
    assert sum(map(len, theirs.edits.values())) > edits
    for program, ours in oracle.netbpf(path, theirs).items():
        assert ours.insns == ours.expected, program


def test_types_as_they_are(named: dict[Kind, list[BtfType]], tmp_path: Path) -> None:
    """Of vmlinux.h, which is close to what the kernel has, but not the same (it has no enum64 for one)."""
    command = "bpftool btf dump file /sys/kernel/btf/vmlinux format c".split()
    with open(tmp_path / "vmlinux.h", "wb") as header:
        subprocess.run(command, stdout=header, check=True)
    rng = random.Random(1)
    lines = ['#include "vmlinux.h"', '#include "lookup.h"']
    words = {Kind.STRUCT: "struct ", Kind.UNION: "union ", Kind.ENUM: "enum ", Kind.TYPEDEF: ""}
    for kind, word in words.items():
        chosen = rng.sample(named[kind], 80)
        body = [
            f"sink = bpf_core_type_{question}({word}{one.name});"
            for one in chosen
            for question in ("matches", "exists", "id_kernel")
        ]
        for one in chosen if kind is Kind.ENUM else ():
            # libbpf 1.1 takes the highest bit of an unsigned enumerator for a sign, and then stumbles over it.
            labels = [label for label, value in kernel_btf().enumerators(one) if value < 1 << 31]
            if labels:
                body.append(f"sink = bpf_core_enum_value(enum {one.name}, {rng.choice(labels)});")
        lines.append(
            f'SEC("socket") int prog{kind.value}(void *ctx) {{ {" ".join(body)} return 0; }}'
        )
    file = tmp_path / "x.bpf.c"
    file.write_text("\n".join(lines))
    path = oracle.compile_object(file, tmp_path / "x.o", "clang-19", tmp_path)
    _compare(path, 1000)

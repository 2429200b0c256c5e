"""Telling BCC's dialect of C from plain BPF C, by the source alone.

BCC declares maps with macros of its own (``BPF_HASH(flows, u32)``) and programs with bare functions; plain BPF C
names sections with ``SEC()`` and includes ``<bpf/bpf_helpers.h>``. Comments, strings and the macros' names in
other places (``#define``, arguments) say nothing.
"""

import re

# What BCC 0.8 to 0.35 define (src/cc/export/helpers.h), with the suffixes of their families.
_MACRO = re.compile(
    r"""(?:^|[;}{)])[ \t]*(?P<macro>
        BPF_(?:F_)?TABLE(?:_PUBLIC|_PINNED|_SHARED)?
      | BPF_(?:PERCPU_)?(?:HASH|ARRAY)
      | BPF_(?:HASH|ARRAY)_OF_MAPS
      | BPF_(?:LPM_TRIE|HISTOGRAM|PROG_ARRAY|PERF_ARRAY|PERF_OUTPUT|RINGBUF_OUTPUT|CGROUP_ARRAY)
      | BPF_(?:DEVMAP|CPUMAP|XSKMAP|XDP_REDIRECT_MAP|SOCKMAP|SOCKHASH|STACK_TRACE(?:_BUILDID)?)
      | BPF_(?:QUEUE|STACK|QUEUESTACK(?:_PINNED|_PUBLIC|_SHARED)?)
      | BPF_(?:SK|INODE|TASK|CGROUP|PERCPU_CGROUP)_STORAGE
      | TRACEPOINT_PROBE | RAW_TRACEPOINT_PROBE | KFUNC_PROBE | KRETFUNC_PROBE | LSM_PROBE
    )[ \t]*\(""",
    re.MULTILINE | re.VERBOSE,
)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*[<\"]([^>\"\n]+)", re.MULTILINE)
_SECTION = re.compile(r"\bSEC[ \t]*\(")
# A comment, a string or a character constant, whichever starts first; unclosed ones end with the file or line.
_NOISE = re.compile(
    r"""//(?:[^\n\\]|\\.)* | /\*.*?(?:\*/|\Z) | "(?:[^"\\\n]|\\.)*(?:"|$) | '(?:[^'\\\n]|\\.)*(?:'|$)""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_DIRECTIVE = re.compile(r"^[ \t]*\#(?:[^\n\\]|\\.)*", re.DOTALL | re.MULTILINE)
_INNER = re.compile(
    r"\bBPF_(?:ARRAY|HASH)_OF_MAPS\s*\(\s*(\w+)\s*,(?:[^()\"]*,)?\s*\"(\w+)\"", re.DOTALL
)
_PINNED = re.compile(r"\b(BPF_(?:TABLE|QUEUESTACK)_PINNED)\s*\(")


def _without_comments(source: str) -> str:
    return _NOISE.sub(lambda match: match[0] if match[0][0] in "\"'" else _blank(match[0]), source)


def _blank(text: str) -> str:
    # A comment stands for one space; its line breaks keep the lines that follow at their start.
    return " " + "\n" * text.count("\n")


def is_bcc(source: str) -> bool:
    """Whether a source is written for BCC."""
    includes = set(_INCLUDE.findall(_without_comments(source)))
    if any(
        name.rpartition("/")[2] in ("bpf_helpers.h", "vmlinux.h", "bpf_api.h") for name in includes
    ):
        return False
    code = _NOISE.sub(lambda match: _blank(match[0]), source)
    defined = set(_DEFINE.findall(code))
    code = _DIRECTIVE.sub("", code)
    if _SECTION.search(code):
        return False
    if any(match["macro"] not in defined for match in _MACRO.finditer(code)):
        return True
    # <uapi/...> exists in the kernel's own tree only, which BCC compiles against and plain BPF C does not.
    return any(name.startswith("uapi/linux/") for name in includes)


def inner_maps(source: str) -> dict[str, str]:
    """The inner map's name of each map of maps in a BCC source: BCC names it in a string."""
    return dict(_INNER.findall(_without_comments(source)))


def pinned_table(source: str) -> str | None:
    """The macro by which a BCC source pins a table, if it does."""
    found = _PINNED.search(_NOISE.sub(lambda match: _blank(match[0]), source))
    return found[1] if found else None

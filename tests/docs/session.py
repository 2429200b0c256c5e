"""Runs what a page shows, on a machine of its own, and compares.

A page is one session: its ``console`` blocks run in order in one shell, as root, in network and mount namespaces that
nobody else sees. There are ``eth0`` and ``eth1``, whose other ends are ``wire0`` and ``wire1``, and an empty directory.

- Lines that begin with ``# `` are commands (a trailing backslash continues one); what follows is their output.
- A line ``...`` in the output stands for any lines. Ids, tags, times and the like are compared by their form.
- An id of a program or map, or a tag, that a page showed means in a later command what was there this time.
- ``# netbpf trace eth0 &`` shows what it prints until it listens, and the rest is the output of a later ``# wait``.
- ``<!-- numbers differ -->`` before a block: there they do, from run to run (ids of processes).
- ``<!-- send 10 udp 53 eth0 -->`` between the blocks sends packets into an interface, unseen by the reader.
- No two processes run one page at a time (``alone``): some look for programs and maps of the whole kernel by name.
- A ``c`` or ``python`` block whose first line is a comment with nothing but a file name becomes that file.

``python -m tests.docs.session --update PAGE...`` writes the real output into the pages.
"""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SEND = re.compile(r"^<!-- send (.*?) -->$", re.MULTILINE)
_FILE = re.compile(r"^(?://|#) ([\w.-]+)\n")
_DIFFER = re.compile(r"<!-- numbers differ -->\n+$")
_NUMBER = re.compile(r"\b(?:0x[0-9a-f]+|\d+)\b")
_LISTENER = re.compile(r"netbpf (?:trace|events|monitor|capture) [^&>]*&")
_TO_FILE = re.compile(r">([\w.-]+)")
_ID = re.compile(r"\b(?:program|map) (\d{4,})\b|\b([0-9a-f]{16})\b")
_MARK = "\x1e"
_SECONDS = 240.0  # of one page, on a busy machine

_SET_UP = """
mkdir -p /run/netbpf && mount -t tmpfs -o mode=700 tmpfs /run/netbpf
mount -t bpf bpf /sys/fs/bpf
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
for n in 0 1; do
	ip link add wire$n address 02:00:00:00:00:1$n type veth peer name eth$n address 02:00:00:00:00:0$n
	ip link set wire$n up; ip link set eth$n up
done
"""


@dataclass(slots=True)
class Step:
    """A command and what the page says it prints; ``start`` and ``end`` delimit that text in the page."""

    command: str
    expected: str = ""
    start: int = 0
    end: int = 0
    hidden: bool = False
    numbers_differ: bool = False
    output: str = ""
    code: int = 0


@dataclass(slots=True)
class Page:
    """A page's files and steps, in order."""

    files: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    """Ids and tags on the page, and what they were in the run."""


def parse(text: str) -> Page:
    """Find what a page shows."""
    page, found = Page(), []
    for match in _FENCE.finditer(text):
        if match[1] == "console":
            differ = _DIFFER.search(text, 0, match.start()) is not None
            found += _steps(match[2], match.start(2), differ)
        elif named := _FILE.match(match[2]):
            page.files[named[1]] = match[2][named.end() :]
    for match in _SEND.finditer(text):
        found.append(
            Step(
                f"{sys.executable} -m tests.docs.send {match[1]}", hidden=True, start=match.start()
            )
        )
    page.steps = sorted(found, key=lambda step: step.start)
    return page  # fmt: skip


def _steps(block: str, offset: int, differ: bool) -> list[Step]:
    steps: list[Step] = []
    continued = False
    for line in block.splitlines(keepends=True):
        offset += len(line)
        if line.startswith("# ") or continued:
            text = line.removeprefix("# ") if not continued else line
            if continued:
                steps[-1].command += text.rstrip("\n")
                steps[-1].start = steps[-1].end = offset
            else:
                steps.append(
                    Step(text.rstrip("\n"), start=offset, end=offset, numbers_differ=differ)
                )
            continued = line.endswith("\\\n")
            if continued:
                steps[-1].command = steps[-1].command[:-1]
        elif steps:
            steps[-1].expected += line
            steps[-1].end = offset
    return steps


def run(page: Page) -> None:
    """Run every step and note its output and exit code."""
    with tempfile.TemporaryDirectory(prefix="netbpf-docs-") as directory:
        for name, content in page.files.items():
            Path(directory, name).write_text(content)
        environment = {
            "HOME": directory,
            "LC_ALL": "C.UTF-8",
            "NETBPF_CACHE_DIR": f"{directory}/.cache",
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", ""),
        }
        shell = subprocess.Popen(
            # With process 1 in it, the mount namespace is what a whole machine's would be.
            ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--kill-child", "--mount-proc",
             "bash"],
            cwd=directory, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        late = threading.Timer(_SECONDS, shell.kill)
        late.start()
        try:
            _ask(shell, f"set -e{_SET_UP}set +e")
            for step in page.steps:
                output, step.code = _ask(shell, _script(translated(step.command, page.ids)))
                step.output = output.replace(directory, "/root").lstrip("\n")
                page.ids |= ids(step.expected, step.output)
        finally:
            late.cancel()
            shell.communicate()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else of this user's runs the same page: programs and maps have no namespaces, and some pages look them up
    by their names, which are then the only ones in the kernel.
    """
    name = f"netbpf-docs-{os.geteuid()}.{path.name}.lock"
    lock = os.open(
        Path(tempfile.gettempdir(), name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )  # fmt: skip
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _ask(shell: subprocess.Popen[str], script: str) -> tuple[str, int]:
    """What a script prints in the shell, and its exit code."""
    assert shell.stdin
    assert shell.stdout
    # Each sees the exit code of the one before as $?.
    shell.stdin.write(f"{script}\n__=$?; printf '{_MARK}%s{_MARK}\\n' $__; (exit $__)\n")
    shell.stdin.flush()
    said = ""
    for line in shell.stdout:
        said += line
        if line.endswith(f"{_MARK}\n"):
            output, code, _ = said.rsplit(_MARK, 2)
            return output, int(code)
    raise AssertionError(f"the session ended early, at `{script}`: {said[-2000:]}")


def _script(command: str) -> str:
    """What the shell is given for a command: of a listener in the background it waits for the first words."""
    if _LISTENER.fullmatch(command):
        return (
            f": >.said; {command[:-1]} >.said 2>&1 & until [ -s .said ] || ! kill -0 $!; do sleep 0.05; done\n"
            "tee .shown <.said"
        )
    if command.endswith("&"):
        # What such a file had before is not for the next command, which may come first.
        return "".join(f": >{name}; " for name in _TO_FILE.findall(command)) + command
    if command == "wait":
        return "wait $!; __=$?; tail -c +$(($(wc -c <.shown) + 1)) .said; (exit $__)"
    return command


def ids(expected: str, output: str) -> dict[str, str]:
    """Which ids and tags stand in the place of those that a page shows."""
    shown, real = (
        ["".join(one.groups(default="")) for one in _ID.finditer(text)]
        for text in (expected, output)
    )
    return dict(zip(shown, real, strict=True)) if len(shown) == len(real) else {}


def translated(command: str, known: dict[str, str]) -> str:
    """A command with the ids and tags of this run."""
    return re.sub(r"\b[0-9a-f]{4,}\b", lambda one: known.get(one[0], one[0]), command)


# What differs from run to run, and what it is compared as.
_FORMS = [
    # Another process on the machine may have the kernel count runs just now.
    (r", [\d,]+ runs, \d+ ns each", ""),
    (r"[\d,.]+ runs/s(, \d+ ns each)?", "N runs/s"),
    (r"\b(program|map|link|link_id|prog_id) \d+", r"\1 N"),
    (r"\b\d+( +)[0-9a-f]{16}\b", r"N\1TAG"),
    (
        r'("(?:id|link_id|btf_id|replaced|attached_at|added_at|loaded_at|bytes_jited|netns|size)": ?)[\d.]+',
        r"\1N",
    ),
    (r'("(?:seconds|packets_per_second|time_ns)": ?)[\d.]+', r"\1N"),
    (r'("map_ids": ?)\[[\d,\s]*\]', r"\1[N]"),
    (r'("tag": ?)"[0-9a-f]{16}"', r'\1"TAG"'),
    (r'("sha256": ?)"[0-9a-f]{64}"', r'\1"SHA"'),
    (r"\b\d+(?:\.\d+)? (ns|µs|ms|s)\b", r"N \1"),
    (r"\b[\d,]+ bytes, clang [\d.]+", "N bytes, clang N"),
    (r"\bclang [\d.]+", "clang N"),
    (r"\bprocess \d+", "process N"),
    (r"^( *prog/xdp id) \d+ name (\w+) tag [0-9a-f]{16}", r"\1 N name \2 tag TAG"),
    (r"^(bpf_prog)_[0-9a-f]{16}_(\w+): at 0x[0-9a-f]+", r"\1_TAG_\2: at ADDRESS"),
    (r"#bpf_prog_[0-9a-f]{16}_", "#bpf_prog_TAG_"),
    (r"\$0xffff[0-9a-f]{12}\b", "$ADDRESS"),
    (r"\bcall 0x[0-9a-f]+ <", "call ADDRESS <"),
    (r"^( +tag +)[0-9a-f]{16}$", r"\1TAG"),
    (r"^( +machine code +)\d+", r"\1N"),
    (r"^( +(?:maps|BTF|programs) +)\d[\d, ]*$", r"\1N"),
    (r"^( +link +)\d+ ", r"\1N "),
    (r"map\[id:\d+\]", "map[id:N]"),
    (r"#-?\d{4,}\b", "#N"),
    # What other programs of the machine print meanwhile.
    (r", [\d,]+ of unknown programs not shown", ""),
    (r"^ *\d+ +(xdp|tcx) +\d+ ", r"N \1 N "),
    (r"^ *\d+ +(\w+) +(\w+) +[0-9a-f]{16}\b", r"N \1 \2 TAG"),
    (r"\blinks/\d+-\d+-", "links/N-N-"),
    (r"\b\d{4}-\d\d-\d\d\b", "DATE"),
    (r"\bloaded (?:\d+[dhms] )+ago", "loaded AGE ago"),
    (r"\b\d\d:\d\d:\d\d(?:\.\d{6})?\b", "TIME"),
    (r'("(?:map_id|pid|cpu)": ?)\d+', r"\1N"),
    (r'("task": ?)"[^"]*"', r'\1"TASK"'),
    (r"\b(\w+)\[\d{3,}\] ", r"\1[N] "),
    (r"goes back in \w+ unless", "goes back in SPAN unless"),
    (r"(builtin:\w+|netbpf)( +)\d+[smh]\b", r"\1\2AGE"),
    (r"\b\d+( +)\d+s( +\S+ +/sys/fs/bpf/)", r"N\1AGE\2"),
    (r"  \d{4,}  \d+s  ", "  N  AGE  "),
    (r"  \d+s  ", "  AGE  "),
    # What doctor says of the machine and its tools, and how much features found.
    (
        r"^  ok +(kernel|BTF|clang|libbpf headers|BCC|BCC kernel headers|bpftool|capabilities|unprivileged BPF) .*",
        r"ok \1",
    ),
    (r"^(program types|map types|helpers of \w+) \(\d+\)$", r"\1 (N)"),
    # A process on the machine may hold types just now.
    (r"(PROGRAMS +MAPS) +HELD BY$", r"\1"),
    (r"[\d,]+ per second", "N per second"),
    (r"[\d.]+ [kMG]?bit/s", "N bit/s"),
    (r"(\d )[\d,]+\.\d\b", r"\1RATE"),
    (r"-{3,}", "---"),
    (r"[ \t]+", " "),
    (r" $", ""),
]


def form(text: str) -> list[str]:
    """The lines of an output with what may differ replaced."""
    for pattern, by in _FORMS:
        text = re.sub(pattern, by, text, flags=re.MULTILINE)
    return text.strip("\n").splitlines()


def matches(output: str, expected: str) -> bool:
    """Whether an output is what a page shows; a line ``...`` stands for any lines."""
    parts: list[list[str]] = [[]]
    for line in form(expected):
        if line.strip() == "...":
            parts.append([])
        else:
            parts[-1].append(line)
    pattern = r"(?:.*\n)*?".join(
        "".join(re.escape(line) + r"\n" for line in part) for part in parts
    )
    return re.fullmatch(pattern, "".join(line + "\n" for line in form(output))) is not None


def _told(step: Step) -> tuple[str, str]:
    """The output and what is expected."""
    if not step.numbers_differ:
        return step.output, step.expected
    return _NUMBER.sub("N", step.output), _NUMBER.sub("N", step.expected)


def problems(page: Page) -> list[str]:
    """What does not agree with the page, after ``run``."""
    found = []
    for number, step in enumerate(page.steps):
        after = page.steps[number + 1].command if number + 1 < len(page.steps) else ""
        fine = "echo $?" in after or "netbpf: error:" in step.expected
        if step.code and not fine:
            found.append(f"`{step.command}` ended with {step.code}: {step.output}")
        elif "Traceback (most recent call last)" in step.output:
            found.append(f"`{step.command}`: {step.output}")
        elif not step.hidden and not matches(*_told(step)):
            found.append(
                f"`{step.command}` prints\n{step.output}\nbut the page shows\n{step.expected}"
            )
    return found


def update(path: Path) -> list[str]:
    """Write the real output into a page, except where it is shortened by ``...``; the problems that remain."""
    text = path.read_text()
    page = parse(text)
    run(page)
    broken = [step for step in page.steps if "Traceback (most recent call last)" in step.output]
    if broken:
        return [f"nothing is written: `{step.command}`: {step.output}" for step in broken]
    for step in reversed(page.steps):
        if step.hidden:
            continue
        if "\n...\n" not in f"\n{step.expected}":
            output = step.output.rstrip("\n") + "\n" if step.output.strip() else ""
            gap = "\n" if step.expected.endswith("\n\n") else ""
            text = text[: step.start] + output + gap + text[step.end :]
        command = text.rfind("\n# ", 0, step.start)
        text = (
            text[:command] + translated(text[command : step.start], page.ids) + text[step.start :]
        )
    path.write_text(text)
    page = parse(text)
    run(page)
    return problems(page)


def main() -> int:
    """``--update PAGE...``; the exit code."""
    failed = False
    for name in sys.argv[2:]:
        path = Path(name)
        with alone(path):
            found = update(path)
        for problem in found:
            failed = True
            sys.stderr.write(f"{name}: {problem}\n\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

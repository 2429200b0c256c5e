"""``python -m tests.inspect.hold PROGRAM FIFO``: hold a program, its types, maps and links until a signal comes."""

import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from netbpf import api
from netbpf._sys import bpf as sys_bpf


def main(name: str, gate: str) -> None:
    """Open all of it and say so through the FIFO."""
    with ExitStack() as stack:
        for program in api.programs(("name", name)):
            fd = stack.enter_context(sys_bpf.fd_by_id("PROG", program.info.id))
            if program.info.btf_id:
                stack.enter_context(sys_bpf.fd_by_id("BTF", program.info.btf_id))
            pin = Path("/sys/fs/bpf", f"held_{program.info.id}")
            sys_bpf.obj_pin(str(pin), fd.fileno())
            stack.callback(pin.unlink)
            for number in program.info.map_ids:
                held = stack.enter_context(sys_bpf.fd_by_id("MAP", number))
                place = Path("/sys/fs/bpf", f"held_{number}")
                sys_bpf.obj_pin(str(place), held.fileno())
                stack.callback(place.unlink)
        for link in api.links():
            if link.program == name:
                stack.enter_context(sys_bpf.fd_by_id("LINK", link.info.id))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        Path(gate).write_text("open\n")
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What a user of BCC writes: compile, attach, detach. Run by Debian's interpreter, which has BCC.

bcc_count.py SOURCE INTERFACE [FLAG...], where the flags are clang's, for kernel headers in unusual places.
"""

import sys


def main(source: str, interface: str, *flags: str) -> None:
    """Do it once."""
    from bcc import BPF

    module = BPF(src_file=source, cflags=list(flags))
    module.attach_xdp(interface, module.load_func("count", BPF.XDP), BPF.XDP_FLAGS_DRV_MODE)
    module.remove_xdp(interface, BPF.XDP_FLAGS_DRV_MODE)


main(*sys.argv[1:])

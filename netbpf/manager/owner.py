"""Who put a program on a hook, where the kernel shows it: by the names and pins that each manager is known for."""

from netbpf.constants import Hook
from netbpf.model import Occupant, ProgramInfo

NETBPF, LIBXDP, BPFMAN, CILIUM = "netbpf", "libxdp", "bpfman", "cilium"


def owner(occupant: Occupant, program: ProgramInfo) -> str | None:
    """The manager of a program that netbpf has no record of, or None where nothing tells.

    cilium names its programs ``cil_*``. libxdp and bpfman run a dispatcher: one that calls itself so is believed if
    it has a dispatcher's configuration, or pins beside it (see ``neighbours``). Programs of ip(8), tc(8) and of
    loaders of their own look like any others.
    """
    if program.name.startswith("cil_"):
        return CILIUM
    from netbpf.manager import neighbours  # only where there is a dispatcher

    if program.name not in neighbours.DISPATCHERS:
        return None
    if occupant.hook is Hook.XDP and neighbours.libxdp_pins(occupant).is_dir():
        return LIBXDP
    if neighbours.bpfman_pins(occupant):
        return BPFMAN
    if neighbours.config(program) is None:
        return None
    # Its pins may lie in another mount namespace (`ip netns exec` hides /sys/fs/bpf).
    if neighbours.BPFMAN_FS.is_dir():
        return BPFMAN
    return LIBXDP if occupant.hook is Hook.XDP else BPFMAN

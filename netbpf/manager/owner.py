"""Who put a program on a hook, where the kernel shows it: by the names and pins that each manager is known for."""

from pathlib import Path

from netbpf import layout
from netbpf.constants import Hook
from netbpf.model import Occupant, ProgramInfo

NETBPF, LIBXDP, BPFMAN, CILIUM = "netbpf", "libxdp", "bpfman", "cilium"


def owner(occupant: Occupant, program: ProgramInfo) -> str | None:
    """The manager of a program that netbpf has no record of, or None where nothing tells.

    libxdp pins its dispatcher as ``xdp/dispatch-IFINDEX-ID`` (lib/libxdp/protocol.org of xdp-tools); bpfman keeps
    its own bpffs in /run/bpfman/fs; cilium names its programs ``cil_*``.
    """
    if program.name.startswith("cil_"):
        return CILIUM
    if program.name in ("xdp_dispatcher", "tc_dispatcher"):
        if occupant.hook is Hook.XDP and libxdp_pins(occupant).is_dir():
            return LIBXDP
        if Path("/run/bpfman/fs").is_dir():
            return BPFMAN
        # Its pins may lie in another mount namespace (`ip netns exec` hides /sys/fs/bpf).
        return LIBXDP if occupant.hook is Hook.XDP else BPFMAN
    return None


def libxdp_pins(occupant: Occupant) -> Path:
    """The directory in which libxdp pins the members of a dispatcher."""
    return layout.BPFFS / "xdp" / f"dispatch-{occupant.interface.index}-{occupant.prog_id}"

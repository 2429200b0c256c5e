"""What an attach asks for, and what came of it on each interface."""

from dataclasses import dataclass, field

from netbpf.constants import Hook, Mode
from netbpf.errors import NetbpfError, UsageError
from netbpf.manager.making import Making
from netbpf.model import Attachment, Interface
from netbpf.state.pending import Pending

AUTO = "auto"
PINNED = "pinned:"  # before the path of a program that is loaded already
XDP_MODES = {
    "native": Mode.NATIVE, "drv": Mode.NATIVE, "driver": Mode.NATIVE,
    "skb": Mode.SKB, "generic": Mode.SKB,
    "hw": Mode.HW, "offload": Mode.HW,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AttachRequest(Making):
    """One attach. ``interfaces`` are names or globs; ``mode`` one of native, skb, hw, auto (XDP only, default native).

    Each of ``objects`` becomes a member of what runs on the hook, called ``name`` or after its program, in the order
    of ``priority`` (default 50, lower first); ``proceed_on`` are the verdicts that hand the packet on (None: the
    hook's usual ones). ``pref`` is the TC filter's priority, given only to run beside foreign filters. ``redirects``
    are entries of devmaps and cpumaps, ``tx[0]=eth1:program``. Where ``confirm`` is given, it goes back by itself
    after so many seconds unless it is confirmed.
    """

    hook: Hook
    interfaces: str
    objects: tuple[str, ...]
    program: str | None = None
    mode: str | None = None
    redirects: tuple[str, ...] = ()
    replace: bool = False
    link: bool = False
    atomic: bool = False
    name: str | None = None
    priority: int | None = None
    proceed_on: tuple[str, ...] | None = None
    pref: int | None = None
    confirm: float | None = None

    def __post_init__(self) -> None:
        if not self.objects:
            raise UsageError("nothing to attach", hint="name an object")
        if len(self.objects) > 1:
            for given, option in ((self.program, "-n"), (self.name, "--name")):
                if given is not None:
                    raise UsageError(
                        f"{option} is about one object, and there are {len(self.objects)}",
                        hint="attach them one by one",
                    )
            if self.replace:
                raise UsageError("--replace swaps one program for one other")
        if self.mode is not None and self.hook is not Hook.XDP:
            raise UsageError(
                "--mode is for xdp; tc programs have no mode", hint="--link chooses TCX over clsact"
            )
        if self.mode is not None and self.mode not in (AUTO, *XDP_MODES):
            raise UsageError(
                f"no XDP mode {self.mode!r}", hint="the modes are native, skb, hw and auto"
            )
        if self.redirects and self.hook is not Hook.XDP:
            raise UsageError("--redirect is for xdp: tc programs have no devmaps and cpumaps")
        if self.pref is not None and (self.hook is Hook.XDP or self.link):
            raise UsageError("--pref is the priority of a clsact filter; xdp and --link have none")

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes to try, in order."""
        if self.hook is not Hook.XDP:
            return (Mode.TCX,) if self.link else (Mode.CLSACT,)
        if self.mode == AUTO:
            return (Mode.NATIVE, Mode.SKB)
        return (XDP_MODES[self.mode or "native"],)


@dataclass(frozen=True, slots=True)
class AttachResult:
    """What came of one interface: an attachment, or the error. ``notes`` say aloud what was not plain.

    ``added`` are the names of the members that came; ``replaced`` is the id of the program that ``--replace`` took off.
    ``pending`` is set where it has to be confirmed.
    """

    interface: Interface
    attachment: Attachment | None = None
    error: NetbpfError | None = None
    replaced: int | None = None
    notes: tuple[str, ...] = field(default=())
    added: tuple[str, ...] = ()
    pending: Pending | None = None

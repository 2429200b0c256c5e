"""The ways onto a hook, each tried with every fault."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from netbpf import Attachment, api
from netbpf.constants import Hook
from tests.faults.driver import Answer
from tests.faults.lab import Lab


@dataclass(frozen=True)
class Way:
    """A way onto a hook, with an object to attach and another to replace it by."""

    hook: Hook
    first: str
    second: str
    options: dict[str, Any] = field(default_factory=dict)
    interfaces: str = "v0"

    def attach(self, lab: Lab, source: str, **options: Any) -> Answer:
        """Attach an object in a process of its own."""
        return lab.attach(self.hook, self.interfaces, source, **self.options, **options)

    def put(self, lab: Lab, source: str, **options: Any) -> None:
        """Attach an object from this process."""
        lab.put(self.hook, self.interfaces, source, **self.options, **options)

    def objects(self, lab: Lab, seen: list[Attachment] | None = None) -> list[str | None]:
        """Which object netbpf says runs on each interface; it is never one that the kernel does not run.

        ``seen`` is what status has just said.
        """
        found: list[str | None] = []
        there = lab.on(self.hook, seen)
        for name in self.interfaces.split(","):
            one = there.get(name)
            if one is None:
                found.append(None)
                continue
            assert one.managed
            assert one.object is not None
            assert one.object.path.removeprefix("builtin:") == one.program.name
            found.append(one.object.path)
        return found


def xdp(interfaces: str = "v0", **options: Any) -> Way:
    return Way(Hook.XDP, "builtin:xdp_globals", "builtin:xdp_count", options, interfaces)


def tc(hook: Hook = Hook.TC_INGRESS, **options: Any) -> Way:
    return Way(hook, "builtin:tc_globals", "builtin:tc_count", options)


WAYS = {
    "xdp-native": xdp(mode="native"),
    "xdp-link": xdp(link=True),
    "several": xdp("v0,v2", mode="skb", atomic=True),
    "clsact": tc(),
    "egress": tc(Hook.TC_EGRESS),
    "tcx": tc(link=True),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
# Steps of an operation: some hundred, and more while other tests have maps pinned whose records are not here.
LIMIT = 3000


def detach_all(lab: Lab) -> None:
    """From this process, which is another than the one that attached or was killed."""
    api.detach(everything=True, missing_ok=True, netns=lab.namespace)

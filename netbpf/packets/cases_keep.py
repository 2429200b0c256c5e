"""The packets of failed cases as a capture: for Wireshark, for ``netbpf run`` and ``netbpf replay``."""

import os
import time
from collections.abc import Sequence

from netbpf.constants import Hook
from netbpf.packets.capture import CaptureWriter
from netbpf.packets.cases_model import CaseResult


def write_failed(path: str | os.PathLike[str], results: Sequence[CaseResult]) -> int:
    """Write what went in, with the verdict and the case's name; how many packets. NetbpfError where that cannot be."""
    hook = next((one.hook for one in results if one.hook is not None), Hook.XDP)
    with CaptureWriter(path, hook) as writer:
        for result in results:
            if not result.failures:
                continue
            for ran in result.ran:
                writer.write(
                    ran.before,
                    time.time_ns(),
                    verdict=ran.verdict,
                    comment=f"{result.case.name}: {ran.verdict_name}".encode(errors="replace"),
                )
        return writer.packets

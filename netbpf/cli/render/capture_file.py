"""A capture as pcapng: written as it comes, whole after every batch."""

from netbpf.packets.capture.writer import CaptureWriter
from netbpf.tap.model import CapturedPacket, CaptureSummary
from netbpf.tap.session import Capture
from netbpf.text import escape


class File:
    """Packets with their verdict, as a number (``frame.verdict``) and in words (``frame.comment``)."""

    def __init__(self, capture: Capture, path: str) -> None:
        """Make the file. NetbpfError where it cannot be written."""
        at, request = capture.at, capture.request
        self._writer = CaptureWriter(
            path, at.hook, interface=f"{at.interface.name} {at.hook}", snaplen=request.snaplen
        )
        self._comments: dict[tuple[str, str], bytes] = {}

    def packets(self, found: list[CapturedPacket]) -> None:
        """Write them. NetbpfError on a full disk: what came before is in the file, whole."""
        write, comments = self._writer.write, self._comments
        for stamp, length, data, verdict, name, member, _, queue in found:
            comment = comments.get((name, member))
            if comment is None:
                by = f" by {escape(member)}" if member else ""
                comment = comments[name, member] = f"verdict {name}{by}".encode()
            write(data, stamp, wire_length=length, verdict=verdict, comment=comment, queue=queue)
        if found:
            self._writer.flush()

    def end(self, summary: CaptureSummary) -> None:
        """Close it."""
        self._writer.close()

"""Captures: pcap and pcapng, read and written in constant memory, whatever their size and whoever made them."""

from netbpf.packets.capture.model import Block, Stamp
from netbpf.packets.capture.open import Capture, open_capture
from netbpf.packets.capture.writer import CaptureWriter

__all__ = ["Block", "Capture", "CaptureWriter", "Stamp", "open_capture"]

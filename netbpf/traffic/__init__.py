"""Packets sent out of an interface, by a raw socket or as XDP frames, and counted where they arrive."""

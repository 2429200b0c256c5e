"""netbpf: compile, attach, combine, observe and test XDP and TC eBPF programs."""

__version__ = "0.1.0"

"""What a host can do and what is in the way: ``netbpf doctor`` and ``netbpf features``."""

"""Looking inside: what an object file holds, and what of BPF there is in the kernel."""

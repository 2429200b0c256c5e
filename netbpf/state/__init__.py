"""What netbpf remembers on this host beside the kernel: records, kept objects, and the lock around changes."""

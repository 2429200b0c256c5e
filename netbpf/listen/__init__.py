"""What the kernel and programs tell while they run: traces, events, and what goes wrong."""

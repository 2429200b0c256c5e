"""netbpf beside its peers: ``python -m benchmarks``. See __main__ for what is measured and how."""

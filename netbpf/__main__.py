"""``python -m netbpf``."""

from netbpf.cli.main import main

main()

"""Which instructions, branches and lines of a program packets reach: copies of it that count where they go.

``with collecting(Collector() as c):`` whatever is loaded is instrumented; ``c.covered`` has the programs,
``counts.blocks`` and ``counts.branches`` what became of each part.
"""

"""The command line: builds a request, calls one operation, prints the value it returns."""

import gc

# What a start makes, all modules and classes, stays: looking for garbage in it again and again takes 3 ms.
gc.set_threshold(50_000)

"""The command line: builds a request, calls one operation, prints the value it returns."""

"""Why the verifier refused a program: the line of C, where the values came from, the reason, and what to write.

Nothing here asks the kernel, and nothing fails: for a log that no entry of the catalogue fits there is an explanation
that says so and shows the verifier's last words.
"""

from netbpf.explain.explanation import explain, explain_log
from netbpf.explain.model import Excerpt, Explanation, Place, Trace

__all__ = ("Excerpt", "Explanation", "Place", "Trace", "explain", "explain_log")

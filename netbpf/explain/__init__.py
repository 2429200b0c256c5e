"""Why the verifier refused a program: the line of C, where the values came from, the reason, and what to write.

Nothing here asks the kernel, and nothing fails: for a log that no entry of the catalogue fits there is an explanation
that says so and shows the verifier's last words.
"""

from netbpf.errors import VerifierError
from netbpf.explain.model import Excerpt, Explanation, Place, RejectedCode, Trace

__all__ = ("Excerpt", "Explanation", "Place", "Trace", "explain", "explain_log")


def explain(error: VerifierError) -> Explanation:
    """The explanation of a VerifierError."""
    return explain_log(error.log or error.message, error.code)


def explain_log(log: str, code: RejectedCode | None = None) -> Explanation:
    """What a verifier log comes to, for a program whose lines and functions are in ``code`` (None: not known)."""
    from netbpf.explain.explanation import explained  # the catalogue, which only a rejection needs

    return explained(log, code or RejectedCode())

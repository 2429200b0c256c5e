"""What goes wrong while a test sets up its network or sends: these are errors of the test, not of the program.

A packet that did not arrive, or arrived and should not have, is an AssertionError instead: the test fails.
"""


class TopologyError(Exception):
    """A namespace, link or address could not be made, or a link did not come up."""


class TrafficError(Exception):
    """A packet could not be built or sent, or a capture cannot be trusted."""


class ExpectationError(AssertionError):
    """What was expected of packets or counters did not happen. The message is the whole report."""

"""Whole operations on hooks: look at what is there, decide, act, verify; undo in reverse when a step fails."""

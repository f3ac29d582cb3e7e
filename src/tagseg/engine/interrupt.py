"""The former place of `tagseg.interrupt`."""

from tagseg.interrupt import EXIT_INTERRUPTED, Interrupted, Interruption, check, requested

__all__ = ["EXIT_INTERRUPTED", "Interrupted", "Interruption", "check", "requested"]

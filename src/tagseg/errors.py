"""What is raised for a person to read."""


class UserError(ValueError):
    """A user's mistake: one sentence that names the file, the value and the fix.

    The command line prints it without a traceback and ends with exit status 2.
    """


class UnwritableNameError(UserError):
    """The result of one photo cannot be written because of its name; those of other photos can."""


class UnwritableError(UserError):
    """A file cannot be written now; the same may succeed once there is room, or writing is allowed."""

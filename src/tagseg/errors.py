class UserError(ValueError):
    """A user's mistake: one sentence that names the file, the value and the fix.

    The command line prints it without a traceback and ends with exit status 2.
    """

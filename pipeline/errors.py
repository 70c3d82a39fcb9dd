"""The two exceptions that end a command with a message instead of a traceback. Imports nothing."""


class UserError(Exception):
    """An error that the user can fix. The text says what is wrong, where, and what to do; the exit code is 1."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an `Exception`, so that no handler along the way swallows it."""

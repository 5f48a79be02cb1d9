"""The errors that a user may meet; every message names the thing at fault and the mend."""

__all__ = ["DAMAGE", "SessionError", "StoppedError", "UserError"]


class UserError(Exception):
    """A request that cannot be met as it was asked (exit code 2).

    Its message is one line that names what is wrong (a file, a key, a session) and what would
    be right. It is shown without a traceback.
    """


class StoppedError(Exception):
    """Work that a signal ended before it was done (exit code 128 and the signal's number).

    Parameters
    ----------
    message
        One line that says how to go on.
    signal
        Number of the signal.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = int(signal)


class SessionError(Exception):
    """A session that cannot be read or trusted; the other sessions go on (exit code 1).

    Parameters
    ----------
    eid
        The session.
    reason
        One line that names the file or variable at fault and what is wrong with it.
    """

    def __init__(self, eid: str, reason: str) -> None:
        super().__init__(f"session {eid}: {reason}")
        self.eid = eid
        self.reason = reason

    def __reduce__(self) -> tuple[type["SessionError"], tuple[str, str]]:
        return (SessionError, (self.eid, self.reason))


DAMAGE = (OSError, ValueError, LookupError, TypeError, RuntimeError, SessionError)
"""What reading a group may raise that is damaged, missing or just being replaced."""

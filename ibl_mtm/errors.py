"""The two errors that a user may meet; every message names the thing at fault and the mend."""

__all__ = ["DAMAGE", "SessionError", "UserError"]


class UserError(Exception):
    """A request that cannot be met as it was asked (exit code 2).

    Its message is one line that names what is wrong (a file, a key, a session) and what would
    be right. It is shown without a traceback.
    """


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

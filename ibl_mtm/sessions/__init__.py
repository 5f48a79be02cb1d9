"""What a session is, to all who write, train on or score one."""

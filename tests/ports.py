"""Ports for what cannot say which one it has taken."""

import socket


def free_port() -> int:
    """One of loopback on which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

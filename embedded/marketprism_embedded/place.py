"""What a server takes for itself: its directory and its port. It does not start when somebody else has either."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
from pathlib import Path


class EmbeddedError(Exception):
    """The server can't start; the message says why and what to do."""


def claim_directory(directory: Path) -> int:
    """Create `directory` and lock it. Returns the lock's descriptor: the directory is ours for as long as it is open,
    in this process or in one that it was handed to. A crash releases it. Raises EmbeddedError when it is taken."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedError(f"can't use {directory}: {error.strerror}. Give another --dir.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 20).decode("ascii", "replace").strip()
        os.close(lock)
        raise EmbeddedError(
            f"{directory} is in use by another embedded server (pid {owner}). Stop that one, or give another --dir."
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def address_family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bindable_port(host: str, port: int) -> int:
    """`port` when it can be bound on `host`, or a free one for 0. Raises EmbeddedError when it is taken."""
    try:
        with socket.socket(address_family(host)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise port_error(host, port, error) from None


def port_error(host: str, port: int, error: OSError) -> EmbeddedError:
    if error.errno == errno.EADDRINUSE:
        return EmbeddedError(
            f"port {port} on {host} is already in use. "
            f"Stop what listens there, or give another --port (0 takes a free one)."
        )
    return EmbeddedError(f"can't listen on {host} port {port}: {error.strerror or error}.")


def url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""A check of the kernel's that fails, which no message is known to cause: caused by a place that no cut message has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from marketprism_consumer.ingest import kernel

pytestmark = pytest.mark.skipif(
    kernel.library is None, reason="there is no kernel: it was not compiled for this platform"
)

FAILS = """
import ctypes
from marketprism_consumer.ingest import kernel
before_its_start = (ctypes.c_uint32 * 5)(0, 0, 0, 4, 2)
scratch = ctypes.create_string_buffer(4096)
sizes = map(ctypes.c_size_t, (4,))
kernel.library.marketprism_trades(
    b"text", *sizes, before_its_start, scratch, scratch, ctypes.c_size_t(1), ctypes.c_int64(0), scratch, scratch
)
"""
GOES_ON = "from marketprism_consumer.ingest import kernel; import os; print(os.getpid(), kernel.failed, kernel.library)"


def _run(program: str) -> tuple[int, int, str]:
    """Its pid, its exit code, and what it wrote."""
    with subprocess.Popen((sys.executable, "-c", program), stdout=subprocess.PIPE, text=True) as process:
        wrote, _ = process.communicate()
    return process.pid, process.returncode, wrote.strip()


def test_a_check_that_fails_ends_the_process() -> None:
    _, code, _ = _run(FAILS)
    assert code in (-signal.SIGILL, -signal.SIGTRAP)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends")
def test_what_was_named_goes_on_in_its_place_without_the_kernel() -> None:
    """The same message would end it again, for ever."""
    arguments = [sys.executable, "-c", GOES_ON]
    named = f"from marketprism_consumer.ingest import kernel; kernel.go_on_as({sys.executable!r}, {arguments!r})"
    pid, code, wrote = _run(f"{named}\n{FAILS}")
    assert (code, wrote) == (0, f"{pid} True None")


def test_it_is_used_where_it_has_not_failed() -> None:
    assert not kernel.failed
    assert kernel.WITHOUT.keys().isdisjoint(os.environ)

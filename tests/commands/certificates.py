"""An authority and what it has signed, by the `openssl` command: PEM files in a directory."""

from __future__ import annotations

import subprocess
from pathlib import Path


def authority(place: Path) -> Path:
    """Makes ca.crt and ca.key in `place`."""
    place.mkdir(parents=True)
    _openssl(place, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    return place


def signed(place: Path, name: str) -> None:
    """Makes <name>.crt and <name>.key in `place`, for CN=<name> at 127.0.0.1."""
    _openssl(
        place,
        *(
            "-x509",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-subj",
            f"/CN={name}",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ),
        *("-addext", "basicConstraints=critical,CA:FALSE", "-keyout", f"{name}.key", "-out", f"{name}.crt"),
    )


def _openssl(place: Path, *arguments: str) -> None:
    made = [
        "openssl",
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        *arguments,
    ]
    subprocess.run(made, cwd=place, check=True, capture_output=True)

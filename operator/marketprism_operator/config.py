"""The operator's own settings, from its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

IMAGE = "ghcr.io/marketprism/marketprism-consumer:0.1.0"


@dataclass(frozen=True, slots=True)
class Platform:
    """What the cluster gives to Pods, or asks of them."""

    uids: bool = False
    """Namespaces have UIDs of their own, as OpenShift's, and admission gives them to Pods: none is asked for."""
    egress: bool = False
    """Pods may connect to what their resource names only."""


@dataclass(frozen=True, slots=True)
class Config:
    """`namespaces` empty: all of them."""

    image: str = IMAGE
    pull_secrets: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    resync: float = 300.0
    """Seconds between two periodic resyncs, which find what no event has reported."""
    port: int = 8080
    release: str = ""
    """`namespace/name` of the Deployment that it belongs to: for another of that it stands by, for a stranger it isn't ready."""
    identity: str = "marketprism-operator"
    platform: Platform = Platform()

    @property
    def holder(self) -> str:
        """As it stands in a Lease."""
        return f"{self.release}/{self.identity}" if self.release else self.identity

    @staticmethod
    def from_environment(environ: Mapping[str, str] = os.environ, namespaces: tuple[str, ...] = ()) -> Config:
        """MARKETPRISM_IMAGE, _PULL_SECRETS and _NAMESPACES (separated by commas), _RESYNC_SECONDS, _PORT, _RELEASE, _PLATFORM_UIDS and
        _EGRESS (true, or anything else); POD_NAME."""

        def listed(name: str) -> tuple[str, ...]:
            return tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())

        return Config(
            image=environ.get("MARKETPRISM_IMAGE") or IMAGE,
            pull_secrets=listed("MARKETPRISM_PULL_SECRETS"),
            namespaces=namespaces or listed("MARKETPRISM_NAMESPACES"),
            resync=float(environ.get("MARKETPRISM_RESYNC_SECONDS") or 300),
            port=int(environ.get("MARKETPRISM_PORT") or 8080),
            release=environ.get("MARKETPRISM_RELEASE", ""),
            identity=environ.get("POD_NAME") or f"{os.uname().nodename}-{os.getpid()}",
            platform=Platform(
                uids=environ.get("MARKETPRISM_PLATFORM_UIDS") == "true",
                egress=environ.get("MARKETPRISM_EGRESS") == "true",
            ),
        )

"""Operator, accounts and users of a nats-server in operator mode, each signed by the one above it, as `nsc` makes them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

import nkeys

_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_STORES = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


class Identity:
    """An nkey with a JWT. `kind`: operator, account or user."""

    def __init__(self, kind: str, above: Identity | None, claims: Mapping[str, Any]) -> None:
        prefix = {
            "operator": nkeys.PREFIX_BYTE_OPERATOR,
            "account": nkeys.PREFIX_BYTE_ACCOUNT,
            "user": nkeys.PREFIX_BYTE_USER,
        }
        self.seed = nkeys.encode_seed(os.urandom(32), prefix[kind])
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()
        signer = above or self
        body = {
            "jti": self.public,
            "iat": 1,
            "iss": signer.public,
            "sub": self.public,
            "name": kind,
            "nats": {**claims, "type": kind, "version": 2},
        }
        signed = f"{_base64({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_base64(body)}"
        self.jwt = f"{signed}.{_unpadded(signer._pair.sign(signed.encode()))}"

    @property
    def creds(self) -> str:
        return "".join(
            f"-----BEGIN {title}-----\n{text}\n------END {title}------\n\n"
            for title, text in (("NATS USER JWT", self.jwt), ("USER NKEY SEED", self.seed.decode()))
        )


def operator() -> Identity:
    return Identity("operator", None, {})


def system_account(above: Identity) -> Identity:
    return Identity("account", above, {"limits": {**_UNLIMITED, "wildcards": True}})


def account(above: Identity) -> Identity:
    """With JetStream."""
    return Identity("account", above, {"limits": {**_UNLIMITED, **_STORES, "wildcards": True}})


def user(above: Identity, publish: list[str] | None = None, subscribe: list[str] | None = None) -> Identity:
    """Without subjects: may do all."""
    rights = {"pub": {"allow": publish}, "sub": {"allow": subscribe}} if publish else {"pub": {}, "sub": {}}
    return Identity("user", above, {**rights, "subs": -1, "data": -1, "payload": -1})


def server(top: Identity, system: Identity, *accounts: Identity) -> str:
    """What a nats-server is configured with."""
    preloaded = "\n".join(f"  {each.public}: {each.jwt}" for each in (system, *accounts))
    return f"operator: {top.jwt}\nsystem_account: {system.public}\nresolver: MEMORY\nresolver_preload {{\n{preloaded}\n}}\n"


def _base64(of: Mapping[str, Any]) -> str:
    return _unpadded(json.dumps(of).encode())


def _unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

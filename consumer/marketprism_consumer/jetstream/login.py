"""What one shows a nats-server to be let in: the fields of CONNECT, and TLS. Nothing is kept: a Secret may be rotated meanwhile."""

from __future__ import annotations

import base64
import re
import ssl
from pathlib import Path

import nkeys
from nkeys import NkeysError

from marketprism_api import reasons
from marketprism_api.credentials import NatsAuth, Tls
from marketprism_consumer.errors import LoginError


def connect_fields(auth: NatsAuth, nonce: str) -> dict[str, str]:
    """`nonce`: what the server wants to have signed; empty where it knows nobody by a key. Raises LoginError."""
    token = {"auth_token": auth.token} if auth.token else {}
    if nonce and auth.creds:
        jwt, seed = _in_creds(auth.creds, "NATS USER JWT"), _in_creds(auth.creds, "USER NKEY SEED")
        return {"jwt": jwt, "sig": _signature(_key(auth.creds, seed), nonce), **token}
    if nonce and auth.nkey_seed:
        key = _key(auth.nkey_seed, _read(auth.nkey_seed).strip())
        return {"nkey": key.public_key.decode(), "sig": _signature(key, nonce), **token}
    return {"user": auth.user, "pass": auth.password} if auth.user else token


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Raises LoginError."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except OSError as error:
        raise LoginError(reasons.NATS_UNTRUSTED, f"{tls.ca} has no certificate in PEM: {error}") from None
    if tls.cert and tls.key:
        try:
            context.load_cert_chain(tls.cert, tls.key)
        except OSError as error:
            detail = f"{tls.cert} and {tls.key} are no certificate in PEM with its key: {error}"
            raise LoginError(reasons.NATS_UNTRUSTED, detail) from None
    return context


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LoginError(reasons.NATS_DENIED, f"{path} can't be read: {error}") from None


def _in_creds(path: Path, title: str) -> str:
    found = re.search(rf"-BEGIN {title}-+\s+([\w.-]+?)\s+-+END ", _read(path))
    if not found:
        raise LoginError(reasons.NATS_DENIED, f"{path} has no {title}: it is to be as `nsc generate creds` writes it")
    return found[1]


def _key(path: Path, seed: str) -> nkeys.KeyPair:
    try:
        return nkeys.from_seed(bytearray(seed.encode()))
    except (NkeysError, ValueError):  # which say no more, and a seed is not to be shown
        raise LoginError(reasons.NATS_DENIED, f"{path} has no seed of an nkey, which begins with SU") from None


def _signature(key: nkeys.KeyPair, nonce: str) -> str:
    return base64.b64encode(key.sign(nonce.encode())).decode()

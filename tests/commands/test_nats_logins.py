"""Each way to log in at NATS, with the rights of the documentation's page and from a directory that is as a mounted Secret."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from marketprism_api.credentials import nats_auth
from marketprism_consumer.jetstream.client import connect
from marketprism_embedded import process
from tests.commands import certificates, market_account, nats_jwt
from tests.commands.command import call
from tests.faults.harness import NatsByHand
from tests.waiting import PATIENCE, until

NAME_AND_PASSWORD = 'user: storage\n        password: "$STORAGE_PASSWORD"'


@dataclass(frozen=True)
class Login:
    """`server`: how a nats-server is configured for it. `secret`, `strangers`: the files of one who may log in, and of one who may not.
    `owner`: how he who owns the streams logs in."""

    server: str
    secret: dict[str, str]
    strangers: dict[str, str]
    owner: dict[str, Any]
    scheme: str = "nats"


def password(place: Path) -> Login:
    word = f"word-of-{place.name}"
    account = _page_account(f"user: storage, password: {word}")
    return Login(
        account,
        {"username": "storage", "password": word},
        {"username": "storage", "password": "another"},
        market_account.OWNER,
    )


def nkey(_: Path) -> Login:
    top = nats_jwt.operator()
    user, stranger = nats_jwt.user(top), nats_jwt.user(top)
    return Login(
        _page_account(f"nkey: {user.public}"),
        {"nkey.seed": user.seed.decode()},
        {"nkey.seed": stranger.seed.decode()},
        market_account.OWNER,
    )


def jwt(place: Path) -> Login:
    top = nats_jwt.operator()
    system, market, elsewhere = nats_jwt.system_account(top), nats_jwt.account(top), nats_jwt.account(top)
    user = nats_jwt.user(market, market_account.subjects("publish"), market_account.subjects("subscribe"))
    owner = place / "owner.creds"
    owner.write_text(nats_jwt.user(market).creds)
    return Login(
        nats_jwt.server(top, system, market),
        {"user.creds": user.creds},
        {"user.creds": nats_jwt.user(elsewhere).creds},
        {"user_credentials": str(owner)},
    )


def certificate(place: Path) -> Login:
    """Of the client's own, which is all that says who it is."""
    made = certificates.authority(place / "certificates")
    for name in ("server", "storage", "owner", "stranger"):
        certificates.signed(made, name)
    tls = f'tls {{cert_file: "{made}/server.crt", key_file: "{made}/server.key", ca_file: "{made}/ca.crt", verify_and_map: true}}'
    owner = ssl.create_default_context(cafile=made / "ca.crt")
    owner.load_cert_chain(made / "owner.crt", made / "owner.key")

    def secret(name: str) -> dict[str, str]:
        files = {"ca.crt": "ca.crt", "tls.crt": f"{name}.crt", "tls.key": f"{name}.key"}
        return {key: (made / file).read_text() for key, file in files.items()}

    account = _page_account('user: "CN=storage"').replace(market_account.OWNER_USER, '{user: "CN=owner"}')
    return Login(f"{tls}\n{account}", secret("storage"), secret("stranger"), {"tls": owner}, "tls")


LOGINS = [nkey, jwt, certificate]


def _page_account(login: str) -> str:
    text = market_account.with_owner(market_account.block(0))
    assert NAME_AND_PASSWORD in text
    return text.replace(NAME_AND_PASSWORD, login)


@contextmanager
def running(place: Path, login: Login) -> Iterator[str]:
    """The URL of a nats-server with a stream of trades."""
    with nats_server(place, lambda: login) as nats:
        url = nats.url.replace("nats://", f"{login.scheme}://")
        asyncio.run(market_account.fill(url, **login.owner))
        yield url


@contextmanager
def nats_server(place: Path, login: Callable[[], Login]) -> Iterator[NatsByHand]:
    nats = NatsByHand(place / "nats", lambda: login().server)
    try:
        yield nats
    finally:
        with suppress(ProcessLookupError):
            nats.kill()


def environ(place: Path, url: str, secret: dict[str, str]) -> dict[str, str]:
    directory = place / "secret"
    directory.mkdir(exist_ok=True)
    for name, text in secret.items():
        (directory / name).write_text(text)
    return {"MARKETPRISM_NATS_URL": url, "MARKETPRISM_NATS_AUTH_DIR": str(directory)}


def refusal(place: Path, url: str, secret: dict[str, str]) -> tuple[str, str]:
    """The reason's code and what `check` has found."""
    variables = {**environ(place, url, secret), "CLICKHOUSE_HTTP_URL": "http://127.0.0.1:9"}
    checked = call("check", "-f", market_account.pipeline_file(place), "-o", "json", environ=variables)
    line = json.loads(checked.stdout)["lines"][0]
    assert (line["what"], line["level"]) == ("nats", "wrong"), line
    secrets = [secret[key] for key in ("password", "nkey.seed", "user.creds", "tls.key") if key in secret]
    assert not any(value in checked.stdout + checked.stderr for value in secrets)
    return line["code"], line["found"]


@pytest.mark.parametrize("made", LOGINS)
def test_whoever_logs_in_so_stores_all_that_is_there(made: Callable[[Path], Login], tmp_path: Path) -> None:
    login, path = made(tmp_path), market_account.pipeline_file(tmp_path)
    with running(tmp_path, login) as url, process.start("clickhouse", tmp_path / "clickhouse") as clickhouse:
        variables = {**environ(tmp_path, url, login.secret), "CLICKHOUSE_HTTP_URL": clickhouse.url}
        done = call("schema", "apply", "-f", path, environ=variables)
        assert done.returncode == 0, done.stderr
        done = call("ingest", "-f", path, "--until-idle", "1s", "--port", "0", environ=variables)
        assert (done.returncode, "permissions violation" in done.stderr.lower()) == (0, False), done.stderr
        lanes = json.loads(call("lanes", "list", "-f", path, "-o", "json", environ=variables).stdout)["lanes"]
        assert [(each["done"], each["lag"]) for each in lanes] == [(2, 0)]


@pytest.mark.parametrize("made", LOGINS)
def test_a_stranger_is_told_that_he_is_denied(made: Callable[[Path], Login], tmp_path: Path) -> None:
    login = made(tmp_path)
    with running(tmp_path, login) as url:
        code, found = refusal(tmp_path, url, login.strangers)
    assert code == "MP3002"
    assert "authorization violation" in found.lower()


@pytest.mark.parametrize("made", [password, *LOGINS])
async def test_a_rotated_secret_is_used_at_the_next_try(made: Callable[[Path], Login], tmp_path: Path) -> None:
    """The server is another then: it takes nothing of what it took before."""
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    before, after = made(tmp_path / "before"), made(tmp_path / "after")
    now = before
    with nats_server(tmp_path, lambda: now) as nats:
        url = nats.url.replace("nats://", f"{before.scheme}://")
        variables = environ(tmp_path, url, before.secret)
        client = await connect(url, lambda: nats_auth(variables), wait=PATIENCE)
        now = after
        nats.kill()
        nats.start()

        async def refused() -> bool:
            return client.trouble.startswith(("MP3002", "MP3016"))

        async def connected() -> bool:
            return client.is_connected

        await until(refused, lambda: f"a refusal; {client.trouble}")
        environ(tmp_path, url, after.secret)
        await until(connected, lambda: f"a connection; {client.trouble}")
        assert client.trouble == ""
        await client.close()


@pytest.mark.parametrize(
    ("file", "holds", "said"),
    [
        ("nkey.seed", "SUthing", "has no seed of an nkey"),
        ("user.creds", "hello", "has no NATS USER JWT"),
        (
            "user.creds",
            "-----BEGIN NATS USER JWT-----\nhello\n------END NATS USER JWT------\n",
            "has no USER NKEY SEED",
        ),
    ],
)
def test_a_file_that_nobody_can_log_in_with_is_named(file: str, holds: str, said: str, tmp_path: Path) -> None:
    with running(tmp_path, nkey(tmp_path)) as url:
        code, found = refusal(tmp_path, url, {file: holds})
    assert code == "MP3002"
    assert f"{file} {said}" in found


def test_where_one_side_does_not_trust_the_other_it_is_told_which(tmp_path: Path) -> None:
    login = certificate(tmp_path)
    known = {"ca.crt": login.secret["ca.crt"]}
    own = {key: login.secret[key] for key in ("tls.crt", "tls.key")}
    with running(tmp_path, login) as url:
        for number, (secret, said) in enumerate(
            [
                (known, "certificate required"),
                (own, "certificate verify failed"),
                ({**own, "ca.crt": "none"}, "no certificate"),
            ]
        ):
            (place := tmp_path / str(number)).mkdir()
            code, found = refusal(place, url, secret)
            assert code == "MP3016", found
            assert said in found


def test_nothing_is_sent_unencrypted_to_where_tls_was_asked_for(tmp_path: Path) -> None:
    """Whoever stands in between could say that there is no TLS, and be told the password."""
    login = password(tmp_path)
    with running(tmp_path, login) as url:
        code, found = refusal(tmp_path, url.replace("nats://", "tls://"), login.secret)
    assert code == "MP3016"
    assert "the server does not ask for TLS" in found

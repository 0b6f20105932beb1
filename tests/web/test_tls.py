"""HTTPS with a real certificate: handshakes, ciphers, clients' certificates, and what cannot be used."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from tests.web.raw_client import SECONDS, parse_answer, port_of, say, serving

from understudy.errors import UnderstudyError
from understudy.web.tls import tls_context

DATA = Path(__file__).parents[1] / "data" / "tls"
CERTIFICATE, KEY, OTHER_KEY, LOCKED_KEY = (
    str(DATA / name) for name in ("certificate.pem", "key.pem", "other-key.pem", "locked-key.pem")
)
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CIPHERS = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384")


def _context(**values: Any) -> ssl.SSLContext | None:
    """Return the server's side, from flags of which those that are left out have vLLM's defaults."""
    defaults = {
        "ssl_certfile": CERTIFICATE,
        "ssl_keyfile": KEY,
        "ssl_ca_certs": None,
        "ssl_cert_reqs": 0,
        "ssl_ciphers": None,
    }
    return tls_context(defaults | values)


def _client(*, cipher: str | None = None, has_certificate: bool = False) -> ssl.SSLContext:
    """Return a client that believes in the certificate of these tests and in no other."""
    client = ssl.create_default_context(cafile=CERTIFICATE)
    if cipher is not None:
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(cipher)
    if has_certificate:
        client.load_cert_chain(CERTIFICATE, KEY)
    return client


async def _health(port: int, client: ssl.SSLContext) -> tuple[int, str]:
    """Return the status of an answer over TLS, and the cipher; raises OSError where there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
    try:
        cipher: str = writer.get_extra_info("cipher")[0]
        writer.write(HEALTH)
        data = await asyncio.wait_for(reader.read(), SECONDS)
        if not data:
            raise ConnectionError("the server has hung up")
        return parse_answer(data).status, cipher
    finally:
        writer.close()


def test_a_client_that_checks_the_certificate_is_answered() -> None:
    """Over TLS and not in the clear, also behind a time of refusal."""

    async def main() -> None:
        async with serving(ssl_context=_context()) as (server, application):
            assert (await _health(port_of(server), _client()))[0] == 200
            assert b"HTTP/1.1 200" not in await say(port_of(server), HEALTH)
            with pytest.raises(ssl.SSLCertVerificationError):
                await _health(port_of(server), ssl.create_default_context())
            server.refuse()
            with pytest.raises(ConnectionRefusedError):
                await _health(port_of(server), _client())
            await server.accept()
            assert (await _health(port_of(server), _client()))[0] == 200
            assert application.handled == ["/health"] * 2

    asyncio.run(main())


@pytest.mark.parametrize("allowed", CIPHERS)
def test_only_the_ciphers_of_the_flag_are_spoken(allowed: str) -> None:
    """A client that knows others only gets no handshake."""

    async def main() -> None:
        async with serving(ssl_context=_context(ssl_ciphers=allowed)) as (server, _):
            for cipher in CIPHERS:
                client = _client(cipher=cipher)
                if cipher == allowed:
                    assert await _health(port_of(server), client) == (200, cipher)
                else:
                    with pytest.raises(OSError):  # noqa: PT011 - a failed handshake has several faces
                        await _health(port_of(server), client)

    asyncio.run(main())


@pytest.mark.parametrize(("cert_reqs", "is_needed"), [(0, False), (1, False), (2, True)])
def test_clients_need_a_certificate_where_the_flag_says_so(cert_reqs: int, is_needed: bool) -> None:  # noqa: FBT001 # a parameter
    """One that the authorities of the flag vouch for."""

    async def main() -> None:
        context = _context(ssl_cert_reqs=cert_reqs, ssl_ca_certs=CERTIFICATE)
        async with serving(ssl_context=context) as (server, _):
            assert (await _health(port_of(server), _client(has_certificate=True)))[0] == 200
            if is_needed:
                with pytest.raises(OSError):  # noqa: PT011 - a refused certificate has several faces
                    await _health(port_of(server), _client())
            else:
                assert (await _health(port_of(server), _client()))[0] == 200

    asyncio.run(main())


def test_without_a_certificate_there_is_no_tls() -> None:
    """Whatever the other flags say, but for a key, which belongs to one."""
    assert _context(ssl_certfile=None, ssl_keyfile=None, ssl_ciphers="x", ssl_ca_certs="nowhere") is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"ssl_certfile": "nowhere.pem"},
            "--ssl-certfile: cannot read nowhere.pem: No such file or directory",
        ),
        ({"ssl_keyfile": "nowhere.pem"}, "--ssl-keyfile: cannot read nowhere.pem: No such file or directory"),
        (
            {"ssl_ca_certs": "nowhere.pem"},
            "--ssl-ca-certs: cannot read nowhere.pem: No such file or directory",
        ),
        ({"ssl_certfile": "/dev/zero"}, "--ssl-certfile: /dev/zero is no regular file"),
        ({"ssl_keyfile": str(DATA)}, f"--ssl-keyfile: {DATA} is no regular file"),
        ({"ssl_ca_certs": "/dev/zero"}, "--ssl-ca-certs: /dev/zero is no regular file"),
        (
            {"ssl_certfile": KEY},
            f"--ssl-certfile {KEY} and --ssl-keyfile {KEY}: no certificate with its key: ",
        ),
        ({"ssl_keyfile": None}, f"--ssl-certfile {CERTIFICATE}: no certificate with its key: "),
        ({"ssl_keyfile": OTHER_KEY}, "no certificate with its key: .*KEY_VALUES_MISMATCH"),
        ({"ssl_keyfile": LOCKED_KEY}, f"--ssl-keyfile {LOCKED_KEY}: no certificate with its key: "),
        ({"ssl_certfile": None}, "--ssl-keyfile needs --ssl-certfile"),
        ({"ssl_ca_certs": KEY}, f"--ssl-ca-certs {KEY}: no certificates: "),
        ({"ssl_ciphers": "nonsense"}, "--ssl-ciphers nonsense: .*No cipher can be selected"),
        ({"ssl_cert_reqs": 3}, "--ssl-cert-reqs must be 0, 1 or 2, got 3"),
    ],
)
def test_what_cannot_be_used_is_named(values: dict[str, Any], says: str) -> None:
    """In one sentence with the flag; a key with a pass phrase asks nobody for it."""
    with pytest.raises(UnderstudyError, match=says) as raised:
        _context(**values)
    assert "\n" not in str(raised.value)

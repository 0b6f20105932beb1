"""The TLS side of a server, from the flags of uvicorn that vLLM passes on; what cannot be used is told by its flag."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import InputError, UsageError
from understudy.regular_file import MAX_SETTINGS_BYTES, check_regular

_FILES = ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs")


def tls_context(values: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Return what connections are wrapped in, None without `--ssl-certfile`.

    Raises InputError for files that cannot be used, UsageError for other values. A key with a pass phrase cannot be used.
    """
    certificate, key, authorities = (values[name] for name in _FILES)
    if not certificate:
        if key:
            raise UsageError("--ssl-keyfile needs --ssl-certfile")
        return None
    for name in _FILES:
        _check_file(f"--{name.replace('_', '-')}", values[name])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=str)
    except (OSError, ValueError) as error:
        files = f"--ssl-certfile {certificate}" + (f" and --ssl-keyfile {key}" if key else "")
        raise InputError(f"{files}: no certificate with its key: {error}") from error
    try:
        context.verify_mode = ssl.VerifyMode(values["ssl_cert_reqs"])
    except ValueError:
        raise UsageError(f"--ssl-cert-reqs must be 0, 1 or 2, got {values['ssl_cert_reqs']}") from None
    if authorities:
        try:
            context.load_verify_locations(authorities)
        except (OSError, ValueError) as error:
            raise InputError(f"--ssl-ca-certs {authorities}: no certificates: {error}") from error
    if ciphers := values["ssl_ciphers"]:
        try:
            context.set_ciphers(ciphers)
        except (ssl.SSLError, ValueError) as error:
            raise UsageError(f"--ssl-ciphers {ciphers}: {error}") from error
    return context


def _check_file(flag: str, path: str | None) -> None:
    if path:
        try:
            check_regular(Path(path), MAX_SETTINGS_BYTES)
        except InputError as error:
            raise InputError(f"{flag}: {error}") from error

"""Schemathesis with the server's own OpenAPI document: no 5xx, documented statuses, content types and schemas.

    python -m tests.differential.clients.schemathesis_run http://127.0.0.1:8000 [more arguments of `schemathesis run`]

Chats are left out, because one without a limit, as the document allows, fills the whole context.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.differential.clients.check import check

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def main() -> None:
    """Fuzz the server at the URL."""
    url = sys.argv[1].rstrip("/")
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", "--url", url),
        *("--phases", "fuzzing", "--mode", "positive", "--max-examples", "100", "--seed", "1"),
        *("--checks", CHECKS),
        *("--exclude-path-regex", "chat|responses|messages|invocations|scoring|systemone|decisions|elastic"),
        *("--generation-database", "none", *sys.argv[2:]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, timeout=150, check=False)
    check("schemathesis finds nothing", holds=done.returncode == 0)


main()

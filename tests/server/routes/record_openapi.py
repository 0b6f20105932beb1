"""Takes the OpenAPI document of a running vLLM down to its facts: `python -m tests.server.routes.record_openapi FILE > DATA`.

What people wrote in it (summaries, descriptions, titles) stays behind; OpenAPI wants a description of each answer, so
that says what kind of answer it is.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

PROSE = frozenset({"description", "summary", "title", "example", "examples", "externalDocs", "operationId"})
NAMED = frozenset(
    {"properties", "$defs", "schemas", "patternProperties", "paths", "responses", "content", "mapping"}
)
"""Objects whose keys are names and not words of OpenAPI."""


def facts(value: Any, *, has_names: bool = False) -> Any:
    """Return a document without its prose."""
    if isinstance(value, list):
        return [facts(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: facts(item, has_names=key in NAMED and not has_names)
        for key, item in value.items()
        if has_names or key not in PROSE
    }
    for answer in kept.get("responses", {}).values() if not has_names else ():
        answer["description"] = "answer"
    return kept


def main(source: Path) -> None:
    """Write the document, compressed, to standard output."""
    document = json.loads(source.read_bytes())
    kept = facts(document) | {"info": document["info"]}
    sys.stdout.buffer.write(gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

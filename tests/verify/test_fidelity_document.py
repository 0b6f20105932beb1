"""`docs/fidelity.md` and `docs/fidelity.json` are what `understudy verify` says now, and never edited."""

import json
from pathlib import Path

import pytest
from tests.cli.in_process import output_of

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both documents, made by a run in which nothing disagrees."""
    folder = tmp_path_factory.mktemp("fidelity")
    status, text = output_of("verify", "--output", str(folder))
    assert status == 0, text
    return folder


@pytest.mark.parametrize("name", ["fidelity.md", "fidelity.json"])
def test_documents_are_up_to_date(generated: Path, name: str) -> None:
    """`make fidelity` writes them anew."""
    assert (DOCS / name).read_text(encoding="utf-8") == (generated / name).read_text(encoding="utf-8")


def test_every_row_has_evidence(generated: Path) -> None:
    """Nothing is promised that was not compared."""
    document = json.loads((generated / "fidelity.json").read_bytes())
    assert not [row["behaviour"] for row in document["rows"] if not row["comparisons"]]

"""The plug-in, as somebody else's tests use it; and what it costs those who do not."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

BY_MODULE = ("-p", "no:understudy", "-p", "understudy.testing.plugin", "-p", "no:cacheprovider")
"""Loads the plug-in by its module, whether or not it is installed under its name."""

USER_TESTS = """
    import json, urllib.request
    import pytest

    def complete(server, **fields):
        body = {"model": server.model, "prompt": "Hello", "max_tokens": 4, **fields}
        request = urllib.request.Request(
            server.base_url + "/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    URLS = []

    @pytest.mark.parametrize("number", range(3))
    def test_every_test_gets_a_new_server_at_the_same_address(understudy_server, number):
        assert understudy_server.requests == ()
        assert understudy_server.clock.now_seconds == 0
        assert understudy_server.faults.plan.faults == ()
        assert complete(understudy_server)["usage"]["completion_tokens"] == 4
        understudy_server.faults.set([{"kind": "refuse", "at_seconds": 100}])
        URLS.append(understudy_server.url)
        assert len(set(URLS)) == 1

    def test_the_ini_file_has_flags(understudy_server):
        assert understudy_server.model == "from-ini"

    @pytest.mark.understudy("--served-model-name", "from-class")
    class TestMarked:
        def test_of_the_class(self, understudy_server):
            assert understudy_server.model == "from-class"
            assert understudy_server.url not in URLS

        @pytest.mark.understudy("--max-model-len", "2048", served_model_name="from-test", clock="manual")
        def test_nearer_wins(self, understudy_server, understudy_fleet):
            assert understudy_server.model == "from-test"
            assert understudy_server.clock.kind == "manual"
            assert [server.model for server in understudy_fleet(1)] == ["from-test"]

    def test_a_fleet(understudy_fleet):
        fleet = understudy_fleet(3, "--max-num-seqs", "8", clock="manual")
        more = understudy_fleet(2)
        assert len({server.url for server in fleet + more}) == 5
        fleet[0].clock.advance(2)
        assert [server.clock.now_seconds for server in fleet] == [2, 2, 2]
        assert {server.model for server in fleet} == {"from-ini"}
        assert complete(more[1])["choices"]

    def test_a_server_that_was_closed(understudy_server):
        understudy_server.close()

    def test_is_replaced(understudy_server):
        assert complete(understudy_server)["choices"]
"""


def test_a_users_tests_pass(pytester: pytest.Pytester) -> None:
    """Fixtures, marks at every level, the ini option, resets, fleets."""
    pytester.makeini("[pytest]\nunderstudy_flags = --served-model-name from-ini")
    pytester.makepyfile(USER_TESTS)
    result = pytester.runpytest_inprocess(*BY_MODULE, "--strict-markers", "-W", "error")
    result.assert_outcomes(passed=9)


def test_a_test_that_fails_with_requests_in_work_harms_no_other(pytester: pytest.Pytester) -> None:
    """Its clients are let go when it ends, and the next test finds nothing of them."""
    pytester.makepyfile(
        """
        import http.client, json, threading, urllib.parse
        import pytest

        pytestmark = pytest.mark.understudy(clock="manual")
        ENDED = threading.Event()

        def client(server):
            connection = http.client.HTTPConnection(urllib.parse.urlsplit(server.url).netloc, timeout=20)
            body = json.dumps({"model": server.model, "prompt": "Hello"})
            try:
                connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
                connection.getresponse()
            except (http.client.HTTPException, ConnectionError):
                ENDED.set()
            finally:
                connection.close()

        def test_fails(understudy_server):
            threading.Thread(target=client, args=(understudy_server,)).start()
            understudy_server.wait_for_requests(1)
            assert False, "on purpose"

        def test_passes(understudy_server):
            assert ENDED.wait(20)
            assert understudy_server.requests == ()
            assert understudy_server.clock.run_until_idle() == 0
        """
    )
    result = pytester.runpytest_inprocess(*BY_MODULE)
    result.assert_outcomes(passed=1, failed=1)


def test_wrong_flags_are_an_error_of_the_test_with_one_sentence(pytester: pytest.Pytester) -> None:
    """Not the end of pytest."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.understudy("--no-such-flag")
        def test_it(understudy_server):
            pass
        """
    )
    result = pytester.runpytest_inprocess(*BY_MODULE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UsageError: unrecognized arguments: --no-such-flag"])


def test_the_plug_in_describes_itself(pytester: pytest.Pytester) -> None:
    """In pytest's lists of markers, fixtures and ini options."""
    pytester.runpytest_inprocess(*BY_MODULE, "--markers").stdout.fnmatch_lines(["@pytest.mark.understudy(*"])
    fixtures = pytester.runpytest_inprocess(*BY_MODULE, "--fixtures").stdout
    fixtures.fnmatch_lines(["understudy_server*", "understudy_fleet*"])
    pytester.runpytest_inprocess(*BY_MODULE, "--help").stdout.fnmatch_lines(["*understudy_flags (args):*"])


@pytest.mark.parametrize(
    ("imported", "unwanted"),
    [
        ("understudy.testing.plugin", "aiohttp zmq msgspec pydantic prometheus_client asyncio"),
        ("understudy.testing", "pytest _pytest aiohttp zmq msgspec pydantic prometheus_client asyncio"),
        ("understudy.testing.start", "pytest _pytest"),
    ],
)
def test_importing_costs_nothing_before_it_is_used(imported: str, unwanted: str) -> None:
    """Neither the server for who has the plug-in installed, nor pytest for who does not use it."""
    script = f"""
import sys
{"import pytest" if "plugin" in imported else ""}
before = set(sys.modules)
import {imported}
print(*sorted(set({unwanted.split()!r}) & (set(sys.modules) - before)))
"""
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert output.split() == []


def test_public_names_are_those_of_their_modules() -> None:
    """Each name that the package lists exists, and no other does."""
    import understudy.testing as package  # noqa: PLC0415 - its attributes are what is tested

    assert {name: getattr(package, name).__module__ for name in package.__all__ if name != "ClockKind"} == {
        "ArrivedRequest": "understudy.testing.request_log",
        "ClockHandle": "understudy.testing.clock_handle",
        "MetricValues": "understudy.testing.metric_values",
        "ServerHandle": "understudy.testing.handle",
        "start_fleet": "understudy.testing.start",
        "start_server": "understudy.testing.start",
    }
    assert package.ClockKind is not None
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = package.other


def _code_blocks(page: str, language: str) -> dict[str, str]:
    """Return the code blocks of a page in a language by the file name in their first line."""
    blocks = [block.split("```", 1)[0] for block in page.split(f"```{language}\n")[1:]]
    return {block.partition("\n")[0].removeprefix("# "): block for block in blocks}


def test_every_code_block_of_the_documentation_works(pytester: pytest.Pytester) -> None:
    """Tests pass with the ini file that is shown, the script runs without pytest."""
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    files = _code_blocks(page, "python") | _code_blocks(page, "ini")
    assert page.count("```") == 2 * len(files)
    assert sorted(files) == ["pytest.ini", "script.py", "test_failover.py", "test_first.py", "test_time.py"]
    for name, content in files.items():
        (pytester.path / name).write_text(content, encoding="utf-8")
    pytester.runpytest_inprocess(*BY_MODULE, "--strict-config", "--strict-markers").assert_outcomes(passed=3)
    script = pytester.runpython(pytester.path / "script.py")
    assert script.ret == 0
    script.stdout.fnmatch_lines(["http://127.0.0.1:*/v1 llama-2-13b"])

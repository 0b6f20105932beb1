"""What people see of many voices at once."""

import os
import re
import threading

from tests.up.screen import Screen, screen

from understudy.up.terminal import MAX_WAITING_BYTES, Terminal

ERASED = "\r\x1b[K"


def test_lines_stay_whole_and_in_order() -> None:
    """However many threads speak at once, each line is there once, whole, and in the order of its speaker."""
    with screen() as seen:

        def speak(name: str) -> None:
            for number in range(500):
                seen.terminal.say(name, f"{number} " + name * 20)

        speakers = [threading.Thread(target=speak, args=[f"worker-{index}"]) for index in range(4)]
        for speaker in speakers:
            speaker.start()
        for speaker in speakers:
            speaker.join()
    for index in range(4):
        name = f"worker-{index}"
        lines = [line for line in seen.error.splitlines() if line.startswith(name)]
        assert lines == [f"{name} | {number} {name * 20}" for number in range(500)]
    assert seen.error.count("\n") == 2000


def test_nobody_waits_for_a_slow_reader() -> None:
    """Far more can be said than fits while nothing is read; what was left out is counted to the line, the rest is whole."""
    seen = Screen()
    line = "x" * 999
    num_said = 2 * MAX_WAITING_BYTES // len(line)
    for number in range(num_said):
        seen.terminal.say("worker-0", f"{number} {line}")
    seen.read()
    seen.end()
    (left_out,) = re.findall(r"^up       \| (\d+) lines were left out", seen.error, re.MULTILINE)
    shown = [text for text in seen.error.splitlines() if text.startswith("worker-0")]
    assert len(shown) + int(left_out) == num_said
    assert shown == [f"worker-0 | {number} {line}" for number in range(len(shown))]


def test_a_reader_that_has_gone_ends_nothing() -> None:
    """Lines for it vanish; results still come to the other stream."""
    output, output_end = os.pipe()
    error, error_end = os.pipe()
    os.close(error)
    terminal = Terminal(output_end, error_end, is_interactive=False, has_colours=False, width=8)
    terminal.say("worker-0", "nobody hears this")
    terminal.result("done")
    terminal.close()
    assert os.read(output, 100) == b"done\n"
    for descriptor in (output, output_end, error_end):
        os.close(descriptor)


def test_progress_is_one_line_below_the_others() -> None:
    """On a terminal it is erased before anything else is written, and is gone at the end."""
    with screen(is_interactive=True) as seen:
        seen.terminal.progress("1 of 2")
        seen.terminal.say("worker-0", "hello")
        seen.terminal.progress("2 of 2")
    assert re.sub(rf"({re.escape(ERASED)}|[12] of 2)*", "", seen.error) == "worker-0 | hello\n"
    assert re.search(r"of 2(?!\r\x1b\[K)", seen.error) is None


def test_in_a_pipe_there_is_no_progress_and_no_colour() -> None:
    """Only whole lines come there; results are apart from them."""
    with screen() as seen:
        seen.terminal.progress("1 of 2")
        seen.terminal.say("router", "hello")
        seen.terminal.result("ready")
    assert seen.error == "router   | hello\n"
    assert seen.output == "ready\n"


def test_each_name_has_its_colour() -> None:
    """The same in all its lines, and another than its neighbours'."""
    with screen(has_colours=True) as seen:
        for name in ("a", "b", "c", "a"):
            seen.terminal.say(name, "x")
    found = re.findall(r"\x1b\[(\d+)m(\w) +\|\x1b\[0m x", seen.error)
    assert [name for _, name in found] == ["a", "b", "c", "a"]
    assert found[0] == found[3]
    assert len({colour for colour, _ in found}) == 3

"""What of a program's output is shown."""

from __future__ import annotations

import pytest

from tasks.process import printed

TRACE = "#0 /srv/shop/vendor/a.php(12): A->b()\n#1 {main}\n"


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[32mgreen\x1b[39m and \x1b[1;31mred\x1b[0m", "green and red"),
        ("\x1b]0;title\x07done", "done"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(Bdone\x1b[K", "done"),
        (" 0/3 [>---]   0%\r 3/3 [====] 100%", " 3/3 [====] 100%"),
        ("50%\r\x1b[2K100%\r\n", "100%"),
        ("wait |\b/\b-\bdone", "wait done"),
        ("\b\b", ""),
    ],
)
def test_a_line_is_what_a_terminal_shows_at_its_end(output, shown):
    assert printed.line(output) == shown


def test_of_a_progress_bar_one_line_stays():
    bar = "".join(f"frontend/Shop/spring/en_US  {each}/9 [=>--] {each * 11}% 1 sec\n" for each in range(10))
    assert printed.lines(f"begun\n{bar}done\n") == [
        "begun",
        "frontend/Shop/spring/en_US  9/9 [=>--] 99% 1 sec",
        "done",
        "",
    ]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("one\ntwo\n\nthree\nfour\n", ["two", "three", "four"]),
        # setup:upgrade: progress, the message, a trace
        (
            f"Updating modules:\n\nSQLSTATE[42S02]: no table x, query was: ALTER TABLE x\n{TRACE}",
            ["SQLSTATE[42S02]: no table x, query was: ALTER TABLE x"],
        ),
        # the console's own: where it was thrown, a frame of blanks, the usage; what caused it comes after it
        (
            "\nIn Table.php line 9:\n          \n  No table x  \n  here  \n          \n\nIn Pdo.php line 8:\n\n  gone\n\nsetup:upgrade [--x]\n",
            ["  No table x", "  here"],
        ),
        (
            f"In A.php line 9:\n\n  [Exception]\n  No table\n\nException trace:\n{TRACE}",
            ["  [Exception]", "  No table"],
        ),
        (
            f"\x1b[37;41m x \x1b[0m\nPHP Fatal error:  Uncaught TypeError: no in a.php:1\nStack trace:\n{TRACE}  thrown in a.php on line 1\n",
            [" x", "PHP Fatal error:  Uncaught TypeError: no in a.php:1"],
        ),
        ("a\nb\nc\nd\n" + TRACE, ["b", "c", "d"]),  # the message is next to its trace
        (TRACE, ["#0 /srv/shop/vendor/a.php(12): A->b()"]),
        # Python says why at the end
        (
            "Traceback (most recent call last):\n  File x\nValueError: no\n",
            ["Traceback (most recent call last):", "  File x", "ValueError: no"],
        ),
        ("", []),
    ],
)
def test_the_reason_of_a_failure_is_what_was_thrown_and_not_where(output, reason):
    assert printed.reason(output, 3) == reason

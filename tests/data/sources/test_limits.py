"""How many windows of each recording a limit leaves."""

from __future__ import annotations

from unistep.data.sources.limits import shares


def test_each_file_has_a_window_and_the_rest_goes_by_length() -> None:
    assert shares([1, 3, 5], 5) == [1, 1, 3]
    assert shares([1, 3, 5], 100) == [1, 3, 5]
    assert shares([4, 4, 4, 4], 2) == [1, 0, 1, 0]


def test_of_hundreds_of_thousands_of_files() -> None:
    """In time that grows with their number, and not with its square."""
    counts = [1 + i % 3 for i in range(300_000)]
    found = shares(counts, 450_000)
    assert sum(found) == 450_000
    assert all(1 <= share <= count for share, count in zip(found, counts, strict=True))
    assert sum(found[:150_000]) == 225_000

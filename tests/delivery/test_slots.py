"""Slots: so many tasks at once, given back by whoever dies, and nobody leaves unheard."""

import os
import signal
import socket
from pathlib import Path

import pytest

from drf_webhooks.delivery.slots import Slots


def slots(folder: Path, count: int = 1) -> Slots:
    return Slots("default", count, folder=folder)


def test_there_are_so_many_and_no_more(tmp_path: Path) -> None:
    two = slots(tmp_path, 2)
    with two.take() as first, two.take() as second, two.take() as third:
        pass

    assert [first, second, third] == [True, True, False]
    with two.take() as again:
        assert again


def test_whoever_found_none_is_heard(tmp_path: Path) -> None:
    mine = slots(tmp_path)
    with mine.take():
        assert not mine.is_asked_again()
        with slots(tmp_path).take():
            pass

    assert mine.is_asked_again()
    with mine.take():
        pass
    assert not mine.is_asked_again()


def test_databases_do_not_share(tmp_path: Path) -> None:
    mine, other = slots(tmp_path), Slots("other", 1, folder=tmp_path)

    with mine.take() as one, other.take() as another:
        assert one
        assert another


def test_a_process_that_is_killed_gives_back_its_slot(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:  # pragma: no cover  # killed before it could say so
        with slots(tmp_path).take():
            theirs.send(b"x")
            signal.pause()
    ours.recv(1)
    with slots(tmp_path).take() as while_it_lives:
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    ours.close()
    theirs.close()

    with slots(tmp_path).take() as afterwards:
        assert afterwards
    assert not while_it_lives


def test_a_child_does_not_keep_what_its_parent_gives_back(tmp_path: Path) -> None:
    with slots(tmp_path).take():
        child = os.fork()
        if child == 0:  # pragma: no cover  # killed before it could say so
            signal.pause()
    try:
        with slots(tmp_path).take() as afterwards:
            assert afterwards
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("is_ours", [True, False], ids=["no folder", "of somebody else"])
def test_without_a_folder_of_ones_own_nothing_is_limited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_ours: bool
) -> None:
    some = slots(tmp_path)
    if is_ours:
        some._folder.write_text("a file stands in its place")
    else:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        some._folder.symlink_to(elsewhere)

    with some.take() as first, some.take() as second:
        pass

    assert (first, second) == (True, True)
    assert not some.is_asked_again()
    assert "Nothing limits" in caplog.text

"""The tutorial works as it is written, in a fresh folder, with real programs."""

import os
import shutil
from pathlib import Path

import pytest

from tests.chaos.servers import needed
from tests.walkthrough import Reader, blocks

PAGE = Path(__file__).parent.parent / "docs/tutorial/first-webhook.md"


@pytest.mark.skipif(
    os.environ.get("DRF_WEBHOOKS_TEST_DB", "sqlite") != "sqlite",
    reason="the tutorial has a database of its own: once is enough",
)
def test_who_follows_the_tutorial_sees_what_it_shows(tmp_path: Path) -> None:
    needed(shutil.which("curl") and shutil.which("setsid"), "curl and setsid")
    steps = blocks(PAGE)

    with Reader(tmp_path).reading() as reader:
        for block in steps:
            reader.follow(block)

    assert {block.kind for block in steps} == {"python", "console"}
    # No block is one that a reader has to do and this test does not.
    assert PAGE.read_text().count("```") == 2 * len(steps)

"""Do what a page of the documentation says: make its files, type its commands, see its output.

A page has blocks with a caption. A block of ``python`` is a file, or the end of one. A block of
``console`` is a terminal: what follows ``$ `` is typed into it, ``^C`` interrupts what runs
there, and everything else has to appear. A line ``…`` stands for any lines, ``…`` inside a line
for any text.
"""

import os
import re
import site
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.servers import free_port
from tests.terminals import Terminal, terminal

__all__ = ["Block", "Reader", "blocks"]

_CHECKOUT = Path(__file__).parent.parent

_BLOCK = re.compile(
    r"^```\{code-block\} (python|console)\n:caption: (.+)\n((?:.*\n)*?)```$", re.MULTILINE
)
#: What goes on until it is interrupted.
_RUNS_ON = re.compile(r"webhooks_listen|webhooks_worker|runserver")
_SHELL = ["/usr/bin/env", "setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"]
_PROMPT = re.compile(r"@@(\d+)@@ ")
_ENDED = re.compile(rf"(?P<all>(?:.*\n)*?.*?){_PROMPT.pattern}")
#: How a listener begins a message.
_RECEIVED = " POST / evt_"
_SECRET = "whsec_…"  # noqa: S105  # a place for one
_LIMIT_SECONDS = 120
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Block:
    """A block of a page: a file by its name, or a terminal by the name that the page has for it."""

    kind: str
    caption: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page that have a caption."""
    return [Block(*found.groups()) for found in _BLOCK.finditer(page.read_text())]


@dataclass
class _Shell:
    """A bash in a terminal of its own, as a person has it."""

    terminal: Terminal
    #: How far its output was compared.
    seen: int = 0

    @property
    def output(self) -> str:
        return self.terminal.text.replace("\r\n", "\n")[self.seen :]

    def expect(self, wanted: "re.Pattern[str]", *, said: str) -> "re.Match[str]":
        deadline = time.monotonic() + _LIMIT_SECONDS
        while (found := wanted.match(self.output)) is None:
            if time.monotonic() > deadline:
                msg = f"Expected:\n{said}\nThere was:\n{self.output}"
                raise AssertionError(msg)
            time.sleep(_POLL_SECONDS)
        self.seen += found.end()
        return found


class Reader:
    """Who follows a page in a folder, with nothing but what the page says.

    Args:
        folder: A fresh folder.

    """

    def __init__(self, folder: Path) -> None:
        self._environment = environment(folder, _CHECKOUT)
        # Where terminals begin.
        self._home = self._folder = Path(self._environment["HOME"])
        self._shells: dict[str, _Shell] = {}
        self._stack = ExitStack()
        self._secret = ""
        # Nobody else's server is to be in the way.
        self._ports = {"8000": str(free_port()), "9000": str(free_port())}

    @contextmanager
    def reading(self) -> Iterator["Reader"]:
        """End everything that was started, at the block's end."""
        with self._stack:
            try:
                yield self
            except AssertionError as error:
                # What went wrong is often seen in another terminal.
                for name, shell in self._shells.items():
                    error.add_note(f"{name}:\n{shell.terminal.text}")
                raise

    def follow(self, block: Block) -> None:
        """Make a file, or type commands and compare what appears.

        Raises:
            AssertionError: something else appears, or nothing.

        """
        text = re.sub("8000|9000", lambda found: self._ports[found[0]], block.text)
        if block.kind == "python":
            self._write(block.caption, text)
            return
        shell = self._shell(block.caption)
        for typed, expected in _steps(text):
            self._step(shell, typed, expected)

    def _write(self, caption: str, text: str) -> None:
        name, _, is_end = caption.partition(", at the ")
        path = self._folder / name
        path.write_text(path.read_text() + "\n" + text if is_end else text)

    def _step(self, shell: _Shell, typed: str, expected: str) -> None:
        wanted = _pattern(expected)
        if typed == "^C":
            shell.terminal.write("\x03")
            # What it says when it ends is its own business, but for that.
            ended = shell.expect(_ENDED, said="the prompt")
            assert "Traceback" not in ended["all"], ended["all"]
            return
        if typed:
            shell.terminal.write(typed.replace(_SECRET, self._secret) + "\n")
        if not typed or _RUNS_ON.search(typed):
            shown = shell.expect(wanted, said=expected)
            # Lines that a page leaves out are no place for a message that it does not have.
            count = expected.count(_RECEIVED)
            assert shown[0].count(_RECEIVED) == count, f"Expected {count}:\n{shown[0]}"
            return
        ended = shell.expect(_ENDED, said=f"{expected}(the prompt)")
        output = ended["all"]
        assert ended[2] == "0", f"$ {typed}\n{output}"
        if expected:
            # curl ends its answer without a line of its own.
            found = wanted.fullmatch(output if output.endswith("\n") else output + "\n")
            assert found, f"$ {typed}\nExpected:\n{expected}\nThere was:\n{output}"
            self._secret = found.groupdict().get("secret") or self._secret
        self._follow_folder(typed)

    def _follow_folder(self, typed: str) -> None:
        if typed.startswith("cd "):
            self._folder = self._home / typed.removeprefix("cd ")
        if "-m venv " in typed:
            (packages,) = (self._folder / typed.rsplit(maxsplit=1)[-1]).glob(
                "lib/python*/site-packages"
            )
            _borrow(packages, self._home.parent / "borrowed")

    def _shell(self, name: str) -> _Shell:
        if name not in self._shells:
            screen = self._stack.enter_context(terminal(columns=200))
            process = subprocess.Popen(  # noqa: S603  # a shell, as the page wants it
                [*_SHELL],
                stdin=screen.descriptor,
                stdout=screen.descriptor,
                stderr=screen.descriptor,
                cwd=self._home,
                env=self._environment,
            )
            self._stack.callback(_end, process, screen)
            shell = self._shells[name] = _Shell(screen)
            screen.write("stty -echo; PS1='@@$?@@ '\n")
            shell.expect(_ENDED, said="the prompt")
        return self._shells[name]


def environment(folder: Path, checkout: Path) -> dict[str, str]:
    """Return the environment of somebody who has nothing but Python, curl and the checkout.

    Packages are those of this environment: nothing is fetched.
    """
    home, programs = folder / "home", folder / "programs"
    home.mkdir()
    programs.mkdir()
    (home / "drf-webhooks").symlink_to(checkout)
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    return {
        "HOME": str(home),
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "DJANGO_COLORS": "nocolor",
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INDEX": "1",
        # It is set by naming its contrary.
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_CONFIG_FILE": os.devnull,
    }


def _borrow(packages: Path, folder: Path) -> None:
    """Let an environment see the packages of this one, without the library itself."""
    folder.mkdir()
    for source in map(Path, site.getsitepackages()):
        for each in source.iterdir():
            if "drf_webhooks" not in each.name:
                (folder / each.name).symlink_to(each)
    (packages / "borrowed.pth").write_text(f"{folder}\n")


def _steps(text: str) -> list[tuple[str, str]]:
    """Return what is typed, and what has to appear after it; at first what appears by itself."""
    steps = [("", "")]
    for line in text.splitlines(keepends=True):
        if line.startswith("$ ") or line == "^C\n":
            steps.append((line.removeprefix("$ ").rstrip("\n"), ""))
        else:
            typed, expected = steps[-1]
            steps[-1] = (typed, expected + line)
    return [each for each in steps if each != ("", "")]


def _pattern(expected: str) -> "re.Pattern[str]":
    lines = []
    for line in expected.splitlines():
        if line == "…":
            lines.append(r"(?:.*\n)*?")
            continue
        written = re.escape(line).replace(re.escape(_SECRET), r"(?P<secret>whsec_\S+)")
        lines.append(written.replace("…", r".*?") + r"\s*?\n")
    return re.compile("".join(lines))


def _end(process: "subprocess.Popen[bytes]", screen: Terminal) -> None:
    """Interrupt what runs in a terminal, and end its shell."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        screen.write("\x03")
        screen.write("exit\n")
        time.sleep(10 * _POLL_SECONDS)
    process.kill()
    process.wait()

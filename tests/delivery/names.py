"""A name server on loopback that says something else each time, and who asks it."""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

__all__ = ["NameServer"]

_A, _AAAA = 1, 28
_TYPES = {4: _A, 6: _AAAA}


class NameServer:
    """Speaks DNS over UDP (RFC 1035), with answers that hold for no time at all.

    Args:
        answer: Given the number of a look-up of a name, from 0, returns its addresses; ``None``
            to be silent. A look-up asks for A and AAAA.

    """

    def __init__(self, answer: Callable[[int], list[str] | None]) -> None:
        self.asked: Counter[str] = Counter()
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            # Wakes the thread.
            self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()

    async def look_up(self, host: str, _: int) -> list[str]:
        """Ask this server, as the transport wants a name to be looked up: for A, then AAAA."""
        loop = asyncio.get_running_loop()
        found: list[str] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            for kind in (_A, _AAAA):
                question = _question(secrets.randbelow(1 << 16), host, kind)
                await loop.sock_sendto(asking, question, self._socket.getsockname())
                found += _addresses(await loop.sock_recv(asking, 4096), question)
        return found

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(4096)
            if not question:
                return
            name, kind = _asked(question)
            if kind == _A:
                self.asked[name] += 1
            addresses = self._answer(self.asked[name] - 1)
            if addresses is not None:
                self._socket.sendto(_reply(question, kind, addresses), client)


def _question(number: int, host: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(each)]) + each.encode() for each in host.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)


def _asked(question: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), struct.unpack_from("!H", question, at + 1)[0]


def _reply(question: bytes, kind: int, addresses: list[str]) -> bytes:
    packed = [
        each.packed for each in map(ipaddress.ip_address, addresses) if _TYPES[each.version] == kind
    ]
    # The name is that of the question; the time to live is 0.
    records = b"".join(
        struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(each)) + each for each in packed
    )
    head = question[:2] + struct.pack("!5H", 0x8180, 1, len(packed), 0, 0)
    return head + question[12:] + records


def _addresses(reply: bytes, question: bytes) -> list[str]:
    assert reply[:2] == question[:2]
    count, at, found = struct.unpack_from("!H", reply, 6)[0], len(question), []
    for _ in range(count):
        length = struct.unpack_from("!H", reply, at + 10)[0]
        found.append(str(ipaddress.ip_address(reply[at + 12 : at + 12 + length])))
        at += 12 + length
    return found

"""Raw servers on loopback that do with a connection what a test says, a proxy among them."""

import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Client:
    """One accepted connection."""

    def __init__(self, connection: socket.socket, server: "RawServer") -> None:
        self.connection = connection
        self._server = server
        self._rest = b""

    def read(self) -> bytes:
        """Return the next request, head and body; nothing if the client has gone."""
        data = self._rest
        while b"\r\n\r\n" not in data:
            data += self._received()
        head, _, body = data.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: *(\d+)", head)
        length = int(found[1]) if found else 0
        whole = bytearray(body)
        while len(whole) < length:
            whole += self._received()
        self._rest = bytes(whole[length:])
        request = head + b"\r\n\r\n" + bytes(whole[:length])
        self._server.requests.append(request)
        self._server.arrived.set()
        return request

    def _received(self) -> bytes:
        data = self.connection.recv(65536)
        if not data:
            raise ConnectionResetError
        return data

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def drip(self, data: bytes, every: float) -> None:
        for byte in data:
            if self._server.closing.wait(every):
                return
            self.send(bytes([byte]))

    def reset(self) -> None:
        """Have the other side see a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def wait(self) -> None:
        """Do nothing until the client goes away, or the test ends."""
        with contextlib.suppress(OSError):
            while self.connection.recv(65536):
                pass

    def hold(self) -> None:
        """Read nothing more until the test ends; the system takes little in its stead."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._server.closing.wait()


Script = Callable[[Client], None]


class RawServer:
    """Gives each connection to a function, and keeps the requests that it reads."""

    def __init__(
        self,
        script: Script,
        *,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: list[bytes] = []
        self.arrived = threading.Event()
        self.connections = 0
        self.closing = threading.Event()
        self._script = script
        self._tls = tls
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((address, port), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.closing.set()
        # Closing alone would not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        # A client that goes away is what many of these tests are about.
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            try:
                self._script(Client(connection, self))
            finally:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()


def answers(*parts: bytes) -> Script:
    """Answer the first request with these bytes, and go when the client does."""

    def script(client: Client) -> None:
        client.read()
        for part in parts:
            client.send(part)
        client.wait()

    return script


def always_ok(client: Client) -> None:
    """Answer each request on a connection that stays open."""
    while True:
        client.read()
        client.send(OK)


class ProxyServer(RawServer):
    """A forward proxy: tunnels for https, whole URLs for http. Each name is 127.0.0.1 to it."""

    def __init__(self, *, credentials: bytes | None = None, **more: Any) -> None:
        super().__init__(self._relay, **more)
        self._credentials = credentials

    def _relay(self, client: Client) -> None:
        while True:
            request = client.read()
            if self._credentials and b"Basic " + self._credentials not in request:
                client.send(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b"proxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n"
                )
                continue
            method, target, _ = request.split(b" ", 2)
            port = int(re.search(rb":(\d+)(/|$)", target)[1])  # type: ignore[index]  # tests name it
            try:
                upstream = socket.create_connection(("127.0.0.1", port), timeout=5)
            except OSError:
                client.send(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                continue
            self._open.append(upstream)
            if method == b"CONNECT":
                client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._start(self._pump, upstream, client.connection)
                self._pump(client.connection, upstream)
                return
            upstream.sendall(request)
            answer = upstream.recv(65536)
            upstream.close()
            if not answer:
                return
            client.send(answer)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


class Authority:
    """A CA of the test, and the file that says to trust it."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.bundle = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.bundle)

    def context(self, *names: str, **more: Any) -> ssl.SSLContext:
        """Return a server's context with a certificate for these names."""
        return server_context(self.ca.issue_cert(*names, **more))


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that no more are made."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port

"""What the page for receivers shows verifies requests that were really sent, and no others."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drf_webhooks.conf import config
from drf_webhooks.delivery.retries import attempt_times
from drf_webhooks.delivery.signing import sign
from drf_webhooks.models import Delivery, Endpoint
from drf_webhooks.receiver import verify
from drf_webhooks.rotation import rotate_secret
from drf_webhooks.secret_keys import decode, generate
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.chaos.harness import wait_until
from tests.chaos.servers import answers, free_port, needed
from tests.factories import make_deposit

PAGE = (Path(__file__).parent.parent / "docs/receivers.md").read_text()
#: A program around the function of the page: JSON comes in, and a verdict goes out.
PROGRAMS = {
    "js": """
const given = JSON.parse(require("node:fs").readFileSync(0));
console.log(verify(given.secret, given.headers, Buffer.from(given.body, "base64")));
""",
    "ruby": """
require "json"
given = JSON.parse($stdin.read)
puts verify(given["secret"], given["headers"], given["body"].unpack1("m"))
""",
    "php": """
$given = json_decode(stream_get_contents(STDIN), true);
echo verify($given['secret'], $given['headers'], base64_decode($given['body'])) ? 'true' : 'false';
""",
    "go": """
func main() {
	var given struct {
		Secret  string
		Headers map[string]string
		Body    []byte
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	header := http.Header{}
	for name, value := range given.Headers {
		header.Set(name, value)
	}
	fmt.Println(Verify(given.Secret, header, given.Body))
}
""",
}


#: How each is run; the file is the last argument.
COMMANDS = {
    "js": ["node"],
    "ruby": ["ruby"],
    "php": ["php"],
    "go": ["go", "run"],
}


@dataclass(frozen=True)
class Sent:
    """A request as it arrived."""

    headers: Mapping[str, str]
    body: bytes
    secret: str
    old_secret: str


def code(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture
def sent(transactional_db: None) -> Sent:
    """A webhook that was really sent, during a rotation."""
    del transactional_db
    with WebhookReceiver() as receiver:
        endpoint = Endpoint.objects.create(url=receiver.url, event_types=["core.deposit.created"])
        old_secret = endpoint.secret
        rotate_secret(endpoint)
        make_deposit()
        deliver_now()
        (request,) = receiver.requests
    return Sent(request.headers, request.body, endpoint.secret, old_secret)


def variants(sent: Sent) -> Iterator[tuple[str, Sent, bool]]:
    """Give requests that are to be taken or refused, and by what they differ from a good one."""

    def with_headers(**headers: str | None) -> Sent:
        changed = {f"webhook-{name}": value for name, value in headers.items()}
        merged = {**sent.headers, **changed}
        return replace(sent, headers={k: v for k, v in merged.items() if v is not None})

    old = datetime.now(tz=UTC) - timedelta(minutes=6)
    signature = sign(
        decode(sent.secret), event_id=sent.headers["webhook-id"], sent_at=old, body=sent.body
    )
    yield "nothing", sent, True
    yield "the old secret", replace(sent, secret=sent.old_secret), True
    yield "a wrong secret", replace(sent, secret=generate()), False
    yield "the body", replace(sent, body=sent.body.replace(b"100.00", b"900.00")), False
    yield "the id", with_headers(id="evt_1"), False
    yield "the time", with_headers(timestamp=str(int(datetime.now(tz=UTC).timestamp()) + 1)), False
    yield (
        "that it is old",
        with_headers(timestamp=str(int(old.timestamp())), signature=signature),
        False,
    )
    yield "no time", with_headers(timestamp="yesterday"), False
    yield "no signature", with_headers(signature="v1, v1,= v2,abc ,"), False
    yield "no headers", with_headers(id=None, timestamp=None, signature=None), False


@pytest.mark.parametrize("language", COMMANDS)
def test_the_function_of_a_language_verifies_what_was_sent(
    language: str, sent: Sent, tmp_path: Path
) -> None:
    command = COMMANDS[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on this machine")
    source = code(language).partition("http.createServer")[0] + PROGRAMS[language]
    if language == "php":
        source = f"<?php\n{source}"
    if language == "go":
        source = source.replace("package webhooks", "package main").replace(
            "import (", 'import (\n"encoding/json"\n"fmt"\n"os"'
        )
    program = tmp_path / f"program.{language}"
    program.write_text(source)
    if language == "go":
        # Compiled once, and not for each request.
        compiled = tmp_path / "program"
        environment = {**os.environ, "GOCACHE": str(tmp_path / "cache")}
        build = [shutil.which("go"), "build", "-o", compiled, program]
        subprocess.run(build, check=True, env=environment)  # noqa: S603  # our own page
        command, program = [], compiled

    for name, request, is_right in variants(sent):
        assert run([*command, str(program)], request) is is_right, name


def run(command: list[str], request: Sent) -> bool:
    given = {
        "secret": request.secret,
        "headers": dict(request.headers),
        "body": base64.b64encode(request.body).decode(),
    }
    done = subprocess.run(  # noqa: S603  # our own page
        command, input=json.dumps(given), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return {"true": True, "false": False}[done.stdout.strip()]


def test_the_function_in_python_verifies_what_was_sent(sent: Sent) -> None:
    for name, request, is_right in variants(sent):
        namespace: dict[str, Any] = {}
        exec(code("python"), namespace)  # noqa: S102  # our own page
        namespace["SECRET"] = request.secret

        status = namespace["receive"](request.body, request.headers)

        assert (status == 204) is is_right, name
        assert len(namespace["queue"]) == is_right


@pytest.fixture
def sent_with_key_pair(transactional_db: None) -> Sent:
    """A webhook that was really sent, with an ed25519 signature; the public key is the secret."""
    del transactional_db
    with WebhookReceiver() as receiver:
        endpoint = Endpoint.objects.create(
            url=receiver.url, event_types=["core.deposit.created"], secret=generate("v1a")
        )
        make_deposit()
        deliver_now()
        (request,) = receiver.requests
    assert endpoint.public_key
    return Sent(request.headers, request.body, endpoint.public_key, endpoint.secret)


def variants_with_key_pair(sent: Sent) -> Iterator[tuple[str, Sent, bool]]:
    stranger = Endpoint(secret=generate("v1a")).public_key
    assert stranger
    yield "a wrong key", replace(sent, secret=stranger), False
    for name, request, is_right in variants(replace(sent, secret=sent.old_secret)):
        if "secret" not in name:
            yield name, replace(request, secret=sent.secret), is_right


def test_the_function_in_python_verifies_by_a_public_key(sent_with_key_pair: Sent) -> None:
    namespace: dict[str, Any] = {}
    exec(code("py"), namespace)  # noqa: S102  # our own page

    for name, request, is_right in variants_with_key_pair(sent_with_key_pair):
        found = namespace["verify_by_public_key"](request.secret, request.headers, request.body)
        assert found is is_right, name


def test_the_function_in_node_verifies_by_a_public_key(
    sent_with_key_pair: Sent, tmp_path: Path
) -> None:
    needed(shutil.which("node"), "node")
    program = tmp_path / "program.js"
    program.write_text(code("javascript") + PROGRAMS["js"].replace("verify(", "verifyByPublicKey("))

    for name, request, is_right in variants_with_key_pair(sent_with_key_pair):
        assert run(["node", str(program)], request) is is_right, name


@contextmanager
def node(secret: str, folder: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run the server of the page; give its URL."""
    needed(shutil.which("node"), "node")
    program, port = folder / "server.js", free_port()
    program.write_text(code("js"))
    server = subprocess.Popen(  # noqa: S603  # our own page
        [str(shutil.which("node")), program],
        env={**os.environ, "WEBHOOK_SECRET": secret, "PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: answers(port), "the server")
        yield f"http://127.0.0.1:{port}/", server
    finally:
        server.kill()
        server.wait()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_known", [True, False], ids=["its secret", "another secret"])
def test_the_server_in_node_takes_what_is_signed_with_its_secret(
    *, is_known: bool, tmp_path: Path
) -> None:
    secret = generate()
    with node(secret if is_known else generate(), tmp_path) as (url, server):
        Endpoint.objects.create(url=url, event_types=["core.deposit.created"], secret=secret)
        make_deposit()
        deliver_now()
        server.kill()
        said = server.communicate()[0]

    delivery = Delivery.objects.get()
    assert delivery.state == ("delivered" if is_known else "waiting")
    assert delivery.attempts.get().status == (204 if is_known else 401)
    assert said == (f"{delivery.event.message_id} core.deposit.created\n" if is_known else "")


def test_the_example_of_the_page_has_a_signature_that_is_right() -> None:
    (example,) = re.findall(r"^```http\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    head, _, body = example.partition("\n\n")
    headers = dict(re.findall(r"^([a-z-]+): (.*)$", head, re.MULTILINE))
    (secret,) = re.findall(r'^SECRET = "(.*?)"', PAGE, re.MULTILINE)
    sent_at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), tz=UTC)

    assert verify(body.strip().encode(), headers, secret, now=sent_at)
    assert sent_at.isoformat() == "2026-11-24T12:00:00+00:00"
    (message_id, timestamp, text, signature) = re.findall(
        r"the id `(.+?)`, the timestamp `(.+?)` and the body `(.+?)` has the signature `(.+?)`",
        PAGE,
    )[0]
    at = datetime.fromtimestamp(int(timestamp), tz=UTC)
    vector = sign(decode(secret), event_id=message_id, sent_at=at, body=text.encode())
    assert vector == signature


def test_the_schedule_of_the_page_is_the_default_one() -> None:
    (waits,) = re.findall(r"^\| waits \| \| (.*) \|$", PAGE, re.MULTILINE)
    units = {"s": "seconds", "min": "minutes", "h": "hours"}

    told = []
    for wait in waits.split(" | "):
        number, unit = wait.split()
        told.append(timedelta(**{units[unit]: int(number)}))

    settings = config()
    assert tuple(told) == settings.RETRY_SCHEDULE
    assert len(attempt_times(settings)) == 10
    assert timedelta(days=4) == settings.MAX_AGE
    assert timedelta(seconds=15) == settings.REQUEST_TIMEOUT
    assert timedelta(days=5) == settings.DISABLE_AFTER

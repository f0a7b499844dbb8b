"""``manage.py webhooks_send``, as an operator types it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import CommandError

from drf_webhooks import secret_keys
from drf_webhooks.delivery.signing import sign
from drf_webhooks.models import Delivery, Endpoint, Event
from drf_webhooks.session import disable_webhooks
from drf_webhooks.testing import WebhookReceiver
from tests.app.models import Document
from tests.factories import make_deposit, make_user
from tests.management.test_commands import run

pytestmark = pytest.mark.django_db(transaction=True)


def make_endpoint(receiver: WebhookReceiver, **fields: Any) -> Endpoint:
    return Endpoint.objects.create(**{"url": receiver.url, "event_types": ["x"], **fields})


def test_a_test_event_is_signed_and_stored_nowhere() -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(202, headers={"x-seen": "yes"}, body=b"thanks")
        endpoint = make_endpoint(receiver, state="disabled")
        out, _ = run("webhooks_send", str(endpoint.pk))

    (received,) = receiver.requests
    assert received.json["type"] == "webhooks.endpoint.test"
    assert received.json["data"] == {"endpoint": str(endpoint.pk)}
    sent_at = datetime.fromtimestamp(int(received.headers["webhook-timestamp"]), tz=UTC)
    webhook_id = received.headers["webhook-id"]
    assert received.headers["webhook-signature"] == sign(
        secret_keys.decode(endpoint.secret),
        event_id=webhook_id,
        sent_at=sent_at,
        body=received.body,
    )
    assert f"{receiver.url}  {webhook_id}\n202 after 0." in out
    assert "  x-seen: yes\n" in out
    assert out.endswith("thanks\n")
    assert not Event.objects.exists()
    assert not Delivery.objects.exists()


def test_an_object_is_told_of_as_it_is_now() -> None:
    with disable_webhooks():
        deposit = make_deposit(amount=7)
    with WebhookReceiver() as receiver:
        pk = str(make_endpoint(receiver, event_types=["core.deposit.*"]).pk)
        deposit.save()
        for kind in ("updated", "deleted"):
            arguments = ["--type", f"core.deposit.{kind}", "--object", str(deposit.pk)]
            run("webhooks_send", pk, *arguments)

    updated, deleted = (each.json for each in receiver.requests)
    assert (updated["data"]["amount"], updated["sequence"]) == ("7.00", 1)
    assert deleted["data"] == {"id": deposit.pk}
    # It was numbered as the last event was, and counts as none.
    assert Event.objects.count() == 1


@pytest.mark.parametrize("is_down", [True, False])
def test_it_fails_if_the_endpoint_does_not_take_it(*, is_down: bool) -> None:
    with WebhookReceiver() as receiver:
        receiver.respond(503)
        endpoint = make_endpoint(receiver)
        if is_down:
            receiver.__exit__(None, None, None)
        with pytest.raises(CommandError, match="did not take it") as caught:
            run("webhooks_send", str(endpoint.pk))

    assert caught.value.returncode == 1
    assert ("connection_refused" if is_down else "503") in str(caught.value)


def test_an_owner_is_told_of_its_own_objects_only() -> None:
    ada = make_user(username="ada")
    document = Document.objects.create(title="x", user=ada)
    arguments = ["--type", "core.document.updated", "--object", str(document.pk)]
    with WebhookReceiver() as receiver:
        hers, nobodys = make_endpoint(receiver, owner=ada), make_endpoint(receiver)
        run("webhooks_send", str(hers.pk), *arguments)
        with pytest.raises(CommandError, match="does not own Document"):
            run("webhooks_send", str(nobodys.pk), *arguments)

    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--type", "core.flat.updated"], "No resource emits 'core.flat.updated'. Event types: "),
        (["--type", "core.deposit.updated"], "Name one with --object"),
        (["--type", "core.deposit.updated", "--object", "77777"], "There is no Deposit '77777'"),
        (["--type", "core.deposit.updated", "--object", "x"], "There is no Deposit 'x'"),
        (["--object", "1"], "No resource emits 'webhooks.endpoint.test'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    with WebhookReceiver() as receiver, pytest.raises(CommandError, match=said):
        run("webhooks_send", str(make_endpoint(receiver).pk), *arguments)

    assert receiver.requests == []


def test_an_object_that_cannot_be_serialized_says_why() -> None:
    with disable_webhooks():
        deposit = make_deposit(note="boom")
    arguments = ["--type", "core.deposit.updated", "--object", str(deposit.pk)]
    with WebhookReceiver() as receiver, pytest.raises(CommandError, match="ValueError: boom"):
        run("webhooks_send", str(make_endpoint(receiver).pk), *arguments)

"""Verification: nothing but a question is sent to an endpoint that has not asked for more."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.core.cache import cache
from django.test import override_settings
from django.utils import timezone
from rest_framework.exceptions import Throttled

from drf_webhooks import endpoints, verification
from drf_webhooks.exceptions import VerificationError
from drf_webhooks.models import Delivery, Endpoint, Event, Verification
from drf_webhooks.owners import Owned
from drf_webhooks.receiver import verify
from drf_webhooks.testing import WebhookReceiver, deliver_now
from drf_webhooks.verification import Answer, Echo, Verifier
from tests.app.models import Document, User
from tests.factories import make_user

pytestmark = pytest.mark.django_db(transaction=True)

NETWORKS = {"ALLOWED_NETWORKS": ["127.0.0.0/8", "::1/128"]}
ECHO = {**NETWORKS, "ENDPOINT_VERIFIER": "drf_webhooks.verification.Echo"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cache.clear()
    with override_settings(DRF_WEBHOOKS=ECHO):
        yield
    cache.clear()


@pytest.fixture
def ada(db: None) -> User:
    return make_user(username="ada")


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as started:
        yield started


class Shake(Verifier):
    """What REST hooks do: the answer has a header."""

    def challenge(self, endpoint: Endpoint) -> dict[str, Any]:
        return {"hook_secret": "s3"}

    def refusal(self, data: Mapping[str, Any], answer: Answer) -> str:
        is_right = answer.header("x-hook-secret") == data["hook_secret"]
        return "" if is_right else "There is no X-Hook-Secret."


class Broken(Verifier):
    def challenge(self, endpoint: Endpoint) -> dict[str, Any]:
        return {}

    def refusal(self, data: Mapping[str, Any], answer: Answer) -> str:
        raise RuntimeError


def make(ada: User, receiver: WebhookReceiver, **fields: Any) -> Endpoint:
    return Owned(ada).create_endpoint(
        **{"url": receiver.url, "event_types": ["core.document.*"], **fields}
    )


def state(endpoint: Endpoint) -> tuple[str, str, str]:
    endpoint.refresh_from_db()
    found = Verification.objects.get(pk=endpoint.pk)
    return endpoint.state, found.state, found.error


def challenge(endpoint: Endpoint) -> str:
    """Return what the endpoint was asked last."""
    asked = Event.objects.filter(type="webhooks.endpoint.verify").latest("sequence")
    return str(asked.data["challenge"])


@pytest.mark.parametrize(
    "form",
    [
        pytest.param('{{"challenge": "{}"}}', id="as JSON"),
        pytest.param("{}\n", id="as text"),
        pytest.param('"{}"', id="as a text in JSON"),
    ],
)
def test_an_endpoint_that_echoes_the_challenge_hears_from_then_on(
    ada: User, receiver: WebhookReceiver, form: str
) -> None:
    endpoint = make(ada, receiver)
    Document.objects.create(title="Before", user=ada)
    assert state(endpoint) == ("disabled", "pending", "")
    assert endpoint.disabled_reason == "It waits for its verification."
    receiver.respond(201, body=form.format(challenge(endpoint)).encode())

    deliver_now()

    asked, test = receiver.requests
    assert asked.json["type"] == "webhooks.endpoint.verify"
    assert test.json["type"] == "webhooks.endpoint.test"
    assert verify(asked.body, asked.headers, endpoint.secret)
    assert state(endpoint) == ("enabled", "verified", "")
    Document.objects.create(title="After", user=ada)
    deliver_now()
    assert receiver.requests[-1].json["data"]["title"] == "After"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param({"body": b"{}"}, "The answer has no challenge", id="empty"),
        pytest.param({"body": b'{"challenge": 1}'}, "The answer has no challenge", id="number"),
        pytest.param({"body": b'{"challenge": "\\ud800"}'}, "no challenge", id="half a character"),
        pytest.param({"body": b"[" * 4000}, "The answer has no challenge", id="nested deep"),
        pytest.param({"body": b"\xff"}, "The answer has no challenge", id="no text"),
        pytest.param({"status": 404}, "answered with status 404", id="not found"),
        pytest.param({"status": 500}, "answered with status 500", id="broken"),
        pytest.param({"status": 410}, "answered with status 410", id="gone"),
        pytest.param({"reset": True}, "There was no answer: connection_reset", id="no answer"),
    ],
)
def test_an_endpoint_that_answers_otherwise_hears_nothing(
    ada: User, receiver: WebhookReceiver, answer: dict[str, Any], why: str
) -> None:
    receiver.respond(**answer)
    endpoint = make(ada, receiver)
    Document.objects.create(title="Before", user=ada)

    deliver_now()
    deliver_now()

    assert len(receiver.requests) == 1
    assert state(endpoint)[:2] == ("disabled", "failed")
    assert why in state(endpoint)[2]
    assert not Delivery.objects.filter(state="waiting").exists()


def test_nothing_makes_an_endpoint_hear_before_it_is_verified(
    ada: User, receiver: WebhookReceiver
) -> None:
    endpoint = make(ada, receiver, state="enabled")
    mine = Owned(ada)

    assert state(endpoint)[0] == "disabled"
    for act in (mine.enable, mine.send_test):
        with pytest.raises(VerificationError, match="is not verified"):
            act(endpoint.pk)
    assert Delivery.objects.count() == 1


def test_it_may_be_asked_again_and_the_older_question_counts_no_more(
    ada: User, receiver: WebhookReceiver
) -> None:
    endpoint = make(ada, receiver)
    old = challenge(endpoint)
    Owned(ada).verify(endpoint.pk)
    receiver.respond(body=old.encode())

    deliver_now()

    assert [each.json["type"] for each in receiver.requests] == ["webhooks.endpoint.verify"]
    assert state(endpoint)[1] == "failed"
    Owned(ada).verify(endpoint.pk)
    receiver.respond(body=challenge(endpoint).encode())
    deliver_now()
    assert state(endpoint)[:2] == ("enabled", "verified")


def test_one_that_is_verified_or_was_never_asked_needs_no_verification(
    ada: User, receiver: WebhookReceiver
) -> None:
    before = Endpoint.objects.create(owner=ada, url=receiver.url, event_types=["*"])

    with pytest.raises(VerificationError, match="needs no verification"):
        Owned(ada).verify(before.pk)
    assert Owned(ada).send_test(before.pk).state == "waiting"
    with override_settings(DRF_WEBHOOKS=NETWORKS):
        assert make(ada, receiver).state == "enabled"
        assert verification.judge() == 0
        with pytest.raises(VerificationError, match="needs no verification"):
            Owned(ada).verify(before.pk)


def test_another_url_has_to_be_verified_again_and_gets_nothing_of_before(
    ada: User, receiver: WebhookReceiver
) -> None:
    endpoint = make(ada, receiver)
    receiver.respond(body=challenge(endpoint).encode())
    deliver_now()
    count = len(receiver.requests)
    Owned(ada).send_test(endpoint.pk)

    with WebhookReceiver() as other:
        changed = Owned(ada).change_endpoint(endpoint.pk, url=other.url)
        assert changed.state == "disabled"
        other.respond(404)
        deliver_now()
        assert [each.json["type"] for each in other.requests] == ["webhooks.endpoint.verify"]

    assert len(receiver.requests) == count
    assert state(endpoint)[:2] == ("disabled", "failed")


def test_a_change_of_anything_else_asks_for_nothing(ada: User, receiver: WebhookReceiver) -> None:
    endpoint = make(ada, receiver)

    Owned(ada).change_endpoint(endpoint.pk, description="Mine", url=receiver.url)

    assert Delivery.objects.count() == 1


def test_what_was_disabled_meanwhile_stays_so(ada: User, receiver: WebhookReceiver) -> None:
    endpoint = make(ada, receiver)
    receiver.respond(body=challenge(endpoint).encode())
    Endpoint.objects.update(disabled_reason="By an operator.")

    deliver_now()

    assert state(endpoint)[:2] == ("disabled", "verified")
    assert Owned(ada).enable(endpoint.pk)


def test_an_operator_who_enables_an_endpoint_vouches_for_it(
    ada: User, receiver: WebhookReceiver
) -> None:
    endpoint = make(ada, receiver)

    assert endpoints.enable(endpoint)


def test_a_project_may_verify_in_its_own_way(ada: User, receiver: WebhookReceiver) -> None:
    mine = {**NETWORKS, "ENDPOINT_VERIFIER": "tests.test_verification.Shake"}
    with override_settings(DRF_WEBHOOKS=mine):
        receiver.respond(headers={"X-Hook-Secret": "s3"})
        right = make(ada, receiver)
        deliver_now()
        receiver.respond(headers={"X-Hook-Secret": "s4"})
        wrong = make(ada, receiver)
        deliver_now()

    assert state(right)[:2] == ("enabled", "verified")
    assert state(wrong) == ("disabled", "failed", "There is no X-Hook-Secret.")


def test_a_verifier_that_fails_is_logged_and_refuses(
    ada: User, receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    mine = {**NETWORKS, "ENDPOINT_VERIFIER": "tests.test_verification.Broken"}
    with override_settings(DRF_WEBHOOKS=mine):
        endpoint = make(ada, receiver)
        deliver_now()

    assert state(endpoint) == ("disabled", "failed", "The answer could not be judged.")
    assert "The verifier failed" in caplog.text


def test_a_verifier_says_what_it_asks_and_what_will_do(ada: User) -> None:
    endpoint = Endpoint.objects.create(owner=ada, url="https://a.example/", event_types=["*"])

    with pytest.raises(NotImplementedError):
        Verifier().challenge(endpoint)
    with pytest.raises(NotImplementedError):
        Verifier().refusal({}, Answer(200, (), b""))
    assert Echo().challenge(endpoint) != Echo().challenge(endpoint)
    assert str(Verification(endpoint=endpoint)) == f"{endpoint.pk} pending"


def test_a_question_that_cannot_be_sent_is_settled(ada: User, receiver: WebhookReceiver) -> None:
    endpoint = make(ada, receiver)
    Delivery.objects.all().give_up("A test.", now=timezone.now())

    assert verification.judge() == 1

    assert state(endpoint) == ("disabled", "failed", "It could not be asked.")


def test_of_two_that_decide_one_does(ada: User, receiver: WebhookReceiver) -> None:
    make(ada, receiver)
    found = Verification.objects.get()

    assert verification.settle(found, "")
    assert not verification.settle(found, "Too late.")
    assert Verification.objects.get().state == "verified"


def test_questions_are_limited_as_tests_are(ada: User, receiver: WebhookReceiver) -> None:
    endpoint = make(ada, receiver)
    for _ in range(5):
        Owned(ada).verify(endpoint.pk)

    with pytest.raises(Throttled):
        Owned(ada).verify(endpoint.pk)

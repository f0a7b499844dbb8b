"""F68, F75: a secret is replaced with an overlap, and none is lost on the way."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import AnonymousUser, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from standardwebhooks import Webhook

from drf_webhooks import secret_keys
from drf_webhooks.exceptions import RotationError, SecretError
from drf_webhooks.models import Delivery, Endpoint
from drf_webhooks.receiver import verify
from drf_webhooks.resealing import reseal
from drf_webhooks.rotation import (
    MOST_OLD_SECRETS,
    replace_secret,
    reveal_secret,
    revoke_old_secrets,
    rotate_secret,
)
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.delivery.test_worker import make_deliveries
from tests.factories import make_user
from tests.test_encryption import FIRST, HOME, SECOND, keys

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security]

HOUR = timedelta(hours=1)
URL = "https://a.example/"


@pytest.fixture(params=["in clear", "encrypted"])
def endpoint(request: pytest.FixtureRequest) -> Any:
    chosen = [Fernet.generate_key().decode()] if request.param == "encrypted" else []
    with override_settings(DRF_WEBHOOKS={**HOME, "ENCRYPTION_KEYS": chosen}):
        yield Endpoint.objects.create(url=URL, event_types=["*"])


def read(endpoint: Endpoint) -> Endpoint:
    return Endpoint.objects.get(pk=endpoint.pk)


def is_verified(request: Any, secret: str) -> bool:
    return verify(request.body, request.headers, secret)


def test_f68_both_secrets_sign_during_the_overlap_and_one_after_it() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_deliveries(1, receiver.url)
        old = endpoint.secret
        new = rotate_secret(endpoint, overlap=HOUR)
        assert deliver_now() == 1
        # As if the overlap had begun two hours ago.
        (kept,) = endpoint.old_secrets
        over = secret_keys.OldSecret(kept.secret, kept.expires_at - 2 * HOUR)
        Endpoint.objects.update(old_secrets=[over])
        Delivery.objects.update(state="waiting", due_at=timezone.now() - HOUR)
        assert deliver_now() == 1

    during, after = receiver.requests
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    assert [is_verified(during, each) for each in (old, new)] == [True, True]
    for secret in (old, new):
        Webhook(secret).verify(during.body, dict(during.headers))
    assert len(after.headers["webhook-signature"].split(" ")) == 1
    assert [is_verified(after, each) for each in (old, new)] == [False, True]


def test_f68_a_rotation_from_hmac_to_ed25519_carries_both() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_deliveries(1, receiver.url)
        old = endpoint.secret
        rotate_secret(endpoint, signature="v1a")
        assert deliver_now() == 1

    (request,) = receiver.requests
    signatures = request.headers["webhook-signature"].split(" ")
    assert [each.partition(",")[0] for each in signatures] == ["v1a", "v1"]
    assert (endpoint.signature, read(endpoint).signature) == ("v1a", "v1a")
    assert endpoint.public_key is not None
    assert is_verified(request, endpoint.public_key)
    assert is_verified(request, old)


def test_a_rotation_keeps_the_kind_of_signature(endpoint: Endpoint) -> None:
    replace_secret(endpoint, signature="v1a")
    rotate_secret(endpoint)

    assert read(endpoint).signature == "v1a"


def test_a_given_secret_is_taken(endpoint: Endpoint) -> None:
    mine = secret_keys.generate()
    old = endpoint.secret

    assert rotate_secret(endpoint, secret=mine) == mine
    assert [each.secret for each in read(endpoint).old_secrets] == [old]
    assert read(endpoint).secret == endpoint.secret == mine
    with pytest.raises(ValueError, match="is the present one"):
        rotate_secret(endpoint, secret=mine)
    with pytest.raises(ValueError, match="24 to 64"):
        rotate_secret(endpoint, secret="whsec_")  # noqa: S106  # the point


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=7, seconds=1)])
def test_an_overlap_is_0_to_7_days(endpoint: Endpoint, overlap: timedelta) -> None:
    with pytest.raises(ValueError, match="must be 0 to 7 days"):
        rotate_secret(endpoint, overlap=overlap)


def test_f68_the_sixth_rotation_is_refused_with_the_time(endpoint: Endpoint) -> None:
    now = timezone.now().replace(microsecond=0)
    secrets = [endpoint.secret]
    secrets += [
        rotate_secret(endpoint, overlap=(5 - number) * HOUR, now=now)
        for number in range(MOST_OLD_SECRETS)
    ]

    with pytest.raises(RotationError) as refused:
        rotate_secret(endpoint, now=now)

    assert refused.value.possible_at == now + HOUR
    assert f"{now + HOUR:%Y-%m-%d %H:%M:%S} UTC" in str(refused.value)
    assert [each.secret for each in read(endpoint).old_secrets] == secrets[:-1]
    assert read(endpoint).secret == secrets[-1]
    # In need it is possible, without an overlap; and once the first one is over.
    rotate_secret(endpoint, overlap=timedelta(0), now=now)
    rotate_secret(endpoint, now=now + HOUR)
    assert len(read(endpoint).old_secrets) == MOST_OLD_SECRETS


def test_f68_without_an_overlap_the_old_one_is_gone(endpoint: Endpoint) -> None:
    rotate_secret(endpoint, overlap=timedelta(0))

    assert read(endpoint).old_secrets == ()


def test_f68_of_rotations_at_the_same_time_one_wins() -> None:
    endpoint = Endpoint.objects.create(url=URL, event_types=["*"])
    first = endpoint.secret
    copies = [read(endpoint) for _ in range(8)]

    def rotate(copy: Endpoint) -> str | None:
        try:
            return rotate_secret(copy)
        except RotationError:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        made = [each for each in pool.map(rotate, copies) if each is not None]

    row = read(endpoint)
    assert made == [row.secret]
    assert [each.secret for each in row.old_secrets] == [first]


def test_f68_a_rotation_meanwhile_is_noticed(endpoint: Endpoint) -> None:
    stale = read(endpoint)
    new = rotate_secret(endpoint)

    with pytest.raises(RotationError, match="by somebody else meanwhile") as refused:
        rotate_secret(stale)
    assert refused.value.possible_at is None

    assert read(endpoint).secret == new
    assert len(read(endpoint).old_secrets) == 1


@contextmanager
def before_each_update(act: Callable[[], object], *, times: int = 1) -> Iterator[None]:
    """Act between what is read and what is written, as another process may."""
    left = [None] * times

    def meanwhile(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        if sql.startswith("UPDATE") and left:
            left.pop()
            kept, left[:] = list(left), []
            act()
            left[:] = kept
        return execute(sql, params, many, context)

    with connection.execute_wrapper(meanwhile):
        yield


def test_f68_encrypting_anew_at_the_same_time_loses_no_secret() -> None:
    with keys(FIRST):
        endpoint = Endpoint.objects.create(url=URL, event_types=["*"])
    made = []
    with keys(SECOND, FIRST):
        with before_each_update(lambda: made.append(rotate_secret(read(endpoint)))):
            (batch,) = reseal("default")
        assert batch.written == 0
        assert [read(endpoint).secret] == made

        with before_each_update(lambda: list(reseal("default", decrypt=True))):
            made.append(rotate_secret(read(endpoint)))
        assert read(endpoint).secret == made[-1]
        assert len(read(endpoint).old_secrets) == 2

        with before_each_update(lambda: list(reseal("default", decrypt=True))):
            assert revoke_old_secrets(endpoint) == 2
        assert (read(endpoint).secret, read(endpoint).old_secrets) == (made[-1], ())


def test_who_is_disturbed_again_and_again_gives_up(endpoint: Endpoint) -> None:
    rotate_secret(endpoint)

    def disturb() -> None:
        at = timezone.now() + HOUR
        Endpoint.objects.update(old_secrets=[secret_keys.OldSecret(secret_keys.generate(), at)])

    with before_each_update(disturb, times=9):
        with pytest.raises(RotationError, match="by somebody else"):
            rotate_secret(endpoint)
        with pytest.raises(RotationError, match="Try it again"):
            revoke_old_secrets(endpoint)


def test_an_endpoint_that_is_gone_is_not_rotated(endpoint: Endpoint) -> None:
    copy = read(endpoint)
    endpoint.delete()

    with pytest.raises(RotationError):
        rotate_secret(copy)
    assert revoke_old_secrets(copy) == 0


def test_f68_revoking_ends_every_overlap_at_once() -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_deliveries(1, receiver.url)
        old = endpoint.secret
        new = rotate_secret(endpoint)
        assert revoke_old_secrets(endpoint) == 1
        assert revoke_old_secrets(endpoint) == 0
        assert deliver_now() == 1

    (request,) = receiver.requests
    assert [is_verified(request, each) for each in (old, new)] == [False, True]
    assert endpoint.secret == read(endpoint).secret == new


def test_what_is_over_is_dropped_when_others_are_revoked(endpoint: Endpoint) -> None:
    rotate_secret(endpoint, overlap=HOUR, now=timezone.now() - 2 * HOUR)

    assert revoke_old_secrets(endpoint) == 0
    assert read(endpoint).old_secrets == ()


def test_f75_a_replaced_secret_leaves_none_of_before(endpoint: Endpoint) -> None:
    old = endpoint.secret
    rotate_secret(endpoint)

    new = replace_secret(endpoint)

    row = read(endpoint)
    assert row.secret == endpoint.secret == new
    assert row.old_secrets == endpoint.old_secrets == ()
    assert old != new


def test_a_secret_that_nobody_can_decrypt_can_be_replaced() -> None:
    with keys(FIRST):
        endpoint = Endpoint.objects.create(url=URL, event_types=["*"])
        rotate_secret(endpoint)
    with keys(SECOND):
        lost = read(endpoint)
        with pytest.raises(SecretError):
            rotate_secret(lost)
        with pytest.raises(SecretError):
            revoke_old_secrets(lost)
        with pytest.raises(SecretError):
            replace_secret(lost)
        new = replace_secret(lost, signature="v1")
        assert read(endpoint).secret == new


def test_a_secret_is_revealed_to_who_has_the_permission(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    ada, bob = make_user(username="ada"), make_user(username="bob", is_staff=True)
    permission = Permission.objects.filter(codename="reveal_secret").first()
    if permission is None:
        permission = make_permission()
    ada.user_permissions.add(permission)

    with caplog.at_level(logging.INFO, "drf_webhooks"):
        assert reveal_secret(endpoint, ada) == endpoint.secret
        for user in (bob, AnonymousUser()):
            with pytest.raises(PermissionDenied, match=r"drf_webhooks\.reveal_secret"):
                reveal_secret(endpoint, user)

    assert f"Endpoint {endpoint.pk}: the secret was shown to user {ada.pk}." in caplog.text
    assert f"user {bob.pk} may not see the secret" in caplog.text
    assert endpoint.secret not in caplog.text


def make_permission() -> Permission:
    kind = ContentType.objects.get_for_model(Endpoint)
    return Permission.objects.create(codename="reveal_secret", content_type=kind, name="x")


def test_f71_no_log_line_has_a_secret(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        secrets = [endpoint.secret, rotate_secret(endpoint), rotate_secret(endpoint)]
        revoke_old_secrets(endpoint)
        secrets.append(replace_secret(endpoint))

    ours = [each.getMessage() for each in caplog.records if each.name.startswith("drf_webhooks")]
    assert len(ours) == 4
    assert not [each for each in secrets if each in "".join(ours)]


def test_what_is_stored_and_no_secret_gets_no_overlap(endpoint: Endpoint) -> None:
    Endpoint.objects.update(secret="broken")  # noqa: S106  # the point
    broken = read(endpoint)

    with pytest.raises(ValueError, match="must be 'whsec_'"):
        rotate_secret(broken, signature="v1")
    replace_secret(broken, signature="v1")

    assert read(endpoint).secret == broken.secret

"""F71, F72: secrets are encrypted in the database, readable with the keys, and shown nowhere."""

import asyncio
import json
import logging
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.core.serializers import deserialize, serialize
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.test import override_settings
from django.utils import timezone
from django.utils.log import AdminEmailHandler
from django.views.debug import ExceptionReporter
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks import encryption, secret_keys
from drf_webhooks.conf import Config, mistakes
from drf_webhooks.delivery.leases import Leased, Recipient
from drf_webhooks.delivery.results import Result
from drf_webhooks.delivery.transport import AiohttpTransport
from drf_webhooks.delivery.worker import Worker
from drf_webhooks.encryption import Stored, opened, seal
from drf_webhooks.exceptions import SecretError
from drf_webhooks.models import Attempt, Delivery, Endpoint, EndpointHealth
from drf_webhooks.receiver import verify
from drf_webhooks.rotation import rotate_secret
from drf_webhooks.secret_checks import check_encryption, check_secrets
from drf_webhooks.secret_keys import OldSecret
from drf_webhooks.testing import WebhookReceiver, deliver_now
from tests.delivery.test_worker import make_deliveries
from tests.management.test_commands import run

pytestmark = pytest.mark.django_db(transaction=True)

URL = "https://a.example/"
VALUE = "s3cret-value"
FIRST, SECOND = (Fernet.generate_key().decode() for _ in range(2))
HOME = {"ALLOWED_NETWORKS": ["127.0.0.0/8", "::1/128"]}


def keys(*chosen: str) -> Any:
    return override_settings(DRF_WEBHOOKS={**HOME, "ENCRYPTION_KEYS": list(chosen)})


@pytest.fixture
def encrypted() -> Iterator[None]:
    with keys(FIRST):
        yield


def make_endpoint(**fields: Any) -> Endpoint:
    return Endpoint.objects.create(
        **{"url": URL, "event_types": ["*"], "headers": {"X-Api-Key": VALUE}, **fields}
    )


def columns(endpoint: Endpoint) -> dict[str, str]:
    """What the database has, read without the models."""
    names = ("secret", "old_secrets", "headers")
    pk = Endpoint._meta.pk.get_db_prep_value(endpoint.pk, connection)
    with connection.cursor() as cursor:
        table = Endpoint._meta.db_table
        cursor.execute(f"SELECT {', '.join(names)} FROM {table} WHERE id = %s", [pk])  # noqa: S608  # our names
        return dict(zip(names, cursor.fetchone(), strict=True))


@given(st.text())
def test_what_is_sealed_can_be_opened(text: str) -> None:
    assert opened(seal(text)) == text
    with keys(FIRST, SECOND):
        sealed = seal(text)
        assert opened(sealed) == text
        assert sealed.is_encrypted is bool(text)
    with keys(SECOND, FIRST):
        assert opened(sealed) == text


def test_an_endpoint_keeps_nothing_in_clear(encrypted: None) -> None:
    endpoint = make_endpoint()
    rotate_secret(endpoint)

    for text in columns(endpoint).values():
        assert text.startswith(encryption.marks([FIRST])[0])
        assert VALUE not in text
        assert "whsec_" not in text
    read = Endpoint.objects.get(pk=endpoint.pk)
    assert read.secret == endpoint.secret
    assert read.headers == {"X-Api-Key": VALUE}
    assert len(read.old_secrets) == 1


def test_without_keys_and_before_them_rows_are_in_clear_and_readable() -> None:
    endpoint = make_endpoint()
    assert columns(endpoint)["secret"] == endpoint.secret

    with keys(FIRST):
        read = Endpoint.objects.get(pk=endpoint.pk)
        assert (read.secret, read.headers) == (endpoint.secret, endpoint.headers)
        read.secret = read.secret
        read.save()
        assert columns(endpoint)["secret"].startswith("fernet:")


def test_a_save_writes_back_no_secret_that_it_has_not_changed(encrypted: None) -> None:
    """F68: an old copy of a row does not undo a rotation."""
    endpoint = make_endpoint()
    old_copy = Endpoint.objects.get(pk=endpoint.pk)
    new = rotate_secret(endpoint)

    old_copy.description = "later"
    old_copy.save()

    read = Endpoint.objects.get(pk=endpoint.pk)
    assert (read.secret, read.description) == (new, "later")
    assert len(read.old_secrets) == 1


def test_headers_that_were_changed_in_place_are_saved(encrypted: None) -> None:
    endpoint = Endpoint.objects.get(pk=make_endpoint().pk)
    endpoint.headers["X-New"] = "n3w"
    endpoint.save()

    assert Endpoint.objects.get(pk=endpoint.pk).headers == {"X-Api-Key": VALUE, "X-New": "n3w"}


def test_an_endpoint_can_be_copied_and_pickled(encrypted: None) -> None:
    endpoint = Endpoint.objects.get(pk=make_endpoint().pk)
    copy = pickle.loads(pickle.dumps(endpoint))  # noqa: S301  # our own
    copy.pk = Endpoint().pk
    copy._state.adding = True
    copy.save()

    assert Endpoint.objects.get(pk=copy.pk).secret == endpoint.secret


def test_a_deferred_secret_is_read_when_it_is_asked_for(encrypted: None) -> None:
    endpoint = make_endpoint()
    bare = Endpoint.objects.only("url").get(pk=endpoint.pk)
    bare.url = "https://b.example/"
    bare.save()

    assert bare.secret == endpoint.secret
    assert bare.headers == endpoint.headers


def test_a_text_that_only_looks_encrypted_is_refused(encrypted: None) -> None:
    stolen = columns(make_endpoint())["secret"]

    for given_secret in (stolen, "fernet:", "fernet:a:b"):
        endpoint = Endpoint(url=URL, event_types=["*"], secret=given_secret)
        with pytest.raises(ValidationError, match="must be 'whsec_'"):
            endpoint.save()
        with pytest.raises(ValidationError):
            endpoint.full_clean(exclude=["owner"])


def test_f71_dumpdata_has_nothing_in_clear(encrypted: None, tmp_path: Path) -> None:
    endpoint = make_endpoint()
    rotate_secret(endpoint)
    with override_settings(DRF_WEBHOOKS=HOME):
        plain = make_endpoint()
    before = {each.pk: (each.secret, each.headers) for each in Endpoint.objects.all()}
    file = tmp_path / "dump.json"

    call_command("dumpdata", "drf_webhooks.endpoint", output=str(file))

    text = file.read_text()
    assert "whsec_" not in text
    assert VALUE not in text
    assert str(plain.pk) in text
    Endpoint.objects.all().delete()
    call_command("loaddata", str(file), stdout=StringIO())
    assert {each.pk: (each.secret, each.headers) for each in Endpoint.objects.all()} == before
    assert len(Endpoint.objects.get(pk=endpoint.pk).old_secrets) == 1


def test_without_keys_a_dump_has_them_as_the_database_has() -> None:
    endpoint = make_endpoint()
    rotate_secret(endpoint)

    (copied,) = deserialize("json", serialize("json", [endpoint]))

    assert vars(copied.object)["secret"] == endpoint.secret
    assert vars(copied.object)["old_secrets"] == endpoint.old_secrets
    copied.save()
    read = Endpoint.objects.get(pk=endpoint.pk)
    assert (read.secret, read.old_secrets) == (endpoint.secret, endpoint.old_secrets)


@pytest.mark.security
def test_f72_a_key_is_rotated_and_old_secrets_stay_readable() -> None:
    with keys(FIRST):
        endpoint = make_endpoint()
        first, secret = columns(endpoint), endpoint.secret
    with keys(SECOND, FIRST):
        assert Endpoint.objects.get(pk=endpoint.pk).secret == secret
        out, _ = run("webhooks_rotate_keys")
        assert out == "1 endpoints are encrypted with the first key.\n"
        assert columns(endpoint)["secret"] != first["secret"]
    with keys(SECOND):
        read = Endpoint.objects.get(pk=endpoint.pk)
        assert (read.secret, read.headers) == (secret, {"X-Api-Key": VALUE})


@pytest.mark.security
@pytest.mark.parametrize("left", [(), (SECOND,)], ids=["no key", "another key"])
def test_f72_without_its_key_a_secret_is_named_at_start_up(left: tuple[str, ...]) -> None:
    with keys(FIRST):
        make_endpoint()
    with keys(*left):
        (found,) = check_secrets(databases=["default"])
        assert found.id == "drf_webhooks.E301"
        assert "decrypts the secrets of 1 endpoints in the database 'default'" in found.msg
        with pytest.raises(CommandError, match="decrypts the secrets of 1 endpoints"):
            run("webhooks_worker", "--once")
        # Everything but the secret itself can be looked at and changed.
        lost = Endpoint.objects.get()
        lost.description = "found"
        lost.save()
        with pytest.raises(SecretError, match="was encrypted with the key"):
            lost.secret  # noqa: B018
        assert opened_count() == 1


def opened_count() -> int:
    return Endpoint.objects.filter(description="found").count()


@pytest.mark.security
def test_f72_a_delivery_without_its_key_waits_and_is_sent_when_it_is_back() -> None:
    with WebhookReceiver() as receiver:
        with keys(FIRST):
            endpoint = make_deliveries(1, receiver.url)
        with keys(SECOND):
            assert deliver_now() == 1
        assert not receiver.requests
        delivery = Delivery.objects.get()
        attempt = Attempt.objects.get()
        assert (delivery.state, attempt.error) == ("waiting", "secret_error")
        assert "was encrypted with the key" in attempt.detail
        # Not charged to the endpoint.
        assert not EndpointHealth.objects.filter(is_clean=False).exists()

        Delivery.objects.update(due_at=timezone.now() - timedelta(minutes=1))
        with keys(SECOND, FIRST):
            assert deliver_now() == 1

    (request,) = receiver.requests
    assert verify(request.body, request.headers, endpoint.secret)
    assert Delivery.objects.get().state == "delivered"


def test_headers_that_cannot_be_decrypted_put_a_delivery_off_too() -> None:
    endpoint = make_deliveries(1)
    with keys(FIRST):
        endpoint.headers = {"X-Api-Key": VALUE}
        endpoint.save(update_fields=["headers"])

    assert deliver_now() == 1

    assert Attempt.objects.get().error == "secret_error"


def test_messages_are_signed_with_encrypted_secrets_and_have_the_headers(encrypted: None) -> None:
    with WebhookReceiver() as receiver:
        endpoint = make_deliveries(2, receiver.url)
        endpoint.headers = {"X-Api-Key": VALUE}
        endpoint.save()
        assert deliver_now() == 2

    for request in receiver.requests:
        assert verify(request.body, request.headers, endpoint.secret)
        assert request.headers["x-api-key"] == VALUE


def test_a_secret_is_decrypted_once_and_not_for_each_claim(encrypted: None) -> None:
    with WebhookReceiver() as receiver:
        make_deliveries(5, receiver.url)
        encryption._opened.cache_clear()
        for _ in range(5):
            assert run("webhooks_worker", "--once")
        found = encryption._opened.cache_info()

    assert len(receiver.requests) == 5
    assert found.misses == 1
    assert found.maxsize is not None


def test_settings_name_a_key_that_is_none_without_showing_it() -> None:
    assert mistakes({"ENCRYPTION_KEYS": [FIRST, SECOND]}) == []
    assert mistakes({"ENCRYPTION_KEYS": [FIRST, "s3cret"]}) == [
        (
            "DRF_WEBHOOKS['ENCRYPTION_KEYS'][1] is no Fernet key, the base64 of 32 random bytes. "
            "Fernet.generate_key() of the package cryptography makes one."
        )
    ]
    for wrong in ([""], ["ä"], [FIRST[:-4]]):
        assert "is no Fernet key" in mistakes({"ENCRYPTION_KEYS": wrong})[0]
    assert mistakes({"ENCRYPTION_KEYS": FIRST}) == [
        "DRF_WEBHOOKS['ENCRYPTION_KEYS'] is of type str. It must be a list of str."
    ]
    assert FIRST not in repr(Config(ENCRYPTION_KEYS=(FIRST,)))


def test_checks_say_what_is_not_encrypted() -> None:
    make_endpoint()

    (warning,) = check_encryption()
    assert warning.id == "drf_webhooks.W301"
    assert check_secrets(databases=["default"]) == []
    with keys(FIRST):
        assert check_encryption() == []
        (warning,) = check_secrets(databases=["default"])
        assert warning.id == "drf_webhooks.W302"
        run("webhooks_rotate_keys")
        assert check_secrets(databases=["default"]) == []
        assert check_secrets() == []
    with override_settings(DRF_WEBHOOKS={"ENCRYPTION_KEY": []}):
        assert check_encryption() == check_secrets(databases=["default"]) == []


def test_a_database_that_fails_is_no_secret_that_is_lost() -> None:
    """Before the first migration there are no columns, and a server may be away for a moment."""

    def fail(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        if "LIKE" in sql:
            raise OperationalError
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        assert check_secrets(databases=["default"]) == []
        assert "Stopped after 0 attempts" in run("webhooks_worker", "--once")[1]


@pytest.mark.security
def test_f71_no_repr_shows_a_secret(encrypted: None) -> None:
    endpoint = make_endpoint()
    rotate_secret(endpoint)
    made = Leased(**dict.fromkeys(Leased.__dataclass_fields__))
    made.to = Recipient(**dict.fromkeys(Recipient.__dataclass_fields__))
    for name in ("secret", "old_secrets", "headers"):
        setattr(made.to, name, Stored(endpoint.secret))
    outcome = Result(made, datetime.now(tz=UTC), timedelta(0), Delivery.State.DEAD)
    row = Endpoint.objects.values().get()

    for shown in (endpoint, [endpoint], made, outcome, row, endpoint.old_secrets):
        for text in (repr(shown), str(shown)):
            assert endpoint.secret not in text
            assert endpoint.old_secrets[0].secret not in text
            assert VALUE not in text


@pytest.mark.security
def test_f71_no_error_mail_shows_a_secret(encrypted: None) -> None:
    """A defect while sending, in the report with all local variables that Django mails."""
    endpoint = make_deliveries(1)
    endpoint.headers = {"X-Api-Key": VALUE}
    endpoint.save()
    logger = logging.getLogger("drf_webhooks")
    handler = KeptMail(include_html=True)
    logger.addHandler(handler)
    try:
        # A transport that was not opened fails in the middle of everything.
        worker = Worker("default", housekeeping=lambda: 0, transport=AiohttpTransport(Config()))
        asyncio.run(worker.run(once=True))
    finally:
        logger.removeHandler(handler)

    key = secret_keys.decode(endpoint.secret)
    assert isinstance(key, bytes)
    (texts,) = handler.kept
    for text in texts:
        assert "The transport is not open" in text
        for hidden in (endpoint.secret, VALUE, repr(key), FIRST):
            assert hidden not in text
    assert "_sent" in texts[1]


class KeptMail(AdminEmailHandler):
    """Django's handler, which keeps a mail instead of sending it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kept: list[tuple[str, str]] = []

    def send_mail(self, subject: Any, message: Any, *args: Any, **kwargs: Any) -> None:
        self.kept.append((message, kwargs["html_message"]))


@pytest.mark.security
@pytest.mark.parametrize("at", ["save", "rotate", "decrypt"])
def test_f71_no_traceback_shows_a_secret(encrypted: None, at: str) -> None:
    """The report of Django's error page and mail, of what raises with a secret at hand."""
    endpoint = make_endpoint()
    broken = endpoint.secret[:-10]
    try:
        if at == "save":
            endpoint.secret = broken
            endpoint.save()
        elif at == "rotate":
            rotate_secret(endpoint, secret=broken)
        else:
            with keys(SECOND):
                rotate_secret(Endpoint.objects.get())
    except (ValidationError, ValueError, SecretError) as error:
        reporter = ExceptionReporter(None, type(error), error, error.__traceback__)
    frames = [
        frame for frame in reporter.get_traceback_frames() if "drf_webhooks" in frame["filename"]
    ]
    shown = repr(
        [
            (frame["function"], frame["vars"])
            for frame in frames
            if "/tests/" not in frame["filename"]
        ]
    )

    assert frames
    assert broken not in shown
    assert FIRST not in shown
    assert SECOND not in shown


def test_old_secrets_are_kept_in_text(encrypted: None) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    old = (OldSecret(secret_keys.generate(), at), OldSecret(secret_keys.generate("v1a"), at))
    endpoint = make_endpoint(old_secrets=old)

    assert Endpoint.objects.get(pk=endpoint.pk).old_secrets == old
    assert endpoint.old_secrets == old
    with override_settings(DRF_WEBHOOKS=HOME):
        plain = make_endpoint(old_secrets=list(old))
        assert json.loads(columns(plain)["old_secrets"])[0][1] == at.isoformat()


def test_rows_of_the_version_before_are_as_they_were() -> None:
    """The migration changes no row, forwards and backwards."""
    label = "drf_webhooks"
    before = [(label, "0009_fewer_indexes")]
    executor = MigrationExecutor(connection)
    leaves = [node for node in executor.loader.graph.leaf_nodes() if node[0] == label]
    try:
        executor.migrate(before)
        old = executor.loader.project_state(before).apps.get_model(label, "Endpoint")
        made = old.objects.create(url=URL, event_types=["*"], headers={"X-Api-Key": VALUE})
        secret = made.secret
        executor = MigrationExecutor(connection)
        executor.migrate(leaves)
        read = Endpoint.objects.get(pk=made.pk)
        assert (read.secret, read.headers) == (secret, {"X-Api-Key": VALUE})
        assert read.old_secrets == ()
        with keys(FIRST):
            run("webhooks_rotate_keys")
            run("webhooks_rotate_keys", "--decrypt")
        executor = MigrationExecutor(connection)
        executor.migrate(before)
        assert old.objects.get(pk=made.pk).secret == secret
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(leaves)

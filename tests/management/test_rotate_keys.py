"""``webhooks_rotate_keys``, and what ``webhooks_endpoint`` does to secrets, as one types it."""

from datetime import timedelta

import pytest
from django.core.management import CommandError
from django.test import override_settings
from django.utils import timezone

from drf_webhooks import secret_keys
from drf_webhooks.models import Endpoint
from drf_webhooks.resealing import reseal, to_reseal
from drf_webhooks.rotation import rotate_secret
from tests.management.test_commands import run
from tests.test_encryption import FIRST, HOME, SECOND, columns, keys, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


def test_all_secrets_are_encrypted_and_decrypted_again() -> None:
    made = [make_endpoint(headers={"X-A": "1"} if number % 2 else {}) for number in range(5)]
    rotate_secret(made[0])
    plain = {each.pk: columns(each) for each in made}

    with keys(FIRST):
        assert run("webhooks_rotate_keys", "--dry-run")[0] == (
            "5 endpoints would be encrypted with the first key.\n"
        )
        assert plain == {each.pk: columns(each) for each in made}
        out, _ = run("webhooks_rotate_keys", "--rate", "100000")
        assert out == "5 endpoints are encrypted with the first key.\n"
        for each in made:
            assert all(text == "" or text.startswith("fernet:") for text in columns(each).values())
        assert run("webhooks_rotate_keys")[0].startswith("0 endpoints")
        assert run("webhooks_rotate_keys", "--decrypt")[0] == "5 endpoints are decrypted.\n"
        assert plain == {each.pk: columns(each) for each in made}


def test_broken_off_it_goes_on_where_it_was() -> None:
    for _ in range(5):
        make_endpoint()
    with keys(FIRST):
        first = next(reseal("default", size=2))
        assert (first.written, to_reseal("default").count()) == (2, 3)

        assert run("webhooks_rotate_keys")[0].startswith("3 endpoints")


def test_a_batch_is_as_large_as_it_is_said() -> None:
    for _ in range(5):
        make_endpoint()
    with keys(FIRST):
        assert [each.looked_at for each in reseal("default", size=2)] == [2, 2, 1]


def test_what_nobody_can_decrypt_is_named_and_the_rest_done() -> None:
    with keys(FIRST):
        lost = make_endpoint()
    plain = make_endpoint()
    with keys(SECOND):
        with pytest.raises(CommandError, match=f"of 1 endpoints: {lost.pk}"):
            run("webhooks_rotate_keys")
        assert columns(plain)["secret"].startswith("fernet:")
        run("webhooks_endpoint", "rotate", str(lost.pk), "--replace", "--signature", "v1")
        with pytest.raises(CommandError):
            # Its headers are lost too, and nobody can make them again.
            run("webhooks_rotate_keys")
        mended = Endpoint.objects.get(pk=lost.pk)
        mended.headers = {}
        mended.save()
        run("webhooks_rotate_keys")


def test_without_keys_there_is_nothing_to_do() -> None:
    with override_settings(DRF_WEBHOOKS=HOME), pytest.raises(CommandError, match="is empty"):
        run("webhooks_rotate_keys")


def test_a_secret_is_rotated_and_shown_once() -> None:
    endpoint = make_endpoint()
    old, pk = endpoint.secret, str(endpoint.pk)

    out, err = run("webhooks_endpoint", "rotate", pk, "--overlap", "2h")

    endpoint.refresh_from_db()
    (kept,) = endpoint.old_secrets
    assert endpoint.secret != old == kept.secret
    assert f"old secret valid until {kept.expires_at:%Y-%m-%d %H:%M:%S} UTC\n" in out
    assert abs(kept.expires_at - timezone.now() - timedelta(hours=2)) < timedelta(minutes=1)
    assert f"secret  {endpoint.secret}\n" in out
    assert old not in out
    assert "shown this once" in err
    assert run("webhooks_endpoint", "revoke", pk)[0] == "1 old secrets are revoked.\n"
    assert endpoint.secret not in run("webhooks_endpoint", "list")[0]


def test_of_an_ed25519_key_only_the_public_half_is_shown() -> None:
    out, err = run(
        "webhooks_endpoint", "add", "https://a.example/", "--events", "*", "--signature", "v1a"
    )

    made = Endpoint.objects.get()
    assert f"public  {made.public_key}\n" in out
    assert "whsk_" not in out + err
    out, _ = run("webhooks_endpoint", "rotate", str(made.pk), "--replace")
    made.refresh_from_db()
    assert (made.signature, made.old_secrets) == ("v1a", ())
    assert f"public  {made.public_key}\n" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--overlap", "8d"], "must be 0 to 7 days"),
        (["--secret", "abc"], "must be 'whsec_'"),
        (["--overlap", "x"], "is no length of time"),
        (["--secret", secret_keys.generate(), "--signature", "v1"], "not allowed with"),
        (["--overlap", "1h", "--replace"], "not allowed with"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    endpoint = make_endpoint()

    with pytest.raises(CommandError, match=said):
        run("webhooks_endpoint", "rotate", str(endpoint.pk), *arguments)


def test_secrets_that_cannot_be_decrypted_are_not_revoked() -> None:
    with keys(FIRST):
        endpoint = make_endpoint()
        rotate_secret(endpoint)
    with keys(SECOND), pytest.raises(CommandError, match="was encrypted with the key"):
        run("webhooks_endpoint", "revoke", str(endpoint.pk))

"""Keys in their text form, and the signatures that they make."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from drf_webhooks import secret_keys
from drf_webhooks.delivery.signing import sign

SEED = bytes(range(32))
KEY = Ed25519PrivateKey.from_private_bytes(SEED)
PUBLIC = KEY.public_key().public_bytes_raw()
WHSK = "whsk_" + base64.b64encode(SEED + PUBLIC).decode()
WHPK = "whpk_" + base64.b64encode(PUBLIC).decode()


@given(st.binary(min_size=24, max_size=64))
def test_a_symmetric_key_is_read_as_it_was_written(key: bytes) -> None:
    text = "whsec_" + base64.b64encode(key).decode()

    assert secret_keys.decode(text) == key
    assert secret_keys.public_key(text) is None


def test_an_ed25519_key_has_a_public_half() -> None:
    assert secret_keys.public_key(WHSK) == WHPK
    assert secret_keys.decode_public(WHPK).public_bytes_raw() == PUBLIC


def test_keys_that_are_made_can_be_read() -> None:
    assert secret_keys.generate().startswith("whsec_")
    made = secret_keys.generate("v1a")
    assert made.startswith("whsk_")
    assert secret_keys.public_key(made) is not None
    with pytest.raises(ValueError, match=r"The signature is 'v2'\. It must be 'v1'"):
        secret_keys.generate("v2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("whsk_" + base64.b64encode(SEED).decode(), "has 32 bytes.", id="seed alone"),
        pytest.param(
            "whsk_" + base64.b64encode(SEED + SEED).decode(),
            "do not belong together",
            id="another public half",
        ),
        pytest.param("whsk_%%%", "has 0 bytes", id="no base64"),
        pytest.param("whsk_ä", "has 0 bytes", id="not ascii"),
        pytest.param(WHPK, "must be 'whsec_'", id="a public key"),
    ],
)
def test_what_is_no_secret_is_refused_without_showing_it(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        secret_keys.decode(text)

    assert text not in str(refused.value)


@pytest.mark.parametrize("text", ["", "whpk_", WHSK, WHPK[5:], WHPK[:-8], "whpk_ä"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="A public key is 'whpk_'"):
        secret_keys.decode_public(text)


@given(st.binary(max_size=200))
def test_f67_an_asymmetric_signature_is_that_of_the_signed_content(body: bytes) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    header = sign(secret_keys.decode(WHSK), event_id="evt_1", sent_at=at, body=body)

    version, _, text = header.partition(",")
    signed = b"evt_1.%d." % int(at.timestamp()) + body
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(base64.b64decode(text), signed)
    assert version == "v1a"
    with pytest.raises(InvalidSignature):
        KEY.public_key().verify(base64.b64decode(text), signed + b" ")


def test_the_repr_of_an_old_secret_shows_none() -> None:
    old = secret_keys.OldSecret(WHSK, datetime(2026, 1, 2, tzinfo=UTC))

    assert WHSK not in repr(old)

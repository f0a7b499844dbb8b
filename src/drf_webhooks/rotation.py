"""Replace the secret of an endpoint, with or without an overlap, and show it to who may see it."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.views.decorators.debug import sensitive_variables

from drf_webhooks import secret_keys
from drf_webhooks.clock import database_now
from drf_webhooks.encryption import Stored, opened, seal
from drf_webhooks.exceptions import RotationError
from drf_webhooks.fields import OldSecretsField, read_old_secrets
from drf_webhooks.models import Endpoint
from drf_webhooks.secret_keys import OldSecret, Signature

__all__ = [
    "LONGEST_OVERLAP",
    "MOST_OLD_SECRETS",
    "OVERLAP",
    "replace_secret",
    "reveal_secret",
    "revoke_old_secrets",
    "rotate_secret",
]

logger = logging.getLogger(__name__)

#: How long messages are signed with the secret before too.
OVERLAP = timedelta(hours=24)
LONGEST_OVERLAP = timedelta(days=7)
#: So many secrets of before may be valid at once: each is a signature in every message.
MOST_OLD_SECRETS = 5

#: How often a row is read again that somebody else has changed in between.
_TRIES = 3
_PERMISSION = "drf_webhooks.reveal_secret"


@sensitive_variables()
def rotate_secret(
    endpoint: Endpoint,
    *,
    overlap: timedelta = OVERLAP,
    secret: str | None = None,
    signature: Signature | None = None,
    using: str = "default",
    now: datetime | None = None,
) -> str:
    """Give an endpoint a new secret, and return it.

    Until the overlap is over its messages carry a signature by the old one too. Of two callers
    at the same time one wins; the other is told, and the secret that it made is never used.

    Args:
        endpoint: As it was read: whose secret is not the one in the database has lost.
        overlap: 0 to 7 days. With 0 the old secret is not used any more; those from before
            stay valid for as long as it was said.
        secret: The new one; by default one is made.
        signature: How to sign with one that is made; by default as before.
        using: The database.
        now: By default, what the database's clock says.

    Raises:
        RotationError: it was replaced meanwhile, or 5 old ones are still valid; then
            ``possible_at`` says until when.
        SecretError: the old ones cannot be decrypted.
        ValueError: the overlap or the secret is none.

    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        msg = f"The overlap is {overlap}. It must be 0 to {LONGEST_OVERLAP.days} days."
        raise ValueError(msg)
    held, kind = endpoint.secret, endpoint.signature
    new = _new(secret, signature or kind)
    if new == held:
        msg = "The new secret is the present one. Leave it out to have one made."
        raise ValueError(msg)
    for _ in range(_TRIES):
        row = _row(endpoint, using)
        if row is None or opened(row[0]) != held:
            break
        at = now or database_now(using)
        valid = _valid(row[1], at)
        if overlap:
            if len(valid) >= MOST_OLD_SECRETS:
                raise _too_many(endpoint, valid)
            valid.append(OldSecret(held, at + overlap))
        if _store(endpoint, row, new, valid, using):
            _log(endpoint, valid)
            return new
    msg = (
        f"The secret of endpoint {endpoint.pk} was changed by somebody else meanwhile. Read the "
        "endpoint again, and see whether it still has to be replaced."
    )
    raise RotationError(msg)


@sensitive_variables()
def replace_secret(
    endpoint: Endpoint,
    *,
    secret: str | None = None,
    signature: Signature | None = None,
    using: str = "default",
) -> str:
    """Give an endpoint a new secret at once, forget all old ones, and return it.

    For a secret that others know, and an endpoint that gets another owner. Whatever another
    process does at the same time, no secret of before is left. Needs none of them to be readable.

    Args:
        endpoint: Its ``secret`` and ``old_secrets`` are set too.
        secret: The new one; by default one is made.
        signature: How to sign with one that is made; by default as before, or by ``"v1"`` if
            what there was cannot be read.
        using: The database.

    Raises:
        SecretError: no ``signature`` is given, and the present secret cannot be decrypted.
        ValueError: the secret is none.

    """
    if secret is None and signature is None:
        signature = endpoint.signature
    new = _new(secret, signature or "v1")
    stored = seal(new)
    Endpoint.objects.using(using).filter(pk=endpoint.pk).update(secret=stored, old_secrets=())
    _set(endpoint, stored, Stored(""))
    _log(endpoint, [])
    return new


@sensitive_variables()
def revoke_old_secrets(endpoint: Endpoint, *, using: str = "default") -> int:
    """End every overlap now, and return how many old secrets were still valid.

    A message that a worker holds already may still be signed with them, for ``LEASE`` at most.

    Raises:
        RotationError: the secrets are being changed by others.
        SecretError: the old ones cannot be decrypted; :func:`replace_secret` can do without.

    """
    for _ in range(_TRIES):
        row = _row(endpoint, using)
        if row is None:
            return 0
        count = len(_valid(row[1], database_now(using)))
        if not row[1].text or _store(endpoint, row, None, [], using):
            logger.info("Endpoint %s: %d old secrets are revoked.", endpoint.pk, count)
            return count
    msg = f"The secrets of endpoint {endpoint.pk} are being changed by others. Try it again."
    raise RotationError(msg)


@sensitive_variables()
def reveal_secret(endpoint: Endpoint, user: Any) -> str:
    """Return the secret of an endpoint for a user who may see it, and log that.

    Raises:
        PermissionDenied: the user has not the permission ``drf_webhooks.reveal_secret``.
        SecretError: it cannot be decrypted.

    """
    if not user.has_perm(_PERMISSION):
        logger.warning("Endpoint %s: user %s may not see the secret.", endpoint.pk, user.pk)
        msg = f"To see the secret of an endpoint takes the permission {_PERMISSION}."
        raise PermissionDenied(msg)
    secret: str = endpoint.secret
    logger.info("Endpoint %s: the secret was shown to user %s.", endpoint.pk, user.pk)
    return secret


def _new(secret: str | None, signature: Signature) -> str:
    if secret is None:
        return secret_keys.generate(signature)
    secret_keys.decode(secret)
    return secret


def _row(endpoint: Endpoint, using: str) -> tuple[Stored, Stored] | None:
    rows = Endpoint.objects.using(using).filter(pk=endpoint.pk)
    found: tuple[Any, Any] | None = rows.values_list("secret", "old_secrets").first()
    return found


def _valid(stored: Stored, at: datetime) -> list[OldSecret]:
    return [each for each in read_old_secrets(opened(stored)) if at < each.expires_at]


def _store(
    endpoint: Endpoint,
    before: tuple[Stored, Stored],
    new: str | None,
    valid: Sequence[OldSecret],
    using: str,
) -> bool:
    """Write the secrets unless the row has others than were read, and tell whether it had not."""
    secret = before[0] if new is None else seal(new)
    old_secrets = seal(_text(valid))
    # In text, as it was read: encrypted anew by another process, it is another one.
    unchanged = Endpoint.objects.using(using).filter(
        pk=endpoint.pk, secret=before[0], old_secrets=before[1]
    )
    is_stored = unchanged.update(secret=secret, old_secrets=old_secrets) == 1
    if is_stored:
        _set(endpoint, secret, old_secrets)
    return is_stored


def _text(valid: Sequence[OldSecret]) -> str:
    field = Endpoint._meta.get_field("old_secrets")
    assert isinstance(field, OldSecretsField)  # noqa: S101  # for the types only
    return field.written(valid)


def _set(endpoint: Endpoint, secret: Stored, old_secrets: Stored) -> None:
    # As if it had just been read.
    vars(endpoint).update(secret=secret, old_secrets=old_secrets)


def _too_many(endpoint: Endpoint, valid: Sequence[OldSecret]) -> RotationError:
    first = min(each.expires_at for each in valid)
    msg = (
        f"Endpoint {endpoint.pk} has {len(valid)} old secrets that are still valid, and may have "
        f"{MOST_OLD_SECRETS}. The first of them expires at {first:%Y-%m-%d %H:%M:%S} UTC. Wait "
        "until then, or revoke them."
    )
    return RotationError(msg, possible_at=first)


def _log(endpoint: Endpoint, valid: Sequence[OldSecret]) -> None:
    until = max((each.expires_at for each in valid), default=None)
    if until is None:
        logger.info("Endpoint %s has a new secret, and no old one is valid.", endpoint.pk)
    else:
        logger.info(
            "Endpoint %s has a new secret; %d old ones are valid, the last until %s.",
            endpoint.pk,
            len(valid),
            until,
        )

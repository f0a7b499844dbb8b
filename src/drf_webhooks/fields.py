"""Column types that keep one meaning on every database."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.query_utils import DeferredAttribute
from django.views.decorators.debug import sensitive_variables

from drf_webhooks import custom_headers, event_types
from drf_webhooks.encryption import Stored, opened, seal
from drf_webhooks.secret_keys import OldSecret

__all__ = [
    "EventTypesField",
    "ExactCharField",
    "HeadersField",
    "HeadersFormField",
    "OldSecretsField",
    "SealedField",
    "SecretField",
    "read_old_secrets",
]


class ExactCharField(models.CharField):  # type: ignore[type-arg]  # django-stubs: parameters are for its descriptors only
    """Text that compares byte by byte, on MariaDB and MySQL too."""

    def db_type(self, connection: Any) -> str | None:
        kind = super().db_type(connection)
        if kind is not None and connection.vendor == "mysql":
            return f"{kind} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return kind


class EventTypesFormField(forms.CharField):
    """The patterns as a person writes them: one a line, or with spaces or commas between."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str | None) else "\n".join(value)


class EventTypesField(models.Field):  # type: ignore[type-arg]  # as above
    """A list of event-type patterns, ``core.deposit.created`` or ``core.*``.

    Stored as one text with a space around each pattern, so that every database can ask
    for one with a substring search inside the fan-out's single statement.
    """

    # How django-stubs learns what an attribute of a custom field holds.
    _pyi_private_set_type: list[str]
    _pyi_private_get_type: list[str]

    def get_internal_type(self) -> str:
        return "TextField"

    def db_type(self, connection: Any) -> str | None:
        kind = super().db_type(connection)
        if kind is not None and connection.vendor == "mysql":
            return f"{kind} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return kind

    def from_db_value(self, value: str | None, *_: object) -> list[str] | None:
        return None if value is None else value.split()

    def to_python(self, value: Any) -> list[str]:
        if isinstance(value, str):
            return value.replace(",", " ").split()
        return list(value or ())

    def get_prep_value(self, value: Any) -> Any:
        patterns = self.to_python(value)
        for pattern in patterns:
            if not isinstance(pattern, str) or not event_types.is_pattern(pattern):
                raise ValidationError(event_types.refusal(pattern))
        return f" {' '.join(patterns)} " if patterns else ""

    def value_to_string(self, obj: models.Model) -> str:
        return " ".join(self.value_from_object(obj))

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": EventTypesFormField, **kwargs})

    def validate(self, value: Iterable[str], model_instance: models.Model | None) -> None:
        wrong = [pattern for pattern in value if not event_types.is_pattern(pattern)]
        if wrong:
            raise ValidationError([event_types.refusal(pattern) for pattern in wrong])
        super().validate(value, model_instance)


class HeadersFormField(forms.CharField):
    """Headers as a person writes them, ``X-Api-Key: value``, one a line. Values are not shown.

    A value that is left masked stays what it was.
    """

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return custom_headers.masked(value) if isinstance(value, Mapping) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        # Browsers end lines in their own way.
        written = None if data is None else data.replace("\r\n", "\n")
        return super().has_changed(self.prepare_value(initial), written)

    def kept(self, text: str, before: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of a text, with the values that stand behind its masks.

        Raises:
            ValidationError: a line is no header, or a mask has nothing behind it.

        """
        headers = custom_headers.parse(text)
        for name, value in headers.items():
            if value == custom_headers.MASK:
                if name not in before:
                    msg = f"The header {name!r} has no value yet. Write one."
                    raise ValidationError(msg)
                headers[name] = before[name]
        return headers


class Sealed(DeferredAttribute):
    """A secret of an instance: decrypted when it is asked for, and not before.

    So that rows can be listed, counted and deleted whose secrets nobody can read.
    """

    field: "SealedField"

    def __get__(self, instance: models.Model | None, cls: Any = None) -> Any:
        value = super().__get__(instance, cls)
        if instance is None or not isinstance(value, Stored):
            return value
        read = self.field.read(opened(value))
        if self.field.is_mutable:
            # What is changed in it is to be saved.
            instance.__dict__[self.field.attname] = read
        return read

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class SealedField(models.Field):  # type: ignore[type-arg]  # as above
    """A column whose text is encrypted by ``ENCRYPTION_KEYS``.

    A query for its values gives :class:`~drf_webhooks.encryption.Stored`, an instance the
    values themselves. What an instance has not changed it never writes back, so that an old
    copy of a row cannot undo a rotation.
    """

    descriptor_class = Sealed
    #: Whether a value may be changed in place.
    is_mutable = False

    def read(self, text: str) -> Any:
        """Return the value of a text in clear."""
        return text

    def written(self, value: Any) -> str:
        """Return the text of a value, in clear."""
        return str(value)

    def stored(self, instance: models.Model) -> Stored:
        """Return what the column holds, or is about to."""
        value = instance.__dict__.get(self.attname)
        if isinstance(value, Stored):
            return value
        return seal(self.written(getattr(instance, self.attname)))

    def is_unchanged(self, instance: models.Model) -> bool:
        """Tell whether an instance has what was read from the database, or nothing yet."""
        value = instance.__dict__.get(self.attname)
        return value is None or isinstance(value, Stored)

    def from_db_value(self, value: str | None, *_: object) -> Stored | None:
        return None if value is None else Stored(value)

    def to_python(self, value: Any) -> Any:
        """Read what :meth:`value_to_string` has written."""
        if not isinstance(value, str):
            return value
        stored = Stored(value)
        return stored if stored.is_encrypted else self.read(value)

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Stored):
            return value.text
        return None if value is None else seal(self.written(value)).text

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        if not self.is_unchanged(model_instance):
            return super().pre_save(model_instance, add)
        return self.stored(model_instance) if add else models.F(self.attname)

    def value_to_string(self, obj: models.Model) -> str:
        stored = self.stored(obj)
        # With keys nothing leaves in clear, not even what is stored so still.
        return stored.text if stored.is_encrypted else seal(stored.text).text


class SecretField(SealedField, ExactCharField):
    """A secret, and the text of its key."""

    _pyi_private_set_type: str
    _pyi_private_get_type: str

    def run_validators(self, value: Any) -> None:
        # What a form or an API is given is a key, and not what the database makes of it.
        super().run_validators(value.text if isinstance(value, Stored) else value)

    def value_from_object(self, obj: models.Model) -> Any:
        """Return what serializers look at before they ask for the text."""
        return self.stored(obj)


class OldSecretsField(SealedField):
    """The secrets before this one, the oldest first; nothing for none."""

    _pyi_private_set_type: Sequence[OldSecret]
    _pyi_private_get_type: tuple[OldSecret, ...]

    def get_internal_type(self) -> str:
        return "TextField"

    def read(self, text: str) -> tuple[OldSecret, ...]:
        return read_old_secrets(text)

    def written(self, value: Any) -> str:
        pairs = [[each.secret, each.expires_at.isoformat()] for each in value]
        return json.dumps(pairs) if pairs else ""

    def value_from_object(self, obj: models.Model) -> Any:
        """Return what serializers look at before they ask for the text."""
        return self.stored(obj)


@lru_cache(maxsize=1024)
@sensitive_variables()
def read_old_secrets(text: str) -> tuple[OldSecret, ...]:
    """Read the text of :class:`OldSecretsField`, decrypted."""
    pairs = json.loads(text) if text else []
    return tuple(OldSecret(secret, datetime.fromisoformat(at)) for secret, at in pairs)


class HeadersField(SealedField):
    """Custom headers by name, stored as JSON text; nothing for none."""

    _pyi_private_set_type: Mapping[str, str]
    _pyi_private_get_type: dict[str, str]

    is_mutable = True

    def get_internal_type(self) -> str:
        return "TextField"

    def read(self, text: str) -> dict[str, str]:
        return json.loads(text) if text else {}

    def written(self, value: Any) -> str:
        if not isinstance(value, Mapping):
            # The default in the database, or a text as the column has it.
            return str(value)
        return json.dumps(dict(value)) if value else ""

    def formfield(self, **kwargs: Any) -> Any:
        # The hidden copy that Django makes for a default that is called: none was unchanged.
        chosen = {"form_class": HeadersFormField, "show_hidden_initial": False}
        return super().formfield(**{**chosen, **kwargs})

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        custom_headers.validate(value)
        super().validate(value, model_instance)

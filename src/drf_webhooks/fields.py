"""Column types that keep one meaning on every database."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

from drf_webhooks import custom_headers, event_types

__all__ = ["EventTypesField", "ExactCharField", "HeadersField", "HeadersFormField"]


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


class HeadersField(models.Field):  # type: ignore[type-arg]  # as above
    """Custom headers by name, stored as JSON text; nothing for none."""

    _pyi_private_set_type: Mapping[str, str]
    _pyi_private_get_type: dict[str, str]

    def get_internal_type(self) -> str:
        return "TextField"

    def from_db_value(self, value: str | None, *_: object) -> dict[str, str]:
        return json.loads(value) if value else {}

    def to_python(self, value: Any) -> Any:
        """Read a dict, or what :meth:`value_to_string` has written."""
        return (json.loads(value) if value else {}) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            # The default in the database, or a text as the column has it.
            return value
        return json.dumps(dict(value)) if value else ""

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.get_prep_value(self.value_from_object(obj)))

    def formfield(self, **kwargs: Any) -> Any:
        # The hidden copy that Django makes for a default that is called: none was unchanged.
        chosen = {"form_class": HeadersFormField, "show_hidden_initial": False}
        return super().formfield(**{**chosen, **kwargs})

    def validate(self, value: Any, model_instance: models.Model | None) -> None:
        custom_headers.validate(value)
        super().validate(value, model_instance)

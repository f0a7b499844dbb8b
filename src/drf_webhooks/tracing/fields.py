"""Give the fields of a serializer, without making those that only name a column.

Most fields of most serializers are made by DRF from the model: validators, labels, choices.
None of that matters here, and it is most of the time that start-up takes.
"""

import copy
from collections.abc import Iterator
from typing import Any

from django.db.models import Model
from rest_framework import serializers

__all__ = ["declared_fields", "plain_names"]

#: What decides which fields there are and what they read. Who overrides one is asked for all.
_DECIDES = (
    "__init__",
    "_readable_fields",
    "build_field",
    "build_property_field",
    "build_relational_field",
    "build_standard_field",
    "fields",
    "get_default_field_names",
    "get_extra_kwargs",
    "get_field_names",
    "get_fields",
    "include_extra_kwargs",
    "serializer_field_mapping",
    "serializer_related_field",
)


def plain_names(serializer: Any, model: type[Model]) -> list[str] | None:
    """Return the fields that DRF makes from attributes of the model, by name.

    ``None`` if that cannot be told without making them.
    """
    own = type(serializer)
    if any(
        getattr(own, name, None) is not getattr(serializers.ModelSerializer, name)
        for name in _DECIDES
        if hasattr(serializers.ModelSerializer, name)
    ):
        return None
    meta = own.Meta
    names, declared = getattr(meta, "fields", None), own._declared_fields
    if not isinstance(names, list | tuple) or getattr(meta, "depth", None):
        return None
    options = getattr(meta, "extra_kwargs", {}).values()
    if any("write_only" in each or "source" in each for each in options):
        return None
    plain = [name for name in names if name not in declared]
    is_known = set(declared) <= set(names) and meta.model._meta.concrete_model is (
        model._meta.concrete_model
    )
    return plain if is_known and all(hasattr(meta.model, name) for name in plain) else None


def declared_fields(serializer: Any) -> Iterator[Any]:
    """Give the fields that the class declares, bound to the serializer."""
    for name, each in type(serializer)._declared_fields.items():
        bound = copy.deepcopy(each)
        bound.bind(name, serializer)
        yield bound

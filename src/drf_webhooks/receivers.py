"""Receivers of model signals, connected to monitored models only."""

import functools
from collections.abc import Callable
from typing import Any, cast

from django.db import connections, router, transaction
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from drf_webhooks import session
from drf_webhooks.changes import Operation
from drf_webhooks.conf import config
from drf_webhooks.models import Endpoint
from drf_webhooks.pipeline import is_wanted
from drf_webhooks.questions import BeforeWrite
from drf_webhooks.registry import registry
from drf_webhooks.tracing.paths import Link, Path, index
from drf_webhooks.transactions import log_of

__all__ = ["connect"]

_UID = "drf_webhooks"
_connected: set[type[Model]] = set()
_links: set[type[Model]] = set()


def connect() -> None:
    """Watch the models that declared resources read, and no others."""
    for signal in (post_save, post_delete):
        signal.connect(_endpoint_changed, sender=Endpoint, dispatch_uid=_UID)
    _reconnect()
    registry.listen(_reconnect)


def _reconnect() -> None:
    senders, throughs = index().senders, set(index().links)
    for model in _connected - senders:
        for signal, receiver in _RECEIVERS:
            signal.disconnect(receiver, sender=model, dispatch_uid=_UID)
        _unprotect(model)
    for model in senders - _connected:
        for signal, receiver in _RECEIVERS:
            signal.connect(receiver, sender=model, dispatch_uid=_UID)
        _protect(model)
    for through in _links - throughs:
        m2m_changed.disconnect(_m2m_changed, sender=through, dispatch_uid=_UID)
    for through in throughs - _links:
        m2m_changed.connect(_m2m_changed, sender=through, dispatch_uid=_UID)
    _connected.clear()
    _connected.update(senders)
    _links.clear()
    _links.update(throughs)


def _protect(model: type[Model]) -> None:
    """Give each save a transaction, so that the row and its event are stored together.

    In autocommit Django commits the row before it sends ``post_save``.
    """
    if "save_base" in model.__dict__ or model._meta.proxy:
        return
    original = model.save_base

    @functools.wraps(original)
    def save_base(self: Model, *args: Any, **kwargs: Any) -> None:
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        if not session.is_recording():
            original(self, *args, **kwargs)
            return
        connection = connections[using]
        if connection.in_atomic_block or not connection.get_autocommit():
            original(self, *args, **kwargs)
            log_of(using).end_test_unit()
        else:
            with transaction.atomic(using=using):
                original(self, *args, **kwargs)

    save_base._drf_webhooks_original = original  # type: ignore[attr-defined]  # how _unprotect knows it
    model.save_base = save_base  # type: ignore[method-assign]  # see the docstring


def _unprotect(model: type[Model]) -> None:
    if hasattr(model.__dict__.get("save_base"), "_drf_webhooks_original"):
        del model.save_base


def _pre_save(
    sender: type[Model],
    instance: Any,
    *,
    raw: bool,
    using: str,
    update_fields: frozenset[str] | None,
    **_: Any,
) -> None:
    if instance.pk is None or not _is_noted(raw=raw):
        return
    columns = _columns(sender, update_fields)
    for model, pk in _rows(sender, instance):
        for path in index().nested.get(model, ()):
            if path.moves(columns):
                _ask(path, [pk], using)


def _post_save(
    sender: type[Model],
    instance: Any,
    *,
    created: bool,
    raw: bool,
    using: str,
    update_fields: frozenset[str] | None,
    **_: Any,
) -> None:
    if not _is_noted(raw=raw):
        return
    changes = session.changes_now(using)
    columns = _columns(sender, update_fields)
    operation = Operation.CREATED if created else Operation.UPDATED
    own = sender._meta.concrete_model
    for model, pk in _rows(sender, instance):
        for resource in index().bases.get(model, ()):
            path = index().base_path(resource)
            if session.is_disabled(resource) or not (created or path.concerns(columns)):
                continue
            if _is_ancestor_of(own, model):
                # A row of the parent's table alone: the child's may not exist.
                changes.note_nested(path, [pk])
            else:
                changes.note_base(resource, pk, operation)
        for path in index().nested.get(model, ()):
            if path.concerns(columns) and not session.is_disabled(path.resource):
                changes.note_nested(path, [pk])


def _pre_delete(sender: type[Model], instance: Any, *, using: str, **_: Any) -> None:
    if not session.is_recording():
        return
    changes = session.changes_now(using)
    own: Any = sender._meta.concrete_model
    for resource in index().bases.get(own, ()):
        if session.is_disabled(resource):
            continue
        noted = changes.note_base(resource, instance.pk, Operation.DELETED)
        needs_row = resource.is_scoped() or resource.deleted_payload == "full"
        if needs_row and is_wanted(resource, using, session.interest_now(using)):
            _questions(using).owned(resource, noted)
    for path in index().nested.get(own, ()):
        _ask(path, [instance.pk], using)


def _m2m_changed(
    sender: type[Model],
    instance: Any,
    *,
    action: str,
    reverse: bool,
    using: str,
    pk_set: set[Any] | None = None,
    raw: bool = False,
    **_: Any,
) -> None:
    if not _is_noted(raw=raw):
        return
    for link in index().links.get(sender, ()):
        if session.is_disabled(link.near.resource):
            continue
        is_near = link.is_near_source is not reverse
        if link.is_symmetrical:
            _note_rows(link, {instance.pk, *(pk_set or ())}, using)
        elif is_near:
            _note_rows(link, {instance.pk}, using)
        elif pk_set is not None:
            _note_rows(link, pk_set, using)
        if action == "pre_clear" and (link.is_symmetrical or not is_near):
            _ask(link.far, [instance.pk], using)


def _note_rows(link: Link, pks: set[Any], using: str) -> None:
    session.changes_now(using).note_nested(link.near, pks)


def _endpoint_changed(*, using: str, **_: Any) -> None:
    session.forget_interest(using)


def _is_noted(*, raw: bool) -> bool:
    return session.is_recording() and (not raw or config().RECORD_RAW)


def _ask(path: Path, pks: list[Any], using: str) -> None:
    """Ask before the next write which base objects some rows hang under."""
    if session.is_disabled(path.resource):
        return
    changes = session.changes_now(using)
    if is_wanted(path.resource, using, session.interest_now(using)):
        _questions(using).above(path, pks, changes)


def _questions(using: str) -> BeforeWrite:
    return cast("BeforeWrite", log_of(using).ask(lambda: BeforeWrite(using)))


def _rows(sender: type[Model], instance: Any) -> list[tuple[type[Model], Any]]:
    """Return each table whose row a save writes or alters, with the row's key.

    Saving a child writes its parents' rows without a signal for them, and a parent's row is
    a part of its children.
    """
    concrete: Any = sender._meta.concrete_model
    rows = [(concrete, instance.pk)]
    for parent in concrete._meta.all_parents:
        link = concrete._meta.get_ancestor_link(parent)
        pk = getattr(instance, link.attname, instance.pk) if link is not None else instance.pk
        rows.append((parent, pk))
    watched = {*index().bases, *index().nested}
    rows += [
        (model, instance.pk)
        for model in watched
        if model is not concrete and _is_ancestor_of(concrete, model)
    ]
    return rows


def _is_ancestor_of(ancestor: Any, model: type[Model]) -> bool:
    return ancestor is not model and issubclass(model, ancestor)


def _columns(sender: type[Model], update_fields: frozenset[str] | None) -> frozenset[str] | None:
    """Return the attribute names of saved columns: Django takes ``tenant`` and ``tenant_id``."""
    if update_fields is None:
        return None
    return frozenset(sender._meta.get_field(name).attname for name in update_fields)  # type: ignore[union-attr]  # only columns can be saved


_RECEIVERS: tuple[tuple[Any, Callable[..., None]], ...] = (
    (pre_save, _pre_save),
    (post_save, _post_save),
    (pre_delete, _pre_delete),
)

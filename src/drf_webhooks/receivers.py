"""Receivers of model signals, connected to monitored models only."""

import functools
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import router
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from drf_webhooks import bulk, noticing, session
from drf_webhooks.conf import config
from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.tracing.index import concrete, index
from drf_webhooks.tracing.learnt import learnt
from drf_webhooks.transactions import unit

__all__ = ["connect"]

_UID = "drf_webhooks"
_connected: set[type[Model]] = set()
_links: set[type[Model]] = set()
_lock = threading.RLock()


def connect() -> None:
    """Watch the models that declared resources read, and no others."""
    for signal in (post_save, post_delete):
        signal.connect(_endpoint_changed, sender=Endpoint, dispatch_uid=_UID)
    bulk.install()
    _reconnect()
    registry.listen(_reconnect)
    learnt.listen(_reconnect)


def _reconnect() -> None:
    # Also when something is learnt, in whatever thread.
    with _lock:
        _connect_all()


def _connect_all() -> None:
    senders, throughs = index().senders, set(index().links)
    for model in _connected - senders:
        for signal, receiver in _RECEIVERS:
            signal.disconnect(receiver, sender=model, dispatch_uid=_UID)
    for model in senders - _connected:
        for signal, receiver in _RECEIVERS:
            signal.connect(receiver, sender=model, dispatch_uid=_UID)
    for through in _links - throughs:
        m2m_changed.disconnect(_m2m_changed, sender=through, dispatch_uid=_UID)
    for through in throughs - _links:
        m2m_changed.connect(_m2m_changed, sender=through, dispatch_uid=_UID)
    for model in (_connected | _links) - (senders | throughs):
        _unprotect(model)
    for model in senders | throughs:
        _protect(model)
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
        if not session.is_recording() and not noticing.is_minded(model, using):
            original(self, *args, **kwargs)
            return
        if model._meta.auto_created:
            bulk.save_base_of_link(partial(original, self, *args, **kwargs), self, using)
            return
        with unit(using):
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
    if _is_fixture(raw=raw):
        with session.disable_webhooks():
            _pre_save(sender, instance, raw=False, using=using, update_fields=update_fields)
        return
    if not _is_noted(sender, using):
        return
    columns = _columns(sender, update_fields)
    rows = _rows(sender, instance)
    if instance._state.adding:
        instance._drf_webhooks_there = _there(rows[1:], using)
    for model, pk in rows:
        noticing.saving(
            model,
            [] if pk is None else [pk],
            using,
            columns=columns,
            values=[noticing.values_of(instance)],
        )


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
    if _is_fixture(raw=raw):
        with session.disable_webhooks():
            _post_save(
                sender,
                instance,
                created=created,
                raw=False,
                using=using,
                update_fields=update_fields,
            )
        return
    if not _is_noted(sender, using):
        return
    columns = _columns(sender, update_fields)
    there = instance.__dict__.pop("_drf_webhooks_there", ())
    for model, pk in _rows(sender, instance):
        is_new = created and model not in there
        noticing.saved(model, [pk], using, columns=columns, created=is_new)


def _pre_delete(sender: type[Model], instance: Any, *, using: str, **_: Any) -> None:
    if _is_noted(sender, using):
        noticing.deleting(concrete(sender), [instance.pk], using)


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
    if _is_fixture(raw=raw):
        with session.disable_webhooks():
            _m2m_changed(
                sender, instance, action=action, reverse=reverse, using=using, pk_set=pk_set
            )
        return
    if not _is_noted(sender, using):
        return
    for link in index().links.get(sender, ()):
        is_near = link.is_near_source is not reverse
        if link.is_symmetrical:
            noticing.linking(link, {instance.pk, *(pk_set or ())}, using)
        elif is_near:
            noticing.linking(link, {instance.pk}, using)
        elif pk_set is not None:
            noticing.linking(link, pk_set, using)
        if action == "pre_clear" and (link.is_symmetrical or not is_near):
            noticing.leaving(link, [instance.pk], using)


def _endpoint_changed(*, using: str, **_: Any) -> None:
    session.forget_interest(using)


def _is_fixture(*, raw: bool) -> bool:
    return raw and not config().RECORD_RAW


def _is_noted(model: type[Model], using: str) -> bool:
    return session.is_recording() or noticing.is_minded(model, using)


def _rows(sender: type[Model], instance: Any) -> list[tuple[type[Model], Any]]:
    """Return each table whose row a save writes, with the row's key.

    Saving a child writes its parents' rows without a signal for them.
    """
    own = concrete(sender)
    rows = [(own, instance.pk)]
    for parent in own._meta.all_parents:
        link = own._meta.get_ancestor_link(parent)
        pk = getattr(instance, link.attname, instance.pk) if link is not None else instance.pk
        rows.append((parent, pk))
    return rows


def _there(parents: list[tuple[type[Model], Any]], using: str) -> set[type[Model]]:
    """Return the parents whose rows are there already, when a child is made of them."""
    return {
        model
        for model, pk in parents
        if pk is not None
        and model in index().bases
        and model._base_manager.using(using).filter(pk=pk).exists()
    }


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

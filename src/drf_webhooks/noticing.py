"""Note what a write does to rows: before it, what they are about to leave, and after it.

Signals and captured queryset methods say the same things, and say them here.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from django.db.models import Model

from drf_webhooks import session
from drf_webhooks.changes import Form, Operation, object_key
from drf_webhooks.conf import config
from drf_webhooks.pipeline import is_wanted
from drf_webhooks.questions import BeforeWrite, chunks
from drf_webhooks.tracing.index import concrete, index
from drf_webhooks.tracing.paths import Link, Path, Resource
from drf_webhooks.transactions import log_of

__all__ = [
    "Columns",
    "Values",
    "deleting",
    "is_captured",
    "is_concerned",
    "leaving",
    "linking",
    "placing",
    "plain",
    "saved",
    "saving",
    "tables",
    "values_of",
]

#: The attribute names of the columns that a write sets; ``None`` for all of them.
Columns = frozenset[str] | None

#: The values that a write gives to some columns of one row, by attribute name.
Values = Mapping[str, Any]


def values_of(instance: Model) -> Values:
    """Return what an instance will write, as far as it is known before the statement."""
    held = instance.__dict__
    return plain({each.attname: held.get(each.attname) for each in instance._meta.concrete_fields})


def plain(values: Values) -> Values:
    """Leave out expressions: only the database knows what they will be."""
    return {name: each for name, each in values.items() if not hasattr(each, "resolve_expression")}


def is_captured() -> bool:
    """Tell whether writes that send no signal are noted now."""
    return config().CAPTURE_BULK and session.is_recording()


def tables(model: type[Model]) -> list[type[Model]]:
    """Return the monitored models whose tables hold a row of a model."""
    own = concrete(model)
    found = index()
    family = [own, *(concrete(each) for each in own._meta.all_parents)]
    return [
        each
        for each in dict.fromkeys(family)
        if each in found.bases or each in found.nested or each in found.links
    ]


def is_concerned(model: type[Model], columns: Columns, using: str) -> bool:
    """Tell whether a write of some columns of a model's table has to be noted."""
    paths = [path for path in _paths(model) if columns is None or path.concerns(columns)]
    paths += [link.near for link in index().links.get(model, ())]
    return any(
        not session.is_disabled(path.resource) and is_heard(path.resource, using) for path in paths
    )


def is_heard(resource: Resource, using: str) -> bool:
    """Tell whether anybody subscribes to a resource."""
    return is_wanted(resource, using, session.interest_now(using))


def placing(model: type[Model], columns: Columns, using: str) -> set[str]:
    """Return the columns that must be known to tell where a write will hang rows.

    Only what hangs under objects that are compared: their forms are needed before the write.
    """
    found: set[str] = set()
    for path in _paths(model):
        if path.hang is None or not (path.resource.skip_unchanged and path.moves(columns)):
            continue
        if not session.is_disabled(path.resource) and is_heard(path.resource, using):
            found |= {path.hang.column, path.hang.kind} - {""}
    return found


def saving(
    model: type[Model],
    pks: Iterable[Any],
    using: str,
    *,
    columns: Columns = None,
    values: Iterable[Values] = (),
) -> None:
    """Note that rows of one table are about to be written.

    Args:
        model: The model that has the table.
        pks: The keys of the rows that exist before.
        using: The database.
        columns: Which columns are written.
        values: What they will hold, for each row or for all of them.

    """
    pks, values = list(pks), list(values)
    for path in _paths(model):
        if session.is_disabled(path.resource) or not path.concerns(columns):
            continue
        is_compared = path.resource.skip_unchanged
        if not (path.moves(columns) or is_compared) or not is_heard(path.resource, using):
            continue
        if is_compared and path.hang is not None:
            _compare(path.hang.above, path.hang.keys(values, using), using)
        if pks and not path.is_base and path.moves(columns):
            _questions(using).above(path, pks, session.changes_now(using))
        # A new row of a table that is read as a whole concerns every object.
        _compare(path, pks or ([None] if path.is_whole else []), using)


def saved(
    model: type[Model],
    pks: Iterable[Any],
    using: str,
    *,
    columns: Columns = None,
    created: bool = False,
) -> None:
    """Note that rows of one table have been written.

    Args:
        model: The model that has the table.
        pks: Their keys.
        using: The database.
        columns: Which columns were written.
        created: Whether the rows are new.

    """
    pks = list(pks)
    changes = session.changes_now(using)
    operation = Operation.CREATED if created else Operation.UPDATED
    for resource in index().bases.get(model, ()):
        if not session.is_disabled(resource) and (
            created or index().base_path(resource).concerns(columns)
        ):
            for pk in pks:
                changes.note_base(resource, pk, operation)
                if created and resource.skip_unchanged:
                    forms = session.forms_now(using)
                    forms.setdefault((resource, object_key(pk)), Form(None))
    for path in index().nested.get(model, ()):
        if session.is_disabled(path.resource) or not path.concerns(columns):
            continue
        # A row of a parent's table was written together with the base object's own.
        pks_left = (
            [pk for pk in pks if not changes.has_base(path.resource, pk)]
            if path.is_parent_row
            else pks
        )
        if pks_left:
            changes.note_nested(path, pks_left)
            _compare_nothing(path, pks_left, using, columns)


def _compare_nothing(path: Path, pks: list[Any], using: str, columns: Columns) -> None:
    """Let those count as changed whose form was not known before a row came to hang under them.

    An expression says only afterwards where a row hangs; a form that is taken later in the
    session would already have the row in it.
    """
    resource = path.resource
    if not (resource.skip_unchanged and path.moves(columns) and is_heard(resource, using)):
        return
    forms = session.forms_now(using)
    for chunk in chunks(pks):
        for key in path.base_keys(chunk, using):
            forms.setdefault((resource, object_key(key)), Form({}))


def deleting(model: type[Model], pks: Iterable[Any], using: str) -> None:
    """Note that rows of one table are about to be deleted."""
    pks = list(pks)
    changes = session.changes_now(using)
    for resource in index().bases.get(model, ()):
        if session.is_disabled(resource):
            continue
        needs_row = resource.is_scoped() or resource.deleted_payload == "full"
        is_asked = (needs_row or resource.skip_unchanged) and is_heard(resource, using)
        for pk in pks:
            noted = changes.note_base(resource, pk, Operation.DELETED)
            if is_asked and needs_row:
                _questions(using).owned(resource, noted)
        if is_asked:
            _compare(index().base_path(resource), pks, using)
    for path in index().nested.get(model, ()):
        if not session.is_disabled(path.resource) and is_heard(path.resource, using):
            _questions(using).above(path, pks, changes)
            _compare(path, pks, using)


def linking(link: Link, pks: Iterable[Any], using: str) -> None:
    """Note that rows of a many-to-many table come or go beside some rows."""
    if session.is_disabled(link.near.resource):
        return
    pks = [pk for pk in pks if pk is not None]
    session.changes_now(using).note_nested(link.near, pks)
    if is_heard(link.near.resource, using):
        _compare(link.near, pks, using)


def leaving(link: Link, pks: Iterable[Any], using: str) -> None:
    """Note that all rows of a many-to-many table beside some far rows go."""
    if not session.is_disabled(link.far.resource) and is_heard(link.far.resource, using):
        _questions(using).above(link.far, pks, session.changes_now(using))
        _compare(link.far, pks, using)


def _compare(path: Path, pks: Iterable[Any], using: str) -> None:
    """Keep the forms of the base objects above some rows, to compare the later ones with."""
    if path.resource.skip_unchanged and pks:
        _questions(using).compare(path, pks, session.forms_now(using))


def _paths(model: type[Model]) -> Iterable[Path]:
    found = index()
    for resource in found.bases.get(model, ()):
        yield found.base_path(resource)
    yield from found.nested.get(model, ())


def _questions(using: str) -> BeforeWrite:
    return cast("BeforeWrite", log_of(using).ask(lambda: BeforeWrite(using)))

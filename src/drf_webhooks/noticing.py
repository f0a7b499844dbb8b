"""Note what a write does to rows: before it, what they are about to leave, and after it.

Signals and captured queryset methods say the same things, and say them here.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from django.db.models import Model

from drf_webhooks import session
from drf_webhooks.changes import Form, Operation, object_key
from drf_webhooks.conf import config
from drf_webhooks.entries import is_wanted
from drf_webhooks.questions import BeforeWrite, chunks
from drf_webhooks.recording import is_rechecked
from drf_webhooks.silence import is_disabled
from drf_webhooks.tracing.index import concrete, index
from drf_webhooks.tracing.paths import Link, Path, Resource
from drf_webhooks.transactions import log_of, unit

__all__ = [
    "Columns",
    "Values",
    "deleting",
    "is_captured",
    "is_concerned",
    "is_minded",
    "leaving",
    "linking",
    "placing",
    "plain",
    "saved",
    "saving",
    "silently",
    "tables",
    "values_of",
]

R = TypeVar("R")

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


def is_minded(model: type[Model], using: str) -> bool:
    """Tell whether it matters that a write of a model's table is not said.

    The second look at an object that had an event must not find it changed by what was not
    to be said.
    """
    return any(
        session.is_silent(each.resource) and is_rechecked(each.resource, using)
        for table in tables(model)
        for each in _concerned(table, None)
    )


def silently(write: Callable[[], R], model: type[Model], using: str, columns: Columns = None) -> R:
    """Write rows of a model, nobody knows which, where that is not said."""
    if not is_minded(model, using):
        return write()
    with unit(using):
        _unsaid_whole(
            {
                each.resource
                for table in tables(model)
                for each in _concerned(table, columns)
                if session.is_silent(each.resource)
            },
            using,
        )
        return write()


def _concerned(table: type[Model], columns: Columns) -> list[Path]:
    paths = [path for path in _paths(table) if columns is None or path.concerns(columns)]
    return paths + [link.near for link in index().links.get(table, ())]


def _unsaid_whole(resources: Iterable[Resource], using: str) -> None:
    found = {each for each in resources if is_rechecked(each, using)}
    if found:
        session.silent_changes(using).whole |= found


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
    return any(
        not is_disabled(path.resource) and is_heard(path.resource, using)
        for path in _concerned(model, columns)
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
        if path.hang is None or not (path.resource.keeps_forms() and path.moves(columns)):
            continue
        if not is_disabled(path.resource) and is_heard(path.resource, using):
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
        if not path.concerns(columns):
            continue
        if session.is_silent(path.resource):
            if pks and not path.is_base and path.moves(columns):
                _unsaid_whole([path.resource], using)
            continue
        is_compared = path.resource.keeps_forms()
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
    operation = Operation.CREATED if created else Operation.UPDATED
    for resource in index().bases.get(model, ()):
        if not (created or index().base_path(resource).concerns(columns)):
            continue
        if session.is_silent(resource):
            if is_rechecked(resource, using):
                for pk in pks:
                    session.silent_changes(using).note_base(resource, pk, Operation.UPDATED)
            continue
        changes = session.changes_now(using)
        for pk in pks:
            changes.note_base(resource, pk, operation)
            if created and resource.keeps_forms():
                forms = session.forms_now(using)
                forms.setdefault((resource, object_key(pk)), Form(None))
    for path in index().nested.get(model, ()):
        if not path.concerns(columns):
            continue
        if session.is_silent(path.resource):
            _unsaid_nested(path, pks, using)
            continue
        changes = session.changes_now(using)
        # A row of a parent's table was written together with the base object's own.
        pks_left = (
            [pk for pk in pks if not changes.has_base(path.resource, pk)]
            if path.is_parent_row
            else pks
        )
        if pks_left:
            changes.note_nested(path, pks_left)
            _compare_nothing(path, pks_left, using, columns)


def _unsaid_nested(path: Path, pks: Iterable[Any], using: str) -> None:
    if is_rechecked(path.resource, using):
        session.silent_changes(using).note_nested(path, pks)


def _compare_nothing(path: Path, pks: list[Any], using: str, columns: Columns) -> None:
    """Let those count as changed whose form was not known before a row came to hang under them.

    An expression says only afterwards where a row hangs; a form that is taken later in the
    session would already have the row in it.
    """
    resource = path.resource
    if not (resource.keeps_forms() and path.moves(columns) and is_heard(resource, using)):
        return
    forms = session.forms_now(using)
    for chunk in chunks(pks):
        for key in path.base_keys(chunk, using):
            forms.setdefault((resource, object_key(key)), Form({}))


def deleting(model: type[Model], pks: Iterable[Any], using: str) -> None:
    """Note that rows of one table are about to be deleted."""
    pks = list(pks)
    for resource in index().bases.get(model, ()):
        # A second look says nothing of what is gone.
        if session.is_silent(resource):
            continue
        changes = session.changes_now(using)
        needs_row = resource.is_scoped() or resource.deleted_payload == "full"
        is_asked = (needs_row or resource.keeps_forms()) and is_heard(resource, using)
        for pk in pks:
            noted = changes.note_base(resource, pk, Operation.DELETED)
            if is_asked and needs_row:
                _questions(using).owned(resource, noted)
        if is_asked:
            _compare(index().base_path(resource), pks, using)
    for path in index().nested.get(model, ()):
        if session.is_silent(path.resource):
            _unsaid_whole([path.resource], using)
        elif is_heard(path.resource, using):
            _questions(using).above(path, pks, session.changes_now(using))
            _compare(path, pks, using)


def linking(link: Link, pks: Iterable[Any], using: str) -> None:
    """Note that rows of a many-to-many table come or go beside some rows."""
    pks = [pk for pk in pks if pk is not None]
    if session.is_silent(link.near.resource):
        _unsaid_nested(link.near, pks, using)
        return
    session.changes_now(using).note_nested(link.near, pks)
    if is_heard(link.near.resource, using):
        _compare(link.near, pks, using)


def leaving(link: Link, pks: Iterable[Any], using: str) -> None:
    """Note that all rows of a many-to-many table beside some far rows go."""
    if session.is_silent(link.far.resource):
        _unsaid_whole([link.far.resource], using)
    elif is_heard(link.far.resource, using):
        _questions(using).above(link.far, pks, session.changes_now(using))
        _compare(link.far, pks, using)


def _compare(path: Path, pks: Iterable[Any], using: str) -> None:
    """Keep the forms of the base objects above some rows, to compare the later ones with."""
    if path.resource.keeps_forms() and pks:
        _questions(using).compare(path, pks, session.forms_now(using))


def _paths(model: type[Model]) -> Iterable[Path]:
    found = index()
    for resource in found.bases.get(model, ()):
        yield found.base_path(resource)
    yield from found.nested.get(model, ())


def _questions(using: str) -> BeforeWrite:
    return cast("BeforeWrite", log_of(using).ask(lambda: BeforeWrite(using)))

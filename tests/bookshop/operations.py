"""Every kind of write to every model of the bookshop, by name.

Made from the models themselves: the product of relations, columns and ways to write. An
operation takes a number that chooses among the rows that there are, and does nothing where
there are none.
"""

import itertools
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth.models import Group
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection, models
from django.db.models import Case, F, Value, When
from django.db.models.signals import post_save

from tests.bookshop import models as bookshop

Operation = Callable[[int], Any]

MODELS: list[Any] = [*apps.get_app_config("bookshop").get_models(), bookshop.Classic]
_serial = itertools.count()


def fresh() -> str:
    """Return a text that no row has."""
    return f"new {next(_serial)}"


def row(model: Any, number: int) -> Any:
    """Return one of the rows that there are."""
    rows = model._default_manager.order_by("pk")
    return rows[number % count] if (count := rows.count()) else None


def other(model: Any, number: int, than: Any) -> Any:
    """Return a row of a model that is not the one given, if there is one."""
    rows = model._default_manager.order_by("pk")
    if than is not None:
        rows = rows.exclude(pk=getattr(than, "pk", than))
    return rows[number % count] if (count := rows.count()) else None


def value(field: Any, instance: Any, number: int) -> Any:
    """Return a value for a column that differs from the one it has."""
    if field.is_relation:
        try:
            held = getattr(instance, field.name, None)
        except ObjectDoesNotExist:
            # Another write of the transaction has given it another key.
            held = None
        return other(field.related_model, number, held)
    if isinstance(field, models.CharField):
        return fresh()
    return (getattr(instance, field.attname) or 0) + 1


def columns(model: Any) -> list[Any]:
    """Return the columns that operations write."""
    return [
        field
        for field in model._meta.concrete_fields
        if not field.primary_key
        and not getattr(field.remote_field, "parent_link", False)
        and field.name not in {"content_type", "object_id", "kind", "key", "book_id", "number"}
        and field.concrete
        and field.column
        and not (model is bookshop.Chapter and field.name == "book")
    ]


def _on(model: Any, act: Callable[[Any, int], Any]) -> Operation:
    def operation(number: int) -> Any:
        instance = row(model, number)
        return None if instance is None else act(instance, number)

    return operation


def writes_of(model: Any, field: Any) -> dict[str, Operation]:
    """Return the ways to write one column."""
    name = field.name

    def saved(instance: Any, number: int) -> None:
        setattr(instance, name, value(field, instance, number))
        instance.save()

    def named(instance: Any, number: int) -> None:
        setattr(instance, name, value(field, instance, number))
        instance.save(update_fields=[name])

    def by_column(instance: Any, number: int) -> None:
        setattr(instance, name, value(field, instance, number))
        instance.save(update_fields=[field.attname])

    def stale(instance: Any, number: int) -> None:
        again = type(instance)._default_manager.get(pk=instance.pk)
        setattr(instance, name, value(field, instance, number))
        instance.save()
        setattr(again, name, value(field, again, number + 1))
        again.save()

    def only(instance: Any, number: int) -> None:
        thin = type(instance)._default_manager.only("pk").get(pk=instance.pk)
        setattr(thin, name, value(field, instance, number))
        thin.save()

    def updated(instance: Any, number: int) -> None:
        new = value(field, instance, number)
        type(instance)._default_manager.filter(pk=instance.pk).update(**{name: new})

    def all_updated(instance: Any, number: int) -> None:
        type(instance)._default_manager.update(**{name: value(field, instance, number)})

    def filtered(instance: Any, number: int) -> None:
        held = getattr(instance, field.attname)
        rows = type(instance)._default_manager.filter(**{field.attname: held})
        rows.order_by(name).update(**{name: value(field, instance, number)})

    def bulk(instance: Any, number: int) -> None:
        setattr(instance, name, value(field, instance, number))
        type(instance)._default_manager.bulk_update([instance], [name])

    def async_updated(instance: Any, number: int) -> None:
        new = value(field, instance, number)
        rows = type(instance)._default_manager.filter(pk=instance.pk)
        async_to_sync(rows.aupdate)(**{name: new})

    def async_saved(instance: Any, number: int) -> None:
        setattr(instance, name, value(field, instance, number))
        async_to_sync(instance.asave)()

    ways: dict[str, Any] = {
        "save": saved,
        "update_fields": named,
        "two instances": stale,
        "only()": only,
        "update()": updated,
        "update() of all": all_updated,
        "update() of what it filters": filtered,
        "bulk_update()": bulk,
        "aupdate()": async_updated,
        "asave()": async_saved,
    }
    if field.unique:
        del ways["update() of all"]
    if field.is_relation:
        ways["update_fields by column"] = by_column
    if field.null:
        ways |= _nulls(name)
    if isinstance(field, models.IntegerField):
        ways |= _expressions(name)
    if field.is_relation and not field.unique:
        ways["update() by Case"] = _by_case(field)
    found = {way: _on(model, act) for way, act in ways.items()}
    if model._meta.pk.is_relation or field.model is not model:
        # bulk_update() of a parent's columns, and saving with deferred parents, are Django's no.
        found.pop("bulk_update()", None)
    return found


def _nulls(name: str) -> dict[str, Any]:
    def nulled(instance: Any, number: int) -> None:
        setattr(instance, name, None)
        instance.save()

    def null_updated(instance: Any, number: int) -> None:
        type(instance)._default_manager.filter(pk=instance.pk).update(**{name: None})

    return {"nulled": nulled, "nulled by update()": null_updated}


def _expressions(name: str) -> dict[str, Any]:
    def added(instance: Any, number: int) -> None:
        setattr(instance, name, F(name) + 1)
        instance.save()

    def all_added(instance: Any, number: int) -> None:
        type(instance)._default_manager.update(**{name: F(name) + 1})

    return {"F()": added, "update() by F()": all_added}


def _by_case(field: Any) -> Any:
    def moved(instance: Any, number: int) -> None:
        new = value(field, instance, number)
        if new is None:
            return
        target = getattr(new, field.target_field.attname)
        kept = getattr(instance, field.attname)
        choice = Case(When(pk=instance.pk, then=Value(target)), default=Value(kept))
        type(instance)._default_manager.filter(pk=instance.pk).update(**{field.name: choice})

    return moved


def relations_of(model: Any) -> dict[str, Operation]:
    """Return what managers of related rows do: many-to-many, and foreign keys backwards."""
    found: dict[str, Operation] = {}
    managers: list[tuple[str, Any]] = [
        (field.name, field.related_model) for field in model._meta.local_many_to_many
    ]
    for rel in model._meta.related_objects:
        is_many = rel.one_to_many or rel.many_to_many
        if is_many and rel.model is model and hasattr(model, rel.get_accessor_name() or "+"):
            managers.append((rel.get_accessor_name(), rel.related_model))
    for name, target in managers:
        manager = getattr(model, name)
        can_remove = hasattr(manager, "through") or bool(manager.field.null)
        for way, act in _manager_ways(name, target, can_remove=can_remove).items():
            found[f"{model.__name__}.{name} {way}"] = _on(model, act)
    return found


def _manager_ways(name: str, target: Any, *, can_remove: bool) -> dict[str, Any]:
    def add(instance: Any, number: int) -> None:
        new = other(target, number + 1, None)
        if new is not None:
            getattr(instance, name).add(new)

    def add_each(instance: Any, number: int) -> None:
        getattr(instance, name).add(*target._default_manager.all())

    def remove(instance: Any, number: int) -> None:
        gone = getattr(instance, name).order_by("pk").first()
        if gone is not None:
            getattr(instance, name).remove(gone)

    def put(instance: Any, number: int) -> None:
        getattr(instance, name).set(list(target._default_manager.order_by("-pk")[:1]))

    def put_anew(instance: Any, number: int) -> None:
        chosen = list(target._default_manager.order_by("-pk")[:1])
        getattr(instance, name).set(chosen, clear=True)

    def async_add(instance: Any, number: int) -> None:
        new = row(target, number + 1)
        if new is not None:
            async_to_sync(getattr(instance, name).aadd)(new)

    def updated(instance: Any, number: int) -> None:
        field = next((each for each in columns(target) if not each.is_relation), None)
        if field is not None and not field.unique:
            getattr(instance, name).update(**{field.name: _any(field)})

    ways: dict[str, Any] = {"add": add, "add all": add_each, "aadd": async_add, "update": updated}
    if can_remove:
        ways |= {
            "remove": remove,
            "clear": lambda instance, number: getattr(instance, name).clear(),
            "set": put,
            "set anew": put_anew,
        }
    return ways


def _any(field: Any) -> Any:
    return fresh() if isinstance(field, models.CharField) else next(_serial) + 50


def through_rows() -> dict[str, Operation]:
    """Return writes to tables between two models that Django made, by hand."""
    found: dict[str, Operation] = {}
    for model in MODELS:
        for field in model._meta.local_many_to_many:
            through = field.remote_field.through
            if not through._meta.auto_created:
                continue
            near, far = field.m2m_field_name(), field.m2m_reverse_field_name()
            ways = _through_ways(model, field, through, near, far)
            found |= {f"{through.__name__} {way}": act for way, act in ways.items()}
    return found


def _through_ways(
    model: Any, field: Any, through: Any, near: str, far: str
) -> dict[str, Operation]:
    def pair(number: int) -> dict[str, Any] | None:
        one, two = row(model, number), row(field.related_model, number + 1)
        if one is None or two is None:
            return None
        values = {f"{near}_id": one.pk, f"{far}_id": two.pk}
        return None if through.objects.filter(**values).exists() else values

    def made(number: int) -> None:
        values = pair(number)
        if values:
            through.objects.create(**values)

    def made_in_bulk(number: int) -> None:
        values = pair(number)
        if values:
            through.objects.bulk_create([through(**values)])

    def moved(number: int) -> None:
        one = through.objects.order_by("pk").first()
        values = pair(number)
        if one is not None and values:
            for name, key in values.items():
                setattr(one, name, key)
            one.save()

    def moved_in_bulk(number: int) -> None:
        one = through.objects.order_by("pk").first()
        values = pair(number)
        if one is not None and values:
            through.objects.filter(pk=one.pk).update(**values)

    def deleted(number: int) -> None:
        one = row(through, number)
        if one is not None:
            one.delete()

    return {
        "made by hand": made,
        "made in bulk": made_in_bulk,
        "moved by hand": moved,
        "moved by update()": moved_in_bulk,
        "deleted by hand": deleted,
        "deleted by filter": lambda number: through.objects.all().delete(),
    }


def deletions_of(model: Any) -> dict[str, Operation]:
    """Return the ways to delete rows of one model."""
    manager = model._default_manager

    def by_filter(number: int) -> None:
        instance = row(model, number)
        if instance is not None:
            manager.filter(pk=instance.pk).delete()

    def async_deleted(instance: Any, number: int) -> None:
        async_to_sync(instance.adelete)()

    return {
        "delete": _on(model, lambda instance, number: instance.delete()),
        "delete by filter": by_filter,
        "delete all": lambda number: manager.all().delete(),
        "adelete": _on(model, async_deleted),
    }


def creations() -> dict[str, Operation]:
    """Return the ways to make rows, each for a parent that they hang under."""
    found: dict[str, Operation] = {}
    makers: dict[str, tuple[Any, Callable[[int], dict[str, Any] | None]]] = {
        "book": (bookshop.Book, lambda n: _with("publisher", bookshop.Publisher, n, name=fresh())),
        "classic": (bookshop.Classic, lambda n: _with("shelf", bookshop.Shelf, n, name=fresh())),
        "audio": (bookshop.Audio, lambda n: _with("sequel_to", bookshop.Book, -1, name=fresh())),
        "reference": (bookshop.Reference, lambda n: {"name": fresh(), "days": 3}),
        "item": (bookshop.Item, lambda n: _with("publisher", bookshop.Publisher, n, name=fresh())),
        "imprint": (
            bookshop.Publisher,
            lambda n: _with("parent", bookshop.Publisher, n, name=fresh()),
        ),
        "city": (
            bookshop.City,
            lambda n: _with("country", bookshop.Country, n, name=fresh(), slug=fresh()),
        ),
        "genre": (bookshop.Genre, lambda n: _with("parent", bookshop.Genre, n, name=fresh())),
        "loan": (bookshop.Loan, lambda n: _with("book", bookshop.Book, n)),
        "credit": (bookshop.Credit, _credit),
        "chapter": (bookshop.Chapter, _chapter),
        "label": (bookshop.Label, lambda n: _with("target", bookshop.Publisher, n, text=fresh())),
        "comment": (bookshop.Comment, lambda n: _with("about", bookshop.Book, n, text=fresh())),
        "country": (bookshop.Country, lambda n: {"code": fresh()[-6:], "name": fresh()}),
        "shelf": (bookshop.Shelf, lambda n: {"name": fresh()}),
    }
    for name, (model, make) in makers.items():
        for way, act in _creation_ways(model, make).items():
            found[f"{name} {way}"] = act
    return found


def _with(name: str, model: Any, number: int, /, **values: Any) -> dict[str, Any] | None:
    above = row(model, number)
    return None if above is None else {name: above, **values}


def _credit(number: int) -> dict[str, Any] | None:
    values = _with("book", bookshop.Book, number)
    return values and _with("author", bookshop.Author, number, **values)


def _chapter(number: int) -> dict[str, Any] | None:
    return _with("book", bookshop.Book, number, number=next(_serial) + 100, title=fresh())


def _creation_ways(
    model: Any, make: Callable[[int], dict[str, Any] | None]
) -> dict[str, Operation]:
    manager = model._default_manager

    def guarded(act: Callable[[dict[str, Any]], Any]) -> Operation:
        def operation(number: int) -> Any:
            values = make(number)
            return None if values is None else act(values)

        return operation

    def bulk(**options: Any) -> Operation:
        return guarded(lambda values: manager.bulk_create([model(**values)], **options))

    def told(values: dict[str, Any]) -> None:
        (made,) = manager.bulk_create([model(**values)])
        post_save.send(
            model, instance=made, created=True, raw=False, using="default", update_fields=None
        )

    ways: dict[str, Operation] = {"created": guarded(lambda values: manager.create(**values))}
    own = model._meta.concrete_model
    if all(each._meta.concrete_model is own for each in own._meta.all_parents):
        ways |= {
            "bulk_create()": bulk(),
            "bulk_create(), ignoring conflicts": bulk(ignore_conflicts=True),
            "bulk_create() and told": guarded(told),
        }
    return ways


def conflicts() -> dict[str, Operation]:
    """Return inserts of which some rows are there already."""

    def cities(number: int, **options: Any) -> None:
        there = row(bookshop.City, number)
        country = row(bookshop.Country, number + 1)
        if there is None or country is None:
            return
        bookshop.City.objects.bulk_create(
            [
                bookshop.City(name=fresh(), slug=there.slug, country=country),
                bookshop.City(name=fresh(), slug=fresh(), country=country),
            ],
            **options,
        )

    def countries(number: int, **options: Any) -> None:
        there = row(bookshop.Country, number)
        if there is not None:
            bookshop.Country.objects.bulk_create(
                [
                    bookshop.Country(code=there.code, name=fresh()),
                    bookshop.Country(code=fresh()[-6:], name=fresh()),
                ],
                **options,
            )

    return {
        "cities, ignoring conflicts": lambda n: cities(n, ignore_conflicts=True),
        "cities, updating conflicts": lambda n: cities(
            n, **_on_conflict("slug", ["name", "country"])
        ),
        "countries, ignoring conflicts": lambda n: countries(n, ignore_conflicts=True),
        "countries, updating conflicts": lambda n: countries(n, **_on_conflict("code", ["name"])),
    }


def _on_conflict(unique: str, names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"update_conflicts": True, "update_fields": names}
    if connection.features.supports_update_conflicts_with_target:
        found["unique_fields"] = [unique]
    return found


def others() -> dict[str, Operation]:
    """Return what no product gives."""

    def key_by_hand(number: int) -> None:
        country = row(bookshop.Country, number)
        if country is not None:
            country.code = fresh()[-6:]
            country.save()

    def key_by_update(number: int) -> None:
        bookshop.City.objects.update(country=None)
        for code in bookshop.Country.objects.values_list("code", flat=True)[:1]:
            bookshop.Country.objects.filter(pk=code).update(code=fresh()[-6:])

    def copied(number: int) -> None:
        loan = row(bookshop.Loan, number)
        if loan is not None:
            loan.pk = None
            loan._state.adding = True
            loan.save()

    def got_or_created(number: int) -> None:
        bookshop.Genre.objects.get_or_create(name=fresh(), parent=row(bookshop.Genre, number))

    def updated_or_created(number: int) -> None:
        shelf = row(bookshop.Shelf, number)
        if shelf is not None:
            bookshop.Shelf.objects.update_or_create(pk=shelf.pk, defaults={"name": fresh()})
            bookshop.Shelf.objects.update_or_create(name=fresh(), defaults={"note": "x"})

    def label_moved(number: int) -> None:
        label = row(bookshop.Label, number)
        target = row(bookshop.Publisher, number + 1)
        if label is not None and target is not None:
            label.target = target
            label.save()

    def label_to_another_model(number: int) -> None:
        label = row(bookshop.Label, number)
        city = row(bookshop.City, number)
        if label is not None and city is not None:
            label.target = city
            label.save()

    def comment_updated(number: int) -> None:
        book = row(bookshop.Book, number + 1)
        if book is not None:
            bookshop.Comment.objects.update(key=str(book.pk))

    def child_made_of_a_parent(number: int) -> None:
        item = bookshop.Item.objects.filter(book=None).first()
        if item is not None:
            book = bookshop.Book(item_row=item, pages=4)
            book.__dict__.update(
                {each.attname: getattr(item, each.attname) for each in item._meta.concrete_fields}
            )
            book.save()

    def child_deleted_parent_kept(number: int) -> None:
        audio = row(bookshop.Audio, number)
        if audio is not None:
            audio.delete(keep_parents=True)

    def group_renamed(number: int) -> None:
        group = row(Group, number)
        if group is not None:
            group.name = fresh()
            group.save()

    def user_groups(number: int) -> None:
        author = row(bookshop.Author, number)
        if author is not None and author.user:
            author.user.groups.set(Group.objects.order_by("-pk")[:1])

    def raw_delete(number: int) -> None:
        rows = bookshop.Loan.objects.filter(pk__in=list(bookshop.Loan.objects.values("pk")[:0]))
        rows._raw_delete("default")
        bookshop.Loan.objects.filter(days=1)._raw_delete("default")

    def created_and_deleted(number: int) -> None:
        made = bookshop.Shelf.objects.create(name=fresh())
        made.name = fresh()
        made.save()
        made.delete()

    def there_and_back(number: int) -> None:
        book = row(bookshop.Book, number)
        if book is not None:
            old, book.name = book.name, fresh()
            book.save()
            book.name = old
            book.save()

    def many(number: int) -> None:
        bookshop.Chapter.objects.update(title=fresh())
        bookshop.Item.objects.update(price=F("price") + 1, name=fresh())
        bookshop.Audio.objects.update(name=fresh(), minutes=3, pages=F("pages") + 1)

    return {name.replace("_", " "): act for name, act in locals().items() if callable(act)}


def table() -> dict[str, Operation]:
    """Return every operation by name."""
    found: dict[str, Operation] = {}
    for model in MODELS:
        for field in columns(model):
            for way, act in writes_of(model, field).items():
                found[f"{model.__name__}.{field.name} {way}"] = act
        found |= relations_of(model)
        for way, act in deletions_of(model).items():
            found[f"{model.__name__} {way}"] = act
    return {**found, **through_rows(), **creations(), **conflicts(), **others()}

"""Fields that run code: what they read is seen, and from then on noticed; judged by the oracle."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.models import Count, Model, Sum
from rest_framework import serializers

from drf_webhooks import learning
from drf_webhooks.dependencies import depends_on
from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from tests.bookshop import world
from tests.bookshop.models import (
    Audio,
    Author,
    Book,
    City,
    Comment,
    Country,
    Credit,
    Genre,
    Item,
    Label,
    Loan,
    Publisher,
    Setting,
    Shelf,
)
from tests.oracle import Verdict, judge, quietly

pytestmark = [pytest.mark.django_db, pytest.mark.oracle]

Change = Callable[[], Any]


@pytest.fixture(autouse=True)
def _bookshop(everything: Endpoint) -> Iterator[None]:
    with registry.isolated():
        with quietly():
            world.make()
        yield


def names(rows: Any) -> str:
    return ", ".join(sorted(str(each) for each in rows))


def renamed(model: Any, **fields: Any) -> Change:
    """Rename a row, by a save, and another one by an update."""

    def act() -> None:
        for instance in model.objects.all():
            instance.name = f"{instance.name}!"
            instance.save()

    def quick() -> None:
        model.objects.update(**fields)

    return quick if fields else act


def method(model: Any, read: Callable[[Any], Any]) -> Any:
    """Return a serializer whose one field is a method."""

    class WithMethod(serializers.ModelSerializer[Any]):
        what = serializers.SerializerMethodField()

        class Meta:
            fields = ("what",)

        def get_what(self, instance: Any) -> Any:
            return read(instance)

    WithMethod.Meta.model = model
    return WithMethod


def field(model: Any, **fields: Any) -> Any:
    meta = type("Meta", (), {"model": model, "fields": list(fields)})
    return type("WithField", (serializers.ModelSerializer,), {**fields, "Meta": meta})


class Shout(serializers.Field):  # type: ignore[type-arg]  # of anything
    """A field class of the project's own that gets the whole object."""

    def to_representation(self, value: Any) -> str:
        return f"{value.publisher.name if value.publisher else ''}!"


class Counted(serializers.Field):  # type: ignore[type-arg]  # of anything
    """One that gets a column's value, and asks the database for more."""

    def to_representation(self, value: Any) -> int:
        return Setting.objects.filter(name=value).count()


class WithLoans(serializers.ModelSerializer[Book]):
    class Meta:
        model = Book
        fields = ("pk",)

    def to_representation(self, instance: Any) -> Any:
        loans = Loan.objects.filter(book=instance).count()
        return {**super().to_representation(instance), "loans": loans}


class InBook(serializers.ModelSerializer[Item]):
    """A property of a nested model."""

    where = serializers.ReadOnlyField(source="book.where", default=None)

    class Meta:
        model = Item
        fields = ("where",)


def prefetched(shelf: Any) -> str:
    found = Shelf.objects.prefetch_related("book_set__genres").get(pk=shelf.pk)
    return names(genre.name for book in found.book_set.all() for genre in book.genres.all())


def hidden(book: Any) -> str:
    return names(loan.borrower for loan in Loan.objects.filter(book=book))


def targets(city: Any) -> str:
    labels = Label.objects.filter(object_id=city.pk)
    return names(labels)


def about(comment: Any) -> str:
    return f"{comment.about.name} at {comment.about.shelf}" if comment.about else ""


def added(model: Any, **values: Any) -> Change:
    def act() -> None:
        found = {name: each() if callable(each) else each for name, each in values.items()}
        model.objects.create(**found)

    return act


def first(model: Any) -> Callable[[], Model]:
    return lambda: model.objects.order_by("pk").first()


CASES: dict[str, tuple[Any, Change]] = {
    "a foreign key": (method(Book, lambda book: str(book.publisher)), renamed(Publisher)),
    "a chain": (
        method(Book, lambda book: str(book.publisher and book.publisher.city.country.name)),
        renamed(Country),
    ),
    "a chain, moved": (
        method(Book, lambda book: str(book.publisher and book.publisher.city)),
        renamed(Publisher, city=None),
    ),
    "a reverse manager": (
        method(Shelf, lambda shelf: names(shelf.book_set.all())),
        renamed(Book),
    ),
    "rows of a reverse manager that move": (
        method(Shelf, lambda shelf: names(shelf.book_set.all())),
        lambda: Book.objects.update(shelf=Shelf.objects.order_by("pk").last()),
    ),
    "rows of a reverse manager that come": (
        method(Shelf, lambda shelf: shelf.book_set.count()),
        added(Book, name="new", shelf=first(Shelf)),
    ),
    "a filtered manager": (
        method(Shelf, lambda shelf: shelf.book_set.filter(pages__gt=2).count()),
        lambda: Book.objects.update(pages=9),
    ),
    "a join of a manager": (
        method(Shelf, lambda shelf: shelf.book_set.filter(publisher__name="new").count()),
        renamed(Publisher, name="new"),
    ),
    "an aggregate": (
        method(Shelf, lambda shelf: shelf.book_set.aggregate(all=Sum("price"))["all"]),
        lambda: Item.objects.update(price=8),
    ),
    "values": (
        method(Shelf, lambda shelf: names(shelf.book_set.values_list("publisher__name"))),
        renamed(Publisher),
    ),
    "whether there is one": (
        method(Author, lambda author: author.loans.exists()),
        lambda: Loan.objects.all().delete(),
    ),
    "the first one": (
        method(Author, lambda author: str(author.comments.order_by("pk").first())),
        lambda: Comment.objects.update(text="new"),
    ),
    "rows of rows": (
        method(Shelf, lambda shelf: names(each.publisher for each in shelf.book_set.all())),
        renamed(Publisher),
    ),
    "a query by the object": (
        method(Author, lambda author: Loan.objects.filter(borrower=author).count()),
        lambda: Loan.objects.update(borrower=None),
    ),
    "a query by its key": (
        method(Author, lambda author: Credit.objects.filter(author_id=author.pk).count()),
        lambda: Credit.objects.all().delete(),
    ),
    "a query with a join": (
        method(Publisher, lambda publisher: Loan.objects.filter(book__publisher=publisher).count()),
        lambda: Loan.objects.all().delete(),
    ),
    "a query with a join, moved in between": (
        method(Publisher, lambda publisher: Loan.objects.filter(book__publisher=publisher).count()),
        lambda: Item.objects.update(publisher=Publisher.objects.order_by("pk").first()),
    ),
    "a hidden relation": (method(Book, hidden), renamed(Author)),
    "a hidden relation, its rows": (
        method(Book, hidden),
        lambda: Loan.objects.update(borrower=Author.objects.order_by("pk").first()),
    ),
    "get() by a key that it holds": (
        method(Book, lambda book: str(Shelf.objects.filter(pk=book.shelf_id).first())),
        renamed(Shelf),
    ),
    "many-to-many": (method(Book, lambda book: names(book.genres.all())), renamed(Genre)),
    "many-to-many, a row of the table": (
        method(Book, lambda book: names(book.genres.all())),
        lambda: Book.genres.through.objects.all().delete(),
    ),
    "many-to-many, backwards": (
        method(Genre, lambda genre: names(genre.books.all())),
        renamed(Book),
    ),
    "many-to-many with itself": (
        method(Author, lambda author: names(author.friends.all())),
        lambda: Author.objects.order_by("pk")[2].friends.add(Author.objects.order_by("pk")[0]),
    ),
    "a hidden many-to-many": (
        method(Author, lambda author: names(Book.objects.filter(fans=author))),
        renamed(Book),
    ),
    "a hidden many-to-many, a row of the table": (
        method(Author, lambda author: Book.objects.filter(fans=author).count()),
        lambda: Book.objects.order_by("pk")[0].fans.set(Author.objects.order_by("-pk")[:2]),
    ),
    "a hidden many-to-many beyond a hidden relation": (
        method(
            Book,
            lambda book: [
                Book.objects.filter(fans=loan.borrower).count()
                for loan in Loan.objects.filter(book=book)
            ],
        ),
        lambda: Book.objects.all().delete(),
    ),
    "prefetched": (method(Shelf, prefetched), renamed(Genre)),
    "a generic foreign key": (method(Comment, about), renamed(Book)),
    "beyond a generic foreign key": (method(Comment, about), renamed(Shelf)),
    "a generic relation": (
        method(Publisher, lambda publisher: names(publisher.labels.all())),
        lambda: Label.objects.update(text="new"),
    ),
    "a reverse one-to-one": (
        method(Book, lambda book: str(getattr(book, "sequel", None))),
        renamed(Book),
    ),
    "a reverse one-to-one that comes": (
        method(Book, lambda book: hasattr(book, "sequel")),
        lambda: Book.objects.filter(name="book 0").update(sequel_to=Book.objects.get(name="audio")),
    ),
    "a child's table": (
        method(Item, lambda item: item.book.pages if hasattr(item, "book") else 0),
        lambda: Book.objects.update(pages=7),
    ),
    "a parent's columns": (
        method(Audio, lambda audio: audio.price),
        lambda: Item.objects.update(price=7),
    ),
    "a property": (field(Book, where=serializers.ReadOnlyField()), renamed(City)),
    "a property of a nested model": (InBook, renamed(City)),
    "a property that is followed": (
        field(Book, home=serializers.CharField(source="city.country.name", default=None)),
        renamed(Country),
    ),
    "str()": (
        field(Loan, book=serializers.StringRelatedField()),
        lambda: Item.objects.update(name="new"),
    ),
    "str() of many": (
        field(Book, credits=serializers.StringRelatedField(many=True)),
        added(Credit, book=first(Book), author=first(Author)),
    ),
    "a field class": (field(Book, loud=Shout(source="*")), renamed(Publisher)),
    "a field class that asks": (
        field(Shelf, name=Counted()),
        added(Setting, name="shelf 1"),
    ),
    "to_representation": (WithLoans, lambda: Loan.objects.all().delete()),
    "a whole table": (
        method(Shelf, lambda shelf: names(Setting.objects.all())),
        renamed(Setting),
    ),
    "a whole table, counted": (
        method(Shelf, lambda shelf: Genre.objects.count()),
        added(Genre, name="new"),
    ),
    "a subquery": (
        method(
            Publisher,
            lambda publisher: Loan.objects.filter(
                book__in=Book.objects.filter(publisher=publisher)
            ).count(),
        ),
        lambda: Loan.objects.all().delete(),
    ),
    "an annotation": (
        method(
            Author,
            lambda author: [
                each.n for each in author.books.annotate(n=Count("chapters")).order_by("pk")
            ],
        ),
        lambda: Book.objects.get(name="book 0").chapters.all().delete(),
    ),
    "a union": (
        method(
            Author,
            lambda author: names(
                author.loans.order_by()
                .values_list("borrower__name")
                .union(author.comments.order_by().values_list("text"))
                .order_by()
            ),
        ),
        lambda: Comment.objects.update(author=None),
    ),
}


def declared(serializer: Any, **attributes: Any) -> type[ModelSerializerWebhook]:
    return type(
        "SomeWebhook", (ModelSerializerWebhook,), {"serializer_class": serializer, **attributes}
    )


@pytest.mark.parametrize("compares", [False, True], ids=["plain", "skip_unchanged"])
@pytest.mark.parametrize(("serializer", "change"), CASES.values(), ids=CASES)
def test_what_code_reads_is_noticed_once_it_was_seen(
    serializer: Any, change: Change, *, compares: bool, record_property: Any
) -> None:
    declared(serializer, skip_unchanged=compares)
    learning.learn()

    verdict = judge(change)

    Verdict.record([verdict], record_property)
    assert verdict.missed == []
    assert verdict.wrong == []
    assert verdict.said
    if compares:
        assert verdict.spurious == []


def test_a_branch_that_was_not_taken_is_declared() -> None:
    declared(
        method(Book, lambda book: str(book.shelf) if book.price > 90 else ""),
        depends_on=["shelf"],
    )
    learning.learn()
    with quietly():
        Book.objects.update(price=99)

    assert judge(renamed(Shelf)).missed == []


def test_a_function_may_declare_what_it_reads_itself() -> None:
    class Declared(serializers.ModelSerializer[Book]):
        what = serializers.SerializerMethodField()

        class Meta:
            model = Book
            fields = ("what",)

        @depends_on("shelf")
        def get_what(self, book: Book) -> str:
            return str(book.shelf)

    declared(Declared)

    assert judge(renamed(Shelf)).missed == []

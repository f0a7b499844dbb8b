"""Resources that read the bookshop in every direction, by fields that a tree shows."""

from typing import Any

from django.db.models import Count, Exists, F, OuterRef, QuerySet, Subquery
from rest_framework import serializers

from drf_webhooks.resources import ModelSerializerWebhook
from tests.bookshop import models as bookshop


def model_serializer(
    model: Any, *names: str, base: Any = serializers.ModelSerializer, **fields: Any
) -> Any:
    """Return a serializer class with some columns and some fields."""
    meta = type("Meta", (), {"model": model, "fields": [*names, *fields]})
    return type(f"{model.__name__}Serializer", (base,), {**fields, "Meta": meta})


def slug(name: str, *, many: bool = False, **options: Any) -> Any:
    return serializers.SlugRelatedField(name, many=many, read_only=True, **options)


def text(source: str) -> Any:
    return serializers.CharField(source=source, default=None)


class Price(serializers.Serializer[Any]):
    """Of the same object: a part of its columns."""

    price = serializers.IntegerField()


class Place(serializers.Serializer[Any]):
    """Of another object, which it does not name."""

    name = serializers.CharField()
    country = text("country.name")


class WithContext(serializers.ModelSerializer[Any]):
    """Its fields depend on how it is made, and on the context."""

    class Meta:
        model = bookshop.Item
        fields = ("name", "price")

    def __init__(self, *args: Any, dearly: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if dearly:
            self.fields["price"] = serializers.IntegerField()

    def get_fields(self) -> Any:
        found = super().get_fields()
        if self.context.get("with_pages"):
            found["pages"] = text("book.pages")
        return found


def serializers_by_name() -> dict[str, Any]:
    city = model_serializer(bookshop.City, "name", country=slug("name"))
    genre = model_serializer(bookshop.Genre, "name", parent=slug("name"))
    chapter = model_serializer(bookshop.Chapter, "title")
    credit = model_serializer(
        bookshop.Credit,
        "role",
        author=slug("name"),
        added_by=slug("name"),
        city=text("author.city.name"),
    )
    publisher = model_serializer(bookshop.Publisher, "name", city=city())
    loan = model_serializer(bookshop.Loan, "days")
    book = model_serializer(
        bookshop.Book,
        "name",
        "sequel_to",
        publisher=publisher(),
        genres=genre(many=True),
        credits=credit(many=True),
        chapters=chapter(many=True),
        comments=slug("text", many=True),
        shelf=text("shelf.name"),
        spare=slug("name"),
        sequel=text("sequel.name"),
        cost=Price(source="*"),
        secret=serializers.CharField(source="note", write_only=True),
        hidden=serializers.HiddenField(default=None),
    )
    narrow = model_serializer(bookshop.Item, "name")
    return {
        "book": book,
        "author": model_serializer(
            bookshop.Author,
            "name",
            "friends",
            mentors=slug("name", many=True),
            pupils=slug("name", many=True),
            books=slug("name", many=True),
            loans=loan(many=True),
            born_in=slug("name"),
            user=text("user.username"),
            groups=slug("name", many=True, source="user.groups"),
        ),
        "publisher": model_serializer(
            bookshop.Publisher,
            "name",
            items=narrow(many=True),
            imprints=narrow_of(bookshop.Publisher)(many=True),
            parent=text("parent.name"),
            country=text("city.country.name"),
            labels=slug("text", many=True),
            home=Place(source="city"),
        ),
        "country": model_serializer(
            bookshop.Country,
            "name",
            city_set=model_serializer(bookshop.City, "name", publishers=slug("name", many=True))(
                many=True
            ),
        ),
        "city": model_serializer(
            bookshop.City,
            "slug",
            authors=serializers.PrimaryKeyRelatedField(
                source="author_set", many=True, read_only=True
            ),
            country=serializers.HyperlinkedRelatedField(
                "bookshop-country", lookup_field="name", read_only=True
            ),
        ),
        "genre": model_serializer(
            bookshop.Genre,
            "name",
            parent=genre(),
            children=slug("name", many=True),
            books=slug("item_row__name", many=True),
        ),
        "item": WithContext,
        "audio": model_serializer(
            bookshop.Audio, "name", "minutes", "pages", "price", shelf=slug("name")
        ),
        "reference": model_serializer(bookshop.Reference, "name", "days", "edition"),
        "chapter": model_serializer(bookshop.Chapter, "title", book=text("book.name")),
        "loan": deep(bookshop.Loan),
        "classic": model_serializer(
            bookshop.Classic, "name", fans=slug("name", many=True), city=text("publisher.city.name")
        ),
        "shelf": model_serializer(
            bookshop.Shelf,
            "name",
            count=serializers.IntegerField(),
            dearest=serializers.IntegerField(default=None),
            is_lent=serializers.BooleanField(),
        ),
        "lendable": model_serializer(
            bookshop.Lendable,
            "days",
            edition=text("reference.edition"),
            name=text("reference.name"),
        ),
        "comment": model_serializer(bookshop.Comment, "text", "key", author=slug("name")),
    }


def narrow_of(model: Any) -> Any:
    return model_serializer(model, "name")


def deep(model: Any) -> Any:
    meta = type("Meta", (), {"model": model, "fields": ["days", "book", "borrower"], "depth": 1})
    return type("Deep", (serializers.ModelSerializer,), {"Meta": meta})


class Shelves:
    """A queryset that adds annotations: a join, two subqueries."""

    @classmethod
    def get_queryset(cls) -> QuerySet[Any]:
        books = bookshop.Book.objects.filter(shelf=OuterRef("pk"))
        loans = bookshop.Loan.objects.filter(book__shelf=OuterRef("pk"))
        return bookshop.Shelf.objects.annotate(
            count=Count("book"),
            dearest=Subquery(books.order_by("-price", "pk").values("price")[:1]),
            is_lent=Exists(loans),
        )


class Dear:
    """A queryset that leaves some out, by what another row says."""

    @classmethod
    def get_queryset(cls) -> QuerySet[Any]:
        return bookshop.Item.objects.annotate(of=F("publisher__name")).order_by("pk")

    @classmethod
    def get_serializer_context(cls, owner: Any = None) -> dict[str, Any]:
        del owner
        return {"with_pages": True}


#: What the oracle reads at once for all objects, only to be quick: written by hand, so that it
#: owes nothing to what is judged.
PREFETCH = {
    "bookshop.book": [
        *("publisher__city__country", "genres__parent", "credits__author__city"),
        *("credits__added_by", "chapters", "comments", "shelf", "spare", "sequel"),
    ],
    "bookshop.author": [
        *("friends", "mentors", "pupils", "books", "loans", "born_in", "user__groups"),
    ],
    "bookshop.publisher": ["items", "imprints", "parent", "city__country", "labels"],
    "bookshop.country": ["city_set__publishers"],
    "bookshop.city": ["author_set", "country"],
    "bookshop.genre": ["parent__parent", "children", "books__item_row"],
    "bookshop.item": ["book"],
    "bookshop.audio": ["shelf"],
    "bookshop.chapter": ["book"],
    "bookshop.loan": [
        *("book__genres", "book__fans", "book__authors"),
        *("borrower__friends", "borrower__mentors"),
    ],
    "bookshop.classic": ["fans", "publisher__city"],
    "bookshop.lendable": ["reference"],
    "bookshop.comment": ["author"],
}


def declare(number: int = 0, parts: int = 1, **attributes: Any) -> None:
    """Declare them all, or one of several parts; the caller isolates the registry."""
    bases: dict[str, Any] = {"shelf": (Shelves,), "item": (Dear,)}
    for name, serializer in [*serializers_by_name().items()][number::parts]:
        type(
            f"{name.title()}Webhook",
            (*bases.get(name, ()), ModelSerializerWebhook),
            {"serializer_class": serializer, "base_name": f"bookshop.{name}", **attributes},
        )

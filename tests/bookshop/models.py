"""A bookshop with every kind of relation that Django has; what the oracle makes changes to."""

import uuid
from typing import Any

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Named(models.Model):
    """An abstract base."""

    name = models.CharField(max_length=50)
    note = models.CharField(max_length=50, default="", blank=True)

    class Meta:
        abstract = True
        # A form with rows in any order would differ by itself.
        ordering = ("name", "pk")

    def __str__(self) -> str:
        return self.name


class Country(Named):
    """Has a natural primary key, so that it may be changed by hand."""

    code = models.CharField(max_length=8, primary_key=True)


class City(Named):
    slug = models.CharField(max_length=50, unique=True)
    country = models.ForeignKey(Country, models.SET_NULL, null=True)


class Label(models.Model):
    """About anything, by a numeric key."""

    text = models.CharField(max_length=50)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.BigIntegerField()
    target = GenericForeignKey()

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.text


class Comment(models.Model):
    """About anything, by a key as text."""

    text = models.CharField(max_length=50)
    kind = models.ForeignKey(ContentType, models.CASCADE)
    key = models.CharField(max_length=50)
    about = GenericForeignKey("kind", "key")
    author = models.ForeignKey("Author", models.SET_NULL, null=True, related_name="comments")

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.text


class Publisher(Named):
    city = models.ForeignKey(
        City, models.SET_NULL, null=True, to_field="slug", related_name="publishers"
    )
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="imprints")
    labels = GenericRelation(Label)


def first_shelf() -> Any:
    return Shelf.objects.order_by("pk").values_list("pk", flat=True).first()


def last_shelf() -> Any:
    return Shelf.objects.order_by("pk").last()


class Shelf(Named):
    pass


class Genre(Named):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    parent = models.ForeignKey("self", models.SET_NULL, null=True, related_name="children")


class Author(Named):
    city = models.ForeignKey(City, models.CASCADE, null=True)
    born_in = models.ForeignKey(City, models.SET_NULL, null=True, related_name="+")
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    friends: "models.ManyToManyField[Author, Author]" = models.ManyToManyField("self")
    mentors: "models.ManyToManyField[Author, Author]" = models.ManyToManyField(
        "self", symmetrical=False, related_name="pupils"
    )


class Item(Named):
    """The first table of what the bookshop has."""

    price = models.IntegerField(default=1)
    publisher = models.ForeignKey(
        Publisher,
        models.CASCADE,
        null=True,
        related_name="items",
        related_query_name="item",
    )


class Book(Item):
    item_row = models.OneToOneField(Item, models.CASCADE, parent_link=True, primary_key=True)
    pages = models.IntegerField(default=1)
    shelf = models.ForeignKey(Shelf, models.SET_DEFAULT, default=first_shelf, null=True)
    spare = models.ForeignKey(Shelf, models.SET(last_shelf), null=True, related_name="spared")
    genres = models.ManyToManyField(Genre, related_name="books")
    fans: "models.ManyToManyField[Author, Author]" = models.ManyToManyField(
        Author, related_name="+"
    )
    authors: "models.ManyToManyField[Author, Credit]" = models.ManyToManyField(
        Author, through="Credit", through_fields=("book", "author"), related_name="books"
    )
    sequel_to = models.OneToOneField("self", models.SET_NULL, null=True, related_name="sequel")
    comments = GenericRelation(
        Comment, content_type_field="kind", object_id_field="key", related_query_name="book"
    )

    @property
    def city(self) -> Any:
        return self.publisher.city if self.publisher else None

    @property
    def where(self) -> str:
        return f"{self.name} in {self.city}"


class Lendable(models.Model):
    """Another first table, with a key of its own."""

    lendable_key = models.BigAutoField(primary_key=True)
    days = models.IntegerField(default=1)

    class Meta:
        ordering = ("pk",)


class Reference(Book, Lendable):
    """Has two parents, and so a link that is not its key."""

    edition = models.IntegerField(default=1)


class Audio(Book):
    """A child of a child."""

    minutes = models.IntegerField(default=1)


class Classic(Book):
    class Meta:
        proxy = True


class Credit(models.Model):
    """A table between books and authors that has more to say, and a third key."""

    book = models.ForeignKey(Book, models.CASCADE, related_name="credits")
    author = models.ForeignKey(Author, models.CASCADE)
    added_by = models.ForeignKey(Author, models.SET_NULL, null=True, related_name="+")
    role = models.CharField(max_length=50, default="writer")

    class Meta:
        ordering = ("pk",)


class Chapter(models.Model):
    pk = models.CompositePrimaryKey("book_id", "number")
    book = models.ForeignKey(Book, models.CASCADE, related_name="chapters")
    number = models.IntegerField()
    title = models.CharField(max_length=50)

    class Meta:
        ordering = ("book_id", "number")
        constraints = (
            models.CheckConstraint(
                condition=models.Q(number__gte=0), name="bookshop_chapter_number"
            ),
        )


class Loan(models.Model):
    """Knows its book, but the book does not know it."""

    book = models.ForeignKey(Book, models.CASCADE, related_name="+")
    borrower = models.ForeignKey(Author, models.SET_NULL, null=True, related_name="loans")
    days = models.IntegerField(default=1)

    class Meta:
        ordering = ("pk",)


class Setting(Named):
    """Read as a whole."""

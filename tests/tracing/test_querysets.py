"""What ``get_queryset()`` adds is read: joins, subqueries, filters; judged by the oracle."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery
from rest_framework import serializers

from drf_webhooks.models import Endpoint
from drf_webhooks.registry import registry
from drf_webhooks.resources import ModelSerializerWebhook
from drf_webhooks.tracing.index import index
from tests.bookshop import world
from tests.bookshop.models import (
    Book,
    Chapter,
    Credit,
    Genre,
    Item,
    Loan,
    Publisher,
    Setting,
    Shelf,
)
from tests.oracle import judge, quietly

pytestmark = [pytest.mark.django_db, pytest.mark.oracle]


@pytest.fixture(autouse=True)
def _bookshop(everything: Endpoint) -> Iterator[None]:
    with registry.isolated():
        with quietly():
            world.make()
        yield


def declare(queryset: Callable[[], QuerySet[Any]], **attributes: Any) -> None:
    model = queryset().model

    class Found(serializers.ModelSerializer[Any]):
        found = serializers.CharField(default=None)

        class Meta:
            fields = ("pk", "found")

    Found.Meta.model = model
    type(
        "SomeWebhook",
        (ModelSerializerWebhook,),
        {
            "serializer_class": Found,
            "get_queryset": classmethod(lambda cls: queryset()),
            **attributes,
        },
    )


def loans(**condition: Any) -> Any:
    return Loan.objects.order_by("pk").filter(**condition)


CASES: dict[str, tuple[Callable[[], QuerySet[Any]], Callable[[], Any]]] = {
    "a count of rows": (
        lambda: Shelf.objects.annotate(found=Count("book")),
        lambda: Book.objects.order_by("pk").first().delete(),
    ),
    "a count over many-to-many": (
        lambda: Book.objects.annotate(found=Count("genres")),
        lambda: Book.genres.through.objects.all().delete(),
    ),
    "a count over many-to-many, backwards": (
        lambda: Genre.objects.annotate(found=Count("books__chapters")),
        lambda: Chapter.objects.order_by("pk").first().delete(),
    ),
    "a column behind two keys": (
        lambda: Credit.objects.annotate(found=F("book__publisher__name")),
        lambda: Publisher.objects.update(name="new"),
    ),
    "a subquery": (
        lambda: Book.objects.annotate(
            found=Subquery(loans(book=OuterRef("pk")).values("borrower__name")[:1])
        ),
        lambda: Loan.objects.update(borrower=None),
    ),
    "a subquery with a join": (
        lambda: Shelf.objects.annotate(found=Exists(loans(book__shelf=OuterRef("pk")))),
        lambda: Loan.objects.all().delete(),
    ),
    "a subquery of a joined row": (
        lambda: Credit.objects.annotate(found=Exists(loans(book=OuterRef("book__sequel_to")))),
        lambda: Loan.objects.all().delete(),
    ),
    "a subquery the other way round": (
        lambda: Book.objects.annotate(
            found=Subquery(Shelf.objects.filter(pk=OuterRef("shelf")).values("name")[:1])
        ),
        lambda: Shelf.objects.update(name="new"),
    ),
    "a subquery that names no key": (
        lambda: Shelf.objects.annotate(
            found=Subquery(Setting.objects.order_by("pk").values("note")[:1])
        ),
        lambda: Setting.objects.update(note="new"),
    ),
    "a subquery with a choice": (
        lambda: Shelf.objects.annotate(
            found=Exists(Book.objects.filter(Q(shelf=OuterRef("pk")) | Q(spare=OuterRef("pk"))))
        ),
        lambda: Book.objects.update(spare=None, shelf=None),
    ),
    "a subquery in a subquery": (
        lambda: Publisher.objects.annotate(
            found=Exists(
                Item.objects.filter(publisher=OuterRef("pk"), book__in=loans().values("book"))
            )
        ),
        lambda: Loan.objects.all().delete(),
    ),
}


@pytest.mark.parametrize("compares", [False, True], ids=["plain", "skip_unchanged"])
@pytest.mark.parametrize(("queryset", "change"), CASES.values(), ids=CASES)
def test_what_a_queryset_adds_is_noticed(
    queryset: Callable[[], QuerySet[Any]], change: Callable[[], Any], *, compares: bool
) -> None:
    declare(queryset, skip_unchanged=compares)

    verdict = judge(change)

    assert index().traces[0].error is None
    assert verdict.said
    assert verdict.missed == []
    assert verdict.wrong == []
    if compares:
        assert verdict.spurious == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda: Publisher.objects.update(name="gone"), id="by a joined row"),
        pytest.param(lambda: Loan.objects.all().delete(), id="by a subquery"),
    ],
)
def test_what_a_filter_reads_decides_which_objects_there_are(change: Callable[[], Any]) -> None:
    declare(
        lambda: (
            Book.objects.annotate(found=F("pages"))
            .filter(pk__in=loans().values("book"))
            .exclude(publisher__name="gone")
        ),
        skip_unchanged=True,
    )

    verdict = judge(change)

    assert {each[2] for each in verdict.said} == {"deleted"}
    assert verdict.missed == verdict.wrong == verdict.spurious == []

"""What a reader notes while code runs, and how it is spelled."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count, Exists, OuterRef, Q, Sum

from drf_webhooks.audit import describe
from drf_webhooks.models import Event
from drf_webhooks.session import disable_webhooks
from drf_webhooks.tracing import hooks
from drf_webhooks.tracing.learnt import is_valid
from drf_webhooks.tracing.paths import Path
from drf_webhooks.tracing.reads import MOST_STEPS, Read, Reader, current
from tests.app.models import (
    Address,
    Deposit,
    House,
    Landlord,
    Regular,
    Remark,
    RentalUnit,
    Tag,
    Tenant,
    User,
)
from tests.bookshop.models import Author, Book, Comment, Genre, Lendable, Loan, Publisher, Reference
from tests.factories import make_address, make_deposit

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    hooks.install()
    with disable_webhooks():
        yield


@pytest.fixture
def deposit() -> Deposit:
    made = make_deposit()
    assert made.unit is not None
    made.unit.tags.add(Tag.objects.create(name="new"))
    Remark.objects.create(text="late", target=made)
    return Deposit.objects.get(pk=made.pk)


def reads(instance: Any, code: Callable[[Any], Any]) -> list[Read]:
    with Reader(instance) as reader:
        code(instance)
    assert reader.unknown == []
    return list(reader.reads)


CASES: dict[str, tuple[Callable[[Deposit], Any], list[Read]]] = {
    "a chain": (
        lambda one: one.tenant.address,
        [Read(Tenant, "tenant"), Read(Address, "tenant__address")],
    ),
    "a query by key": (
        lambda one: list(Tenant.objects.filter(pk=one.tenant_id)),
        [Read(Tenant, "tenant")],
    ),
    "a query of its like": (
        lambda one: Deposit.objects.filter(tenant_id=one.tenant_id).count(),
        [Read(Deposit, "tenant__deposits")],
    ),
    "itself again": (lambda one: Deposit.objects.get(pk=one.pk), []),
    "a generic foreign key": (
        lambda one: Remark.objects.get().target,
        [Read(Remark, is_whole=True), Read(Deposit, is_whole=True)],
    ),
    "a generic relation": (lambda one: list(one.remarks.all()), [Read(Remark, "remarks")]),
    "a generic relation by hand": (
        lambda one: list(
            Remark.objects.filter(
                content_type=ContentType.objects.get_for_model(Deposit), object_id=one.pk
            )
        ),
        [Read(Remark, "remarks")],
    ),
    "half a generic relation": (
        lambda one: list(Remark.objects.filter(object_id=one.pk)),
        [Read(Remark, is_whole=True)],
    ),
    "a generic relation of another": (
        lambda one: list(
            Remark.objects.filter(
                content_type=ContentType.objects.get_for_model(Deposit), object_id=0
            )
        ),
        [Read(Remark, is_whole=True)],
    ),
    "a choice narrows nothing": (
        lambda one: Tenant.objects.filter(Q(deposits=one) | Q(name="x")).count(),
        [Read(Tenant, is_whole=True), Read(Deposit, is_whole=True)],
    ),
    "a negation narrows nothing": (
        lambda one: Deposit.objects.exclude(tenant=one.tenant_id).exists(),
        [Read(Deposit, is_whole=True)],
    ),
    "a count of distinct rows": (
        lambda one: Deposit.objects.filter(tenant=one.tenant_id).distinct()[:3].count(),
        [Read(Deposit, "tenant__deposits")],
    ),
    "tables of Django's and ours": (
        lambda one: (ContentType.objects.count(), Event.objects.count()),
        [],
    ),
    "many-to-many beyond": (
        lambda one: Tag.objects.filter(units__deposits=one).count(),
        [
            Read(Tag, "unit__tags"),
            Read(RentalUnit, "unit"),
        ],
    ),
    "an order by another table": (
        lambda one: list(Deposit.objects.filter(tenant=one.tenant_id).order_by("landlord__name")),
        [Read(Deposit, "tenant__deposits"), Read(Landlord, "tenant__deposits__landlord")],
    ),
    "a subquery in an annotation": (
        lambda one: list(
            Tenant.objects.filter(pk=one.tenant_id).annotate(
                n=Exists(Remark.objects.filter(object_id=OuterRef("pk")))
            )
        ),
        [Read(Remark, is_whole=True), Read(Tenant, "tenant")],
    ),
    "an aggregate of an annotation": (
        lambda one: (
            Deposit.objects.filter(tenant=one.tenant_id)
            .annotate(n=Count("remarks"))
            .aggregate(all=Sum("n"))
        ),
        [Read(Deposit, "tenant__deposits"), Read(Remark, "tenant__deposits__remarks")],
    ),
}


@pytest.mark.parametrize(("code", "expected"), CASES.values(), ids=CASES)
def test_each_dependency_is_spelled_once(
    code: Callable[[Deposit], Any], expected: list[Read], deposit: Deposit
) -> None:
    assert reads(deposit, code) == expected


def test_hidden_relations_and_what_is_beyond() -> None:
    book = Book.objects.create(name="book")
    borrower = Author.objects.create(name="author")
    Loan.objects.create(book=book, borrower=borrower)

    found = reads(book, lambda one: [each.borrower.user for each in Loan.objects.filter(book=one)])

    assert found == [
        Read(Loan, via=Loan, near="book"),
        Read(Author, via=Loan, near="book", entry="borrower"),
        Read(User, via=Loan, near="book", entry="borrower__user"),
    ]
    assert describe(found[0]) == "loans whose book is it"
    assert describe(found[1]) == "the borrower of loans whose book is it"


def test_a_hidden_relation_beyond_a_hidden_one_is_read_as_a_whole() -> None:
    hidden = Read(Book, "", via=Loan, near="book")

    assert hidden.follow(Loan._meta.get_field("book").remote_field) == Read(Loan, is_whole=True)
    assert hidden.point(Comment._meta.get_field("about"), Book) == Read(Book, is_whole=True)
    assert Read(Book, is_whole=True).follow(Book._meta.get_field("shelf")).is_whole


def test_beyond_a_generic_foreign_key() -> None:
    publisher = Publisher.objects.create(name="publisher")
    book = Book.objects.create(name="book", publisher=publisher)
    comment = Comment.objects.create(text="x", about=book)

    found = reads(Comment.objects.get(pk=comment.pk), lambda one: one.about.publisher)

    assert found == [
        Read(Book, generic="about"),
        Read(Publisher, via=Book, near="pk", entry="publisher", generic="about"),
    ]
    assert describe(found[0]) == "what its about points to"
    assert describe(found[1]) == "the publisher of what its about points to"
    assert describe(Read(Book, "loan", generic="about")) == "what its loan.about points to"


def test_a_generic_relation_joined_backwards() -> None:
    book = Book.objects.create(name="book")

    found = reads(book, lambda one: Comment.objects.filter(book__sequel_to=one).count())

    assert Read(Book, "sequel") in found
    assert found[0] == Read(Comment, "sequel__comments")


def test_a_generic_foreign_key_to_nothing() -> None:
    book = Book.objects.create(name="book")
    comment = Comment.objects.create(text="x", about=book)
    book.delete()

    assert reads(Comment(kind=comment.kind, key="0"), lambda one: one.about) == []


def test_parents_children_and_proxies_are_one_object() -> None:
    reference = Reference.objects.create(name="x")
    house = House.objects.create(name="house", landlord=Landlord.objects.create(name="x"))
    tenant = Tenant.objects.create(name="Ada", address=make_address())
    unit = RentalUnit.objects.get(pk=house.pk)

    assert reads(unit, lambda one: one.house.landlord)[-1] == Read(Landlord, "house__landlord")
    assert Read(RentalUnit, "house__rentalunit_ptr") in reads(
        unit, lambda one: one.house.rentalunit_ptr
    )
    assert reads(Regular.objects.get(pk=tenant.pk), lambda one: one.address)[0].lookup == "address"
    found = reads(Lendable.objects.get(pk=reference.lendable_key), lambda one: one.reference)
    assert found == [Read(Reference, "reference")]
    assert Read(House, "house").follow(RentalUnit._meta.get_field("house")) == Read(House, "house")
    back = Read(RentalUnit, "house__rentalunit_ptr").follow(RentalUnit._meta.get_field("house"))
    assert back == Read(House, "house")


def test_too_many_relations_in_a_row_are_reported() -> None:
    genre = None
    for number in range(MOST_STEPS + 3):
        genre = Genre.objects.create(name=str(number), parent=genre)

    def root(one: Genre) -> None:
        while one.parent:
            one = one.parent

    with Reader(genre) as reader:
        root(genre)

    assert len(reader.reads) == MOST_STEPS
    assert reader.unknown == [f"more than {MOST_STEPS} relations in a row, to bookshop.Genre"]


def test_a_reader_inside_a_reader_notes_for_itself(deposit: Deposit) -> None:
    with Reader(deposit) as outer:
        with Reader(deposit) as inner:
            assert current() is inner
            deposit.tenant.pk  # noqa: B018  # read
        assert current() is outer

    assert list(inner.reads) == [Read(Tenant, "tenant")]
    assert not outer.reads
    assert outer.statements == inner.statements == 1


def test_another_thread_is_not_watched(deposit: Deposit) -> None:
    found: list[Any] = []
    with Reader(deposit):
        thread = threading.Thread(target=lambda: found.append(current()))
        thread.start()
        thread.join(timeout=10)

    assert found == [None]
    assert current() is None


def test_code_that_fails_was_watched_until_then(deposit: Deposit) -> None:
    with pytest.raises(ZeroDivisionError), Reader(deposit) as reader:
        raise ZeroDivisionError(deposit.tenant)

    assert Read(Tenant, "tenant") in reader.reads
    assert current() is None


def test_what_cannot_be_analysed_is_reported_and_breaks_nothing(deposit: Deposit) -> None:
    class Odd(Reader):
        def note(self, reads: Any) -> Any:
            raise LookupError("odd")

    with Odd(deposit) as reader:
        assert deposit.tenant.pk
        assert Deposit.objects.filter(tenant=deposit.tenant_id).count() == 1

    assert [each.rpartition(": ")[2] for each in reader.unknown] == ["odd", "odd"]


def test_without_an_instance_queries_are_read_as_a_whole() -> None:
    with Reader() as reader:
        assert Landlord.objects.count() == 0

    assert list(reader.reads) == [Read(Landlord, is_whole=True)]


@pytest.mark.parametrize(
    ("read", "is_there"),
    [
        (Read(Tenant, "tenant"), True),
        (Read(Tenant, "renter"), False),
        (Read(Tenant, "amount"), False),
        (Read(Remark, via=Remark, near="object_id"), True),
        (Read(Remark, via=Remark, near="pk", entry="content_type"), True),
        (Read(Remark, via=Remark, near="gone"), False),
        (Read(Remark, "", generic="gone"), False),
        (Read(Remark, "remarks", generic="target"), True),
    ],
)
def test_stored_reads_are_checked_against_the_models(read: Read, *, is_there: bool) -> None:
    assert is_valid(read, Deposit) is is_there


def test_a_path_is_described_like_a_read() -> None:
    path = Path(None, Deposit, "tenant", None)

    assert describe(path) == "its tenant"

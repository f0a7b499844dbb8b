"""A small bookshop with two or more of everything, all of it connected."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from tests.bookshop import models as bookshop


def make() -> None:
    """Fill the tables."""
    countries = [
        bookshop.Country.objects.create(code=code, name=name)
        for code, name in (("at", "Austria"), ("it", "Italy"))
    ]
    cities = [
        bookshop.City.objects.create(name=name, slug=name.lower(), country=country)
        for name, country in zip(("Graz", "Rome"), countries, strict=True)
    ]
    shelves = [bookshop.Shelf.objects.create(name=f"shelf {n}") for n in range(3)]
    genres = [bookshop.Genre.objects.create(name=f"genre {n}") for n in range(2)]
    genres[1].parent = genres[0]
    genres[1].save()
    publishers = [
        bookshop.Publisher.objects.create(name=f"publisher {n}", city=cities[n]) for n in range(2)
    ]
    bookshop.Publisher.objects.create(name="imprint", parent=publishers[0], city=cities[1])
    user_model = get_user_model()
    groups = [Group.objects.create(name=f"group {n}") for n in range(2)]
    authors = []
    for number in range(3):
        user = user_model.objects.create(username=f"user {number}")
        user.groups.add(groups[number % 2])
        authors.append(
            bookshop.Author.objects.create(
                name=f"author {number}",
                city=cities[number % 2],
                born_in=cities[(number + 1) % 2],
                user=user,
            )
        )
    authors[0].friends.add(authors[1])
    authors[0].mentors.add(authors[2])
    books = [
        bookshop.Book.objects.create(
            name=f"book {number}",
            price=number + 1,
            publisher=publishers[number],
            shelf=shelves[number],
            spare=shelves[1],
        )
        for number in range(2)
    ]
    books.append(bookshop.Audio.objects.create(name="audio", minutes=9, shelf=shelves[1]))
    books.append(bookshop.Reference.objects.create(name="reference", publisher=publishers[1]))
    # One whose two keys differ.
    bookshop.Lendable.objects.create(days=4)
    books.append(bookshop.Reference.objects.create(name="second", days=7, spare=shelves[2]))
    bookshop.Item.objects.create(name="no book", publisher=publishers[0])
    books[1].sequel_to = books[0]
    books[1].save()
    for number, book in enumerate(books[:3]):
        book.genres.add(genres[number % 2])
        book.fans.add(authors[number])
        bookshop.Credit.objects.create(
            book=book, author=authors[number], added_by=authors[number - 1]
        )
        bookshop.Chapter.objects.create(book_id=book.pk, number=1, title=f"chapter {number}")
        bookshop.Loan.objects.create(book_id=book.pk, borrower=authors[number])
        bookshop.Label.objects.create(text=f"label {number}", target=publishers[number % 2])
        bookshop.Comment.objects.create(
            text=f"comment {number}",
            about=bookshop.Book.objects.get(pk=book.pk),
            author=authors[number],
        )
    bookshop.Setting.objects.create(name="motto", note="old")

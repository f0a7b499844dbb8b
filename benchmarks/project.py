"""The project that is measured: its view, its URLs, and the ways in which it saves deposits.

Each way takes the deposits, saves each once, and knows nothing of the library.
"""

from contextlib import ExitStack
from typing import ClassVar

from django.db import transaction
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from tests.app.models import Deposit

__all__ = [
    "in_a_transaction",
    "in_autocommit",
    "request_of_many_transactions",
    "request_of_one_transaction",
    "urlpatterns",
]

_client = APIClient()


class AmountSerializer(serializers.ModelSerializer[Deposit]):
    class Meta:
        model = Deposit
        fields: ClassVar = ["id", "amount"]
        extra_kwargs: ClassVar = {"id": {"read_only": False}}


class Amounts(APIView):
    """Set the amounts of some deposits, all of them or, with ``?each``, each for itself."""

    def patch(self, request: Request) -> Response:
        given = AmountSerializer(data=request.data, many=True)
        given.is_valid(raise_exception=True)
        amounts = {each["id"]: each["amount"] for each in given.validated_data}
        deposits = Deposit.objects.in_bulk(amounts)
        with ExitStack() as stack:
            if "each" not in request.query_params:
                stack.enter_context(transaction.atomic())
            for pk, deposit in deposits.items():
                deposit.amount = amounts[pk]
                with transaction.atomic(savepoint=False):
                    deposit.save()
        return Response(AmountSerializer(deposits.values(), many=True).data)


urlpatterns = [path("amounts/", Amounts.as_view())]


def in_a_transaction(deposits: list[Deposit]) -> None:
    """Save in one ``atomic()`` block."""
    with transaction.atomic():
        for each in deposits:
            each.save()


def in_autocommit(deposits: list[Deposit]) -> None:
    """Save without a transaction."""
    for each in deposits:
        each.save()


def request_of_one_transaction(deposits: list[Deposit]) -> None:
    """Have a request save all in one transaction."""
    _patch("/amounts/", deposits)


def request_of_many_transactions(deposits: list[Deposit]) -> None:
    """Have a request save each in a transaction of its own."""
    _patch("/amounts/?each", deposits)


def _patch(url: str, deposits: list[Deposit]) -> None:
    data = [{"id": each.pk, "amount": str(each.amount)} for each in deposits]
    response = _client.patch(url, data, format="json")
    assert response.status_code == 200, response.content

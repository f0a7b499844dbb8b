"""The API of a side for its users, and for the other side."""

import json
import uuid
from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from standardwebhooks import Webhook, WebhookVerificationError

from drf_webhooks.models import Delivery, Endpoint
from drf_webhooks.session import Origin, webhook_signal_session
from example.duplex.models import Contact, change, mirror
from example.duplex.serializers import ContactSerializer


class ContactView(APIView):
    """``PUT`` and ``DELETE`` by users of this side."""

    def put(self, request: Request, pk: uuid.UUID) -> Response:
        change(pk, name=request.data["name"], is_deleted=False)
        return Response(status=204)

    def delete(self, request: Request, pk: uuid.UUID) -> Response:
        change(pk, is_deleted=True)
        return Response(status=204)


class HookView(APIView):
    """``POST`` by the other side: what has changed there."""

    def post(self, request: Request) -> Response:
        try:
            body = request._request.body
            message: Any = Webhook(settings.SECRET).verify(body, dict(request.headers))
        except WebhookVerificationError:
            return Response(status=403)
        written = ContactSerializer(data=message["data"])
        written.is_valid(raise_exception=True)
        fields = dict(written.validated_data)
        # What comes from there is not said to there: its endpoint ignores its own changes.
        # Whoever else listens to this side hears of it.
        there = Endpoint.objects.get(url=settings.OTHER_URL)
        with webhook_signal_session(origin=Origin(what="mirror", endpoint=there.pk)):
            is_new = mirror(fields.pop("id"), **fields)
        return Response(json.dumps(is_new))


class StateView(APIView):
    """``GET`` by the demo: all contacts, what waits, and how many messages there were."""

    def get(self, request: Request) -> Response:
        return Response(
            {
                "contacts": ContactSerializer(Contact.objects.order_by("pk"), many=True).data,
                "waiting": Delivery.objects.exclude(state=Delivery.State.DELIVERED).count(),
                "messages": Delivery.objects.count(),
            }
        )

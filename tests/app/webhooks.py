"""The resources of the project under test."""

from drf_webhooks.utils import ModelSerializerWebhook
from tests.app.models import Document, User
from tests.app.serializers import (
    DepositSerializer,
    DocumentSerializer,
    LandlordWithUnitsSerializer,
)


class DepositWebhook(ModelSerializerWebhook):
    serializer_class = DepositSerializer
    base_name = "core.deposit"


class LandlordWebhook(ModelSerializerWebhook):
    serializer_class = LandlordWithUnitsSerializer
    base_name = "core.landlord"


class DocumentWebhook(ModelSerializerWebhook):
    serializer_class = DocumentSerializer
    base_name = "core.document"

    @classmethod
    def get_owner(cls, instance: Document) -> User | None:
        return instance.user

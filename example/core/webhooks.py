"""What the business tells its customers. Found at start-up, like ``admin.py``."""

from drf_webhooks.utils import ModelSerializerWebhook
from example.core.serializers import DepositSerializer, PortfolioSerializer


class DepositSerializerWebhook(ModelSerializerWebhook):
    """A deposit was paid, changed or returned."""

    serializer_class = DepositSerializer
    base_name = "core.deposit"


class LandlordSerializerWebhook(ModelSerializerWebhook):
    """A landlord's units have changed."""

    serializer_class = PortfolioSerializer
    base_name = "core.landlord"

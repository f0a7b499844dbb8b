"""What each side tells the other."""

from drf_webhooks.utils import ModelSerializerWebhook
from example.duplex.serializers import ContactSerializer


class ContactWebhook(ModelSerializerWebhook):
    serializer_class = ContactSerializer
    base_name = "duplex.contact"

"""The page that Prometheus reads. Closed, unless a token or a permission opens it."""

import re
from typing import Any

from django.db import router
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from drf_webhooks.conf import config
from drf_webhooks.contrib.prometheus.metrics import registry
from drf_webhooks.models import Delivery

__all__ = ["metrics"]


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics, in the format that is asked for."""
    if not _is_allowed(request):
        return HttpResponse("Forbidden", status=403, content_type="text/plain")
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    using = router.db_for_write(Delivery)
    return HttpResponse(encode(registry(using)), content_type=content_type)


def _is_allowed(request: HttpRequest) -> bool:
    token = config().METRICS_TOKEN
    given = re.fullmatch(r"(?i:bearer) +(\S+)", request.headers.get("authorization", ""))
    if token and given and constant_time_compare(given[1], token):
        return True
    user: Any = getattr(request, "user", None)
    return user is not None and user.is_staff and user.has_perm("drf_webhooks.view_delivery")

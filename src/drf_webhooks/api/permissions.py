"""Who may use the API at all, and who may see a secret again."""

from typing import Any

from rest_framework.permissions import BasePermission

__all__ = ["HasOwner", "MayRevealSecret"]


class HasOwner(BasePermission):
    """Whoever a request is about owns endpoints, or could. Refuses anonymous requests."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return view.owned.owner is not None


class MayRevealSecret(BasePermission):
    """Users with the permission ``drf_webhooks.reveal_secret``."""

    message = "To see a secret takes the permission drf_webhooks.reveal_secret."

    def has_permission(self, request: Any, view: Any) -> bool:
        user = request.user
        return bool(user and user.has_perm("drf_webhooks.reveal_secret"))

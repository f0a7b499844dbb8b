"""Have drf-spectacular describe the answers of the REST API.

It is registered by being imported, which the app does where drf-spectacular is an app too.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import get_class

__all__ = ["OwnedViewExtension"]


class OwnedViewExtension(OpenApiViewExtension):  # type: ignore[no-untyped-call]  # theirs
    """Describes our views, and those that a project makes of them."""

    target_class = "drf_webhooks.api.views.OwnedViewSet"
    match_subclasses = True

    def view_replacement(self) -> Any:
        """Return the view with a schema that says more, if drf-spectacular makes its schema."""
        made = get_class(self.target.schema)
        if not issubclass(made, AutoSchema):
            return self.target
        # Views ask for the project's settings, and so for its code: not before it is needed.
        from drf_webhooks.contrib.spectacular.answers import OwnedSchema  # noqa: PLC0415

        schema = type(made.__name__, (OwnedSchema, made), {})
        fields = {"schema": schema(), "__doc__": self.target.__doc__}
        return type(self.target.__name__, (self.target,), fields)

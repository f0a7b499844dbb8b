"""The form that the admin has for an endpoint."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from drf_webhooks.conf import config
from drf_webhooks.delivery.formats import names, problem
from drf_webhooks.fields import HeadersFormField
from drf_webhooks.models import Endpoint
from drf_webhooks.secret_keys import generate

__all__ = ["EndpointForm"]


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """An endpoint with the formats that can be used here, and without what is secret of it."""

    signature = forms.ChoiceField(
        label=_("signature"),
        choices=[("v1", _("HMAC, with a secret (v1)")), ("v1a", _("ed25519, public key (v1a)"))],
        required=False,
        help_text=_("For a secret that is made."),
    )

    class Meta:
        model = Endpoint
        fields = (
            "owner",
            "url",
            "event_types",
            "description",
            "state",
            "method",
            "format",
            "headers",
            "secret",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._headers = dict(self.instance.headers) if "headers" in self.fields else {}
        if "secret" not in self.fields:
            del self.fields["signature"]
        else:
            self.fields["secret"] = forms.CharField(
                label=self.fields["secret"].label,
                # Not shown again after a mistake.
                widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
                required=False,
                help_text=_("By default one is made, and shown once."),
            )
        if "format" in self.fields:
            choices = [(name, name) for name in names(config())]
            self.fields["format"] = forms.ChoiceField(
                choices=choices, label=self.fields["format"].label
            )

    def clean_format(self) -> str:
        chosen: str = self.cleaned_data["format"]
        if found := problem(chosen, config()):
            raise forms.ValidationError(found)
        return chosen

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "secret" in self.fields and not cleaned.get("secret"):
            cleaned["secret"] = generate(cleaned.get("signature") or "v1")
        return cleaned

    def clean_headers(self) -> dict[str, str]:
        field = self.fields["headers"]
        assert isinstance(field, HeadersFormField)  # noqa: S101  # for the types only
        return field.kept(self.cleaned_data["headers"], self._headers)

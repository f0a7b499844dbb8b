"""Every exception that this package raises on purpose.

WebhookError
├── ConfigurationError          DRF_WEBHOOKS or a declaration cannot work as written
├── FormatError                 a message cannot be written in an endpoint's format
├── PayloadError                an object could not be serialized
└── RecordingError              events could not be stored before a commit
"""

__all__ = [
    "ConfigurationError",
    "FormatError",
    "PayloadError",
    "RecordingError",
    "WebhookError",
]


class WebhookError(Exception):
    """The base of this package's exceptions."""


class ConfigurationError(WebhookError):
    """A setting or a declaration cannot work as it is written."""


class FormatError(WebhookError):
    """A message cannot be written in the format that an endpoint has."""


class PayloadError(WebhookError):
    """A base object could not be turned into JSON."""


class RecordingError(WebhookError):
    """Events could not be stored, so the transaction that they belong to was rolled back."""

"""Every exception that this package raises on purpose.

WebhookError
├── ConfigurationError          DRF_WEBHOOKS or a declaration cannot work as written
├── FormatError                 a message cannot be written in an endpoint's format
├── PayloadError                an object could not be serialized
├── RecordingError              events could not be stored before a commit
├── RecoveryError               no more recoveries can be asked for now
├── RotationError               an endpoint's secret cannot be replaced now
├── SecretError                 a secret cannot be decrypted
└── VerificationError           an endpoint is not verified, or cannot be
"""

from datetime import datetime

__all__ = [
    "ConfigurationError",
    "FormatError",
    "PayloadError",
    "RecordingError",
    "RecoveryError",
    "RotationError",
    "SecretError",
    "VerificationError",
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


class RecoveryError(WebhookError):
    """No more recoveries can be asked for now."""


class RotationError(WebhookError):
    """An endpoint's secret cannot be replaced now.

    ``possible_at`` is when it will be possible, or ``None`` if another process was faster.
    """

    def __init__(self, message: str, *, possible_at: datetime | None = None) -> None:
        super().__init__(message)
        self.possible_at = possible_at


class SecretError(WebhookError):
    """A secret cannot be decrypted by the keys that there are."""


class VerificationError(WebhookError):
    """An endpoint is not verified, or there is nothing to verify."""

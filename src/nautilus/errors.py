"""Every failure a caller can see.

NautilusError
├── BadRequestError             the caller can fix it
│   ├── BadAudioError           the bytes are not audio we can decode
│   │   ├── AudioTooShortError
│   │   └── AudioTooLongError
│   ├── UploadTooLargeError
│   ├── HeadTooLargeError       the head of a request, not its body
│   ├── BodyTooSlowError        a body does not come on
│   ├── OriginRefusedError      a web page of others asks
│   ├── HostRefusedError        the server is called by a name that is not its own
│   ├── AddressRefusedError     a URL leads where callers may not send this server
│   ├── FetchRefusedError       what a URL leads to cannot be had, and asking again won't help
│   ├── IdleError               a live stream brought nothing for too long
│   ├── UnreadError             a live stream's client read nothing for too long
│   ├── SessionGoneError        a live stream that can't be resumed
│   ├── UnauthorizedError       no key, or one that is unknown, has expired or was revoked
│   ├── ForbiddenError          the key is valid, and not for this
│   ├── KeyNotFoundError        no such key to manage
│   ├── UnsupportedError        the model or the server cannot do that
│   ├── UnknownModelError
│   ├── JobNotFoundError
│   ├── UploadNotFoundError
│   ├── DeliveryNotFoundError
│   ├── JobConflictError        the job's status, or an idempotency key, forbids it
│   └── ResultGoneError         the result was kept as long as was said
├── LimitError                  the caller has had its share for now
├── OverloadedError             the caller can retry later
├── FetchError                  what a URL leads to cannot be had just now
├── NotReadyError               still loading; the caller can retry soon
├── DeadlineError               took longer than the server allows
├── StorageError                the database or the blob store can't be reached, or is full
├── ConfigurationError          the operator must change a setting
├── ModelLoadError              the operator must look at a model
└── EngineError                 a model raised while transcribing
    └── ModelDiedError          its process died, twice
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class NautilusError(Exception):
    """Base of all expected failures."""

    code: ClassVar[str] = "internal_error"
    """Stable, machine-readable name; part of the public API."""


class BadRequestError(NautilusError):
    """The request cannot be served as it stands."""

    code = "bad_request"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        """The request field that is to blame, where there is one."""


class BadAudioError(BadRequestError):
    """The bytes are not audio we can decode."""

    code = "bad_audio"

    def __init__(self, message: str, param: str | None = "file") -> None:
        super().__init__(message, param)


class AudioTooShortError(BadAudioError):
    """Less audio than the server accepts."""

    code = "audio_too_short"

    def __init__(self, seconds: float, at_least: float) -> None:
        super().__init__(f"The audio lasts {seconds:.2f} s; send at least {at_least:g} s.")


class AudioTooLongError(BadAudioError):
    """More audio than the server accepts."""

    code = "audio_too_long"

    def __init__(self, at_most: float) -> None:
        super().__init__(f"The audio lasts longer than {at_most:g} s; send it in shorter parts.")


class UploadTooLargeError(BadRequestError):
    """More bytes than the server accepts."""

    code = "upload_too_large"

    def __init__(self, at_most: int, what: str = "The request", param: str = "file") -> None:
        super().__init__(
            f"{what} is larger than {at_most} bytes; send a compressed format (Opus, FLAC) or a part of it.", param
        )


class HeadTooLargeError(BadRequestError):
    """The head of a request is larger than the server accepts."""

    code = "head_too_large"

    def __init__(self, at_most: int) -> None:
        super().__init__(f"The headers of the request take more than {at_most} bytes; send fewer, or shorter ones.")


class BodyTooSlowError(BadRequestError):
    """A body does not come on."""

    code = "body_too_slow"

    def __init__(self, read: int, seconds: float) -> None:
        super().__init__(
            f"Of the body, only {read} bytes came in {seconds:.0f} s of waiting; send it over a faster connection, "
            "or in a compressed format (Opus, FLAC)."
        )


class OriginRefusedError(BadRequestError):
    """A web page of another origin asks a server that asks for no keys."""

    code = "origin_refused"

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"Pages of {origin[:200]} may not ask this server. Its operator allows them by NAUTILUS_CORS__ORIGINS.",
            "Origin",
        )


class HostRefusedError(BadRequestError):
    """The server is called by a name that is not its own: a page may have pointed that name here."""

    code = "host_refused"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"This server is not called '{host[:200]}'. Its operator allows further names by NAUTILUS_HTTP__HOSTS.",
            "Host",
        )


class AddressRefusedError(BadRequestError):
    """A URL leads where callers may not send this server."""

    code = "address_refused"


class FetchRefusedError(BadRequestError):
    """What a URL leads to cannot be had, and asking again won't help."""

    code = "fetch_refused"


class FetchError(NautilusError):
    """What a URL leads to cannot be had just now."""

    code = "fetch_failed"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which to try again, where the other side said so."""


class UnsupportedError(BadRequestError):
    """A field asks for something that the model or the server cannot do."""

    code = "unsupported"


class UnknownModelError(BadRequestError):
    """No such model in the catalog."""

    code = "model_not_found"

    def __init__(self, name: str, known: tuple[str, ...] = ()) -> None:
        offer = f" Available: {', '.join(known)}." if known else ""
        super().__init__(f"There is no model named '{name[:200]}' on this server.{offer}", "model")


class JobNotFoundError(BadRequestError):
    """No such job, or it is somebody else's."""

    code = "job_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no job {name[:80]}. GET /v1/audio/transcriptions/jobs lists yours.", "id")


class UploadNotFoundError(BadRequestError):
    """No such upload that waits, or it is somebody else's."""

    code = "upload_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"No upload {name[:80]} waits: it is unknown, has expired, or a job has taken it. POST /v1/uploads again.",
            "upload",
        )


class DeliveryNotFoundError(BadRequestError):
    """No such webhook that could be sent again, or it is somebody else's."""

    code = "delivery_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"No webhook {name[:80]} can be sent again: it is unknown, or on its way already. "
            "GET /v1/webhooks/deliveries lists yours that were given up.",
            "id",
        )


class JobConflictError(BadRequestError):
    """What is asked for does not go with the job as it is."""

    code = "job_conflict"


class ResultGoneError(BadRequestError):
    """The result was kept as long as was said, and is gone."""

    code = "result_gone"

    def __init__(self) -> None:
        super().__init__("The result has expired and was deleted; send the audio as a new job.", "id")


class LimitError(NautilusError):
    """The caller has had its share for now."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which there is room again."""


class OverloadedError(NautilusError):
    """No room in the queue right now."""

    code = "overloaded"

    def __init__(self, retry_after: float, why: str = "Too many requests are waiting") -> None:
        super().__init__(f"{why}; retry in {max(1, round(retry_after))} s.")
        self.retry_after = retry_after
        """Seconds after which a place is likely to be free."""


class NotReadyError(NautilusError):
    """The model is still loading."""

    code = "not_ready"

    def __init__(self, model: str = "the default model", progress: str = "starting") -> None:
        super().__init__(f"The model is still loading ({model}: {progress}); retry in a few seconds.")
        self.retry_after = 2.0


class DeadlineError(NautilusError):
    """The request took longer than the server allows."""

    code = "deadline_exceeded"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request was given up after {seconds:g} s; send shorter audio.")


class IdleError(BadRequestError):
    """A live stream brought nothing for longer than the server waits."""

    code = "idle"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Nothing came for {seconds:g} s; connect again when there is sound to send.")


class UnreadError(BadRequestError):
    """A live stream's client took no event for longer than the server waits."""

    code = "unread"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"No event was read for {seconds:g} s; read events while you send sound.")


class SessionGoneError(BadRequestError):
    """A live stream cannot be resumed."""

    code = "session_gone"

    def __init__(self, why: str) -> None:
        super().__init__(f"This stream cannot be resumed: {why}. Open a new one.", "session")


class UnauthorizedError(BadRequestError):
    """There is no key, or it is unknown, has expired or was revoked: which of these is nobody's business."""

    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__(
            "The API key or client secret is missing, wrong or expired; send a valid one as 'Authorization: Bearer …'."
        )


class ForbiddenError(BadRequestError):
    """The key is valid, but not for this."""

    code = "forbidden"


class KeyNotFoundError(BadRequestError):
    """No such key, or one that has ended already."""

    code = "key_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no key {name[:80]} that could be changed. GET /v1/admin/keys lists all.", "id")


class StorageError(NautilusError):
    """The database or the blob store cannot be reached, or is full; the message says which and why."""

    code = "storage_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.retry_after = 10.0


class ConfigurationError(NautilusError):
    """A setting is wrong; the message names it and the fix."""

    code = "configuration_error"


class ModelLoadError(NautilusError):
    """A model could not be fetched or loaded; the message says which and why."""

    code = "model_load_error"


class EngineError(NautilusError):
    """The model raised while transcribing."""

    code = "engine_error"


class ModelDiedError(EngineError):
    """The model's process died while it heard this, and once more when it heard it again."""

    code = "model_died"


@contextmanager
def first_error() -> Iterator[None]:
    """Let the first failure out of a task group as itself."""
    try:
        yield
    except ExceptionGroup as group:
        error: Exception = group
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        raise error from error.__cause__

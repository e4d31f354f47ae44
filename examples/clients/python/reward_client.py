"""A client of rlhf.reward.v1.RewardService: deadlines, retries that keep to what the server asks for, TLS, tokens, decoded errors.

In: texts. Out: the messages of rlhf/reward/v1/reward_pb2, generated from proto/rlhf/reward/v1/reward.proto (generate.py).
"""
from __future__ import annotations

import dataclasses
import ipaddress
import json
import pathlib
import random
import time
from collections.abc import Callable, Iterable

import grpc
from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2 as details
from grpc_status import rpc_status

from rlhf.reward.v1 import reward_pb2, reward_pb2_grpc

# Score has no side effects, so it may be sent again after these; other failures would only repeat.
RETRYABLE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
SERVICE = reward_pb2.DESCRIPTOR.services_by_name["RewardService"].full_name
CHANNEL_OPTIONS = [
    # a name that stands for several servers is balanced, and servers that say NOT_SERVING are passed over
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": SERVICE}})),
    ("grpc.enable_retries", 0),  # this file retries, so that one rule holds
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 60_000),
]


@dataclasses.dataclass(eq=False)  # exceptions are hashed by identity
class RewardError(Exception):
    """A call that failed, with the details of its google.rpc.Status. `details` holds all of them, decoded."""

    status: str  # "INVALID_ARGUMENT"
    message: str
    reason: str = ""  # ErrorInfo.reason, stable: "INPUT_TOO_LONG"
    facts: dict[str, str] = dataclasses.field(default_factory=dict)  # ErrorInfo.metadata
    violations: dict[str, str] = dataclasses.field(default_factory=dict)  # BadRequest: {"texts[3]": "has 733 tokens; …"}
    retry_delay: float | None = None  # RetryInfo, seconds
    pushback: float | None = None  # grpc-retry-pushback-ms, seconds; negative: do not send again
    request_id: str = ""  # what the server's log has the call under
    details: list[message.Message] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        fields = "".join(f"\n  {field}: {text}" for field, text in self.violations.items())
        return f"{self.status}{f' ({self.reason})' if self.reason else ''}: {self.message}{fields}"

    @classmethod
    def of(cls, call: grpc.RpcError) -> RewardError:
        """Reads a failed call. Details of unknown type, or that cannot be read, are left out."""
        error = cls(call.code().name, call.details() or "")
        for key, value in call.trailing_metadata() or ():
            if key == "grpc-retry-pushback-ms":
                error.pushback = int(value) / 1000 if value.lstrip("-").isdigit() else -1.0
        try:
            status = rpc_status.from_call(call)
        except ValueError:  # code or message differ from the call's own: a broken server must not hide its error
            status = None
        for packed in status.details if status else ():
            error._add(packed)
        return error

    def _add(self, packed: any_pb2.Any) -> None:
        kinds = (details.BadRequest, details.ErrorInfo, details.RetryInfo, details.RequestInfo, details.ResourceInfo, details.PreconditionFailure)
        for kind in kinds:
            detail = kind()
            if not packed.Is(kind.DESCRIPTOR) or not packed.Unpack(detail):
                continue
            self.details.append(detail)
            if kind is details.BadRequest:
                self.violations.update({v.field: v.description for v in detail.field_violations})
            elif kind is details.ErrorInfo:
                self.reason, self.facts = detail.reason, dict(detail.metadata)
            elif kind is details.RetryInfo:
                self.retry_delay = detail.retry_delay.ToTimedelta().total_seconds()
            elif kind is details.RequestInfo:
                self.request_id = detail.request_id


class RewardClient:
    """Scores texts on one reward server, or on all that a name stands for. One client per program: it keeps its connection."""

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 30.0,
        attempts: int = 4,
        tls: bool = False,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        token: str | Callable[[], str] | None = None,
    ) -> None:
        """`timeout` is in seconds, for a call with all its attempts. TLS is used with `tls` (the machine's authorities), `ca_file`
        (PEM), or `cert_file` with `key_file` (mTLS). `token` is the bearer token, or gives the current one; ValueError where it
        would travel in the clear to another machine."""
        secure = tls or ca_file is not None or cert_file is not None
        if token is not None and not secure and not _is_loopback(address):
            raise ValueError(f"address: {address} is not on this machine and has no TLS; a token is not sent there in the clear")
        self._timeout, self._attempts, self._token = timeout, attempts, token
        if secure:
            pem = [pathlib.Path(file).read_bytes() if file else None for file in (ca_file, key_file, cert_file)]
            self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*pem), CHANNEL_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address, CHANNEL_OPTIONS)
        self._stub = reward_pb2_grpc.RewardServiceStub(self._channel)

    def score(
        self,
        texts: Iterable[str],
        *,
        text_pairs: Iterable[str] = (),
        label: str | None = None,
        function: str = "UNSPECIFIED",
        truncate: bool | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> reward_pb2.ScoreResponse:
        """Scores a batch; results[i] belongs to texts[i]. `function` is SOFTMAX, SIGMOID or NONE (logits), else the server's own.
        Raises RewardError; either every text is scored or the call fails."""
        request = reward_pb2.ScoreRequest(
            texts=texts, text_pairs=text_pairs, label=label, function=f"SCORE_FUNCTION_{function}", truncate=truncate, model=model
        )
        return self._call(self._stub.Score, request, timeout)

    def info(self, timeout: float | None = None) -> reward_pb2.GetInfoResponse:
        """What is served: model, labels, defaults, limits. Raises RewardError."""
        return self._call(self._stub.GetInfo, reward_pb2.GetInfoRequest(), timeout)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> RewardClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: grpc.UnaryUnaryMultiCallable, request: message.Message, timeout: float | None) -> message.Message:
        end = time.monotonic() + (self._timeout if timeout is None else timeout)
        for attempt in range(1, self._attempts + 1):
            try:
                return method(request, timeout=max(0.0, end - time.monotonic()), metadata=self._metadata())
            except grpc.RpcError as failure:
                error = RewardError.of(failure)
                delay = _delay(error, attempt)
                if delay is None or attempt == self._attempts or time.monotonic() + delay >= end:
                    raise error from failure
                time.sleep(delay)
        raise ValueError(f"attempts: {self._attempts}; accepted: 1 or more")

    def _metadata(self) -> list[tuple[str, str]]:
        if self._token is None:
            return []
        return [("authorization", f"Bearer {self._token() if callable(self._token) else self._token}")]


def _delay(error: RewardError, attempt: int) -> float | None:
    """Seconds until the next attempt: what the server asks for, or longer by jittered backoff; None where it would fail alike."""
    if error.status not in RETRYABLE or (error.pushback is not None and error.pushback < 0):
        return None
    return max(error.retry_delay or 0.0, error.pushback or 0.0, random.uniform(0, min(5.0, 0.1 * 2**attempt)))


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].rpartition("/")[2].strip("[]")
    if address.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

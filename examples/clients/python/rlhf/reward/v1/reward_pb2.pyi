from rlhf.types.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreFunction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCORE_FUNCTION_UNSPECIFIED: _ClassVar[ScoreFunction]
    SCORE_FUNCTION_SOFTMAX: _ClassVar[ScoreFunction]
    SCORE_FUNCTION_SIGMOID: _ClassVar[ScoreFunction]
    SCORE_FUNCTION_NONE: _ClassVar[ScoreFunction]
SCORE_FUNCTION_UNSPECIFIED: ScoreFunction
SCORE_FUNCTION_SOFTMAX: ScoreFunction
SCORE_FUNCTION_SIGMOID: ScoreFunction
SCORE_FUNCTION_NONE: ScoreFunction

class ScoreRequest(_message.Message):
    __slots__ = ("texts", "text_pairs", "label", "function", "truncate", "model")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    TEXT_PAIRS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    text_pairs: _containers.RepeatedScalarFieldContainer[str]
    label: str
    function: ScoreFunction
    truncate: bool
    model: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., text_pairs: _Optional[_Iterable[str]] = ..., label: _Optional[str] = ..., function: _Optional[_Union[ScoreFunction, str]] = ..., truncate: _Optional[bool] = ..., model: _Optional[str] = ...) -> None: ...

class LabelScore(_message.Message):
    __slots__ = ("label", "score", "logit")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    label: str
    score: float
    logit: float
    def __init__(self, label: _Optional[str] = ..., score: _Optional[float] = ..., logit: _Optional[float] = ...) -> None: ...

class TextScore(_message.Message):
    __slots__ = ("reward", "scores", "token_count", "truncated")
    REWARD_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    reward: float
    scores: _containers.RepeatedCompositeFieldContainer[LabelScore]
    token_count: int
    truncated: bool
    def __init__(self, reward: _Optional[float] = ..., scores: _Optional[_Iterable[_Union[LabelScore, _Mapping]]] = ..., token_count: _Optional[int] = ..., truncated: _Optional[bool] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("results", "model", "weights", "function", "label", "timing")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TextScore]
    model: str
    weights: _types_pb2.WeightsRef
    function: ScoreFunction
    label: str
    timing: _types_pb2.Timing
    def __init__(self, results: _Optional[_Iterable[_Union[TextScore, _Mapping]]] = ..., model: _Optional[str] = ..., weights: _Optional[_Union[_types_pb2.WeightsRef, _Mapping]] = ..., function: _Optional[_Union[ScoreFunction, str]] = ..., label: _Optional[str] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ...) -> None: ...

class GetInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("model", "labels", "default_label", "default_function", "server")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_LABEL_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelInfo
    labels: _containers.RepeatedScalarFieldContainer[str]
    default_label: str
    default_function: ScoreFunction
    server: _types_pb2.ServerInfo
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., default_label: _Optional[str] = ..., default_function: _Optional[_Union[ScoreFunction, str]] = ..., server: _Optional[_Union[_types_pb2.ServerInfo, _Mapping]] = ...) -> None: ...

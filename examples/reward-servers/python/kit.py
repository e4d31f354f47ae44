"""What a reward server has beside its model: errors that name the field, health, reflection, an end that loses no call."""
import signal
from concurrent import futures

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_status import rpc_status

from rlhf.reward.v1 import reward_pb2, reward_pb2_grpc

SERVICE = reward_pb2.DESCRIPTOR.services_by_name["RewardService"].full_name


def refuse(context, field, description, *, unless, status="INVALID_ARGUMENT"):
    """Ends the call with google.rpc.Status and its details, BadRequest and ErrorInfo, unless a condition holds."""
    if unless:
        return
    reason = {"INVALID_ARGUMENT": "INVALID_FIELD", "NOT_FOUND": "UNKNOWN_MODEL"}[status]
    packed = [any_pb2.Any(), any_pb2.Any()]
    packed[0].Pack(error_details_pb2.BadRequest(field_violations=[{"field": field, "description": description}]))
    packed[1].Pack(error_details_pb2.ErrorInfo(reason=reason, domain="example"))
    code = grpc.StatusCode[status].value[0]
    details = status_pb2.Status(code=code, message=f"{field}: {description}", details=packed)
    context.abort_with_status(rpc_status.to_status(details))


def reflect(server, services):
    """Adds reflection v1alpha, which grpcio has, and v1, which newer tools ask for first: the same messages by another name."""
    names = [*services, reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection"]
    reflection.enable_server_reflection(names, server)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.ReflectionServicer(names).ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(names[-1], {"ServerReflectionInfo": handler})])


def serve(service, address):
    """Serves until SIGTERM or SIGINT: then health says NOT_SERVING, new calls are refused, and running ones get 10 s."""
    server = grpc.server(futures.ThreadPoolExecutor(8), maximum_concurrent_rpcs=64)  # more are RESOURCE_EXHAUSTED at once
    reward_pb2_grpc.add_RewardServiceServicer_to_server(service, server)
    # grpcio's health answers Watch in the thread of the call and while it holds its lock, which the thread that ends calls waits for
    # too: a Watch that comes as another goes can stop the whole server. Watchers that wait in threads of their own cannot.
    status = health.HealthServicer(experimental_non_blocking=False, experimental_thread_pool=futures.ThreadPoolExecutor(64))
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflect(server, [SERVICE, health.SERVICE_NAME])
    port = server.add_insecure_port(address)
    server.start()
    status.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)

    def stop(*_):
        status.enter_graceful_shutdown()
        server.stop(grace=10)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"serving {SERVICE} on {address.rpartition(':')[0]}:{port}", flush=True)
    server.wait_for_termination()

/**
 * @file Server reflection, v1 and v1alpha: what grpcurl, grpcui, Postman and Python tools ask instead of .proto files.
 * Lists the services of the listener it is registered on; answers any file it knows, so that tools decode health and
 * the error details of google.rpc too.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import {
  ServerReflection,
  type ServerReflectionRequest,
  type ServerReflectionResponseSchema,
} from "../api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import type { DescriptorIndex } from "../api/index.js";
import { type ImplementOptions, implement, type ServiceImplementation } from "./implement.js";

type Answer = Exclude<MessageInitShape<typeof ServerReflectionResponseSchema>, { $typeName: string }>;

/** Both versions of the service, answering from `index` and listing `services` and themselves. */
export function reflectionServices(
  index: DescriptorIndex,
  services: readonly string[],
  options: ImplementOptions,
): ServiceImplementation[] {
  const names = [...services, ServerReflection.typeName, ServerReflectionAlpha.typeName].sort();
  async function* info(requests: AsyncIterable<Pick<ServerReflectionRequest, "host" | "messageRequest">>) {
    for await (const request of requests) {
      const { host, messageRequest } = request;
      // the two versions differ in their package only, so v1alpha's messages are made from the same objects
      yield {
        validHost: host,
        originalRequest: { host, messageRequest },
        messageResponse: answer(index, names, request),
      } as Answer & { originalRequest: object };
    }
  }
  const lasting = { ...options, quiet: true, lasting: ["serverReflectionInfo"] };
  return [
    implement(ServerReflection, { serverReflectionInfo: (requests) => info(requests) }, lasting),
    implement(
      ServerReflectionAlpha,
      {
        serverReflectionInfo: (requests) => info(requests as AsyncIterable<ServerReflectionRequest>) as never,
      },
      lasting,
    ),
  ];
}

function answer(
  index: DescriptorIndex,
  names: readonly string[],
  { messageRequest }: Pick<ServerReflectionRequest, "messageRequest">,
): Answer["messageResponse"] {
  switch (messageRequest.case) {
    case "listServices":
      return { case: "listServicesResponse", value: { service: names.map((name) => ({ name })) } };
    case "fileByFilename":
      return files(index, messageRequest.value, `file ${messageRequest.value}`);
    case "fileContainingSymbol":
      return files(index, index.fileOfSymbol(messageRequest.value), `symbol ${messageRequest.value}`);
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = messageRequest.value;
      const file = index.fileOfExtension(containingType, extensionNumber);
      return files(index, file, `extension ${extensionNumber} of ${containingType}`);
    }
    case "allExtensionNumbersOfType": {
      const numbers = index.extensionNumbers(messageRequest.value);
      if (!numbers) return notFound(`type ${messageRequest.value}`);
      const value = { baseTypeName: messageRequest.value, extensionNumber: numbers };
      return { case: "allExtensionNumbersResponse", value };
    }
    default:
      return {
        case: "errorResponse",
        value: { errorCode: status.INVALID_ARGUMENT, errorMessage: "message_request: is required" },
      };
  }
}

function files(index: DescriptorIndex, name: string | undefined, asked: string): Answer["messageResponse"] {
  const found = name === undefined ? undefined : index.fileWithImports(name);
  return found ? { case: "fileDescriptorResponse", value: { fileDescriptorProto: found } } : notFound(asked);
}

function notFound(asked: string): Answer["messageResponse"] {
  return {
    case: "errorResponse",
    value: { errorCode: status.NOT_FOUND, errorMessage: `${asked}: not found` },
  };
}

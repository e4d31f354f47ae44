/** @file Server reflection of a toy server, v1 and v1alpha, which differ in their package only. */
import { fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { descriptorSet } from "../../../lib/api/gen/descriptors.js";
import type {
  ServerReflection,
  ServerReflectionRequest,
  ServerReflectionResponseSchema,
} from "../../../lib/api/gen/grpc/reflection/v1/reflection_pb.js";
import type { Methods } from "./server.js";

type Reply = MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"];

/** What reflection answers from. */
export interface Described {
  /** Names that list_services gives. */
  listed: string[];
  /** Every file by its name. */
  readonly files: Map<string, FileDescriptorProto>;
}

/** Descriptions of all files of the contract, a fresh copy that may be changed. */
export function describeAll(listed: string[]): Described {
  const { file } = fromBinary(FileDescriptorSetSchema, Buffer.from(descriptorSet, "base64"));
  return { listed, files: new Map(file.map((each) => [each.name, each])) };
}

/** The method of either version. */
export function reflectionMethods(described: Described): Methods<typeof ServerReflection.method> {
  return {
    async *serverReflectionInfo(requests) {
      for await (const { host, messageRequest } of requests) {
        const messageResponse = answer(described, messageRequest);
        yield { validHost: host, originalRequest: { host, messageRequest }, messageResponse } as never;
      }
    },
  };
}

function answer({ listed, files }: Described, asked: ServerReflectionRequest["messageRequest"]): Reply {
  switch (asked.case) {
    case "listServices":
      return { case: "listServicesResponse", value: { service: listed.map((name) => ({ name })) } };
    case "fileByFilename":
      return fileReply(files.get(asked.value), asked.value);
    case "fileContainingSymbol":
      return fileReply(
        [...files.values()].find((file) => declares(file, asked.value)),
        asked.value,
      );
    default:
      return { case: "errorResponse", value: { errorCode: 12, errorMessage: "not supported" } };
  }
}

/** One file at a time; its reader asks for what it imports. */
function fileReply(file: FileDescriptorProto | undefined, asked: string): Reply {
  if (!file) return { case: "errorResponse", value: { errorCode: 5, errorMessage: `${asked} is not known` } };
  const fileDescriptorProto = [toBinary(FileDescriptorProtoSchema, file)];
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

function declares(file: FileDescriptorProto, symbol: string): boolean {
  const names = [...file.messageType, ...file.enumType, ...file.service].map(({ name }) => name);
  return names.some((name) => `${file.package}.${name}` === symbol);
}

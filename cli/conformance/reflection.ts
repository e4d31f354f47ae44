/** @file Checks of server reflection: what grpcurl and other tools know a server by. */
import { create, createFileRegistry, type DescService, fromBinary } from "@bufbuild/protobuf";
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { Health } from "../../lib/api/gen/grpc/health/v1/health_pb.js";
import {
  ServerReflection,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from "../../lib/api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../lib/api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { RpcError } from "../../lib/rpc/index.js";
import { type Check, CheckFailed, must, NotChecked } from "./check.js";
import { contractDifferences } from "./contract.js";
import type { Target } from "./target.js";

type Question = Extract<ServerReflectionRequest["messageRequest"], { case: string }>;
type Version = typeof ServerReflection | typeof ServerReflectionAlpha;

/** Checks of reflection. */
export const reflectionChecks: readonly Check<Target>[] = [
  {
    id: "reflection/v1",
    what: "reflection v1 lists the service",
    async run(target) {
      try {
        await listsService(target, ServerReflection);
      } catch (error) {
        if (!isUnimplemented(error)) throw error;
        await listsService(target, ServerReflectionAlpha).catch(() => {
          must(false, "the server has no reflection, neither v1 nor v1alpha");
        });
        throw new NotChecked("the server has v1alpha only, which tools that ask for v1 fall back to");
      }
    },
  },
  {
    id: "reflection/v1alpha",
    what: "reflection v1alpha, the only one that older and Python's tools ask for, lists the service",
    async run(target) {
      await listsService(target, ServerReflectionAlpha).catch((error: unknown) => {
        if (!isUnimplemented(error)) throw error;
        must(false, "the server has no reflection v1alpha; older grpcurl and Python's client know no other");
      });
    },
  },
  {
    id: "reflection/contract",
    what: "the service described is the service of the contract, with all that it needs",
    async run(target) {
      const { desc } = target.subject;
      const files = await filesOf(target, { case: "fileContainingSymbol", value: desc.typeName });
      const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: inOrder(files) }));
      const theirs = registry.getService(desc.typeName);
      must(theirs !== undefined, `the files sent do not hold ${desc.typeName}`);
      const differences = contractDifferences(desc as unknown as DescService, theirs);
      must(differences.length === 0, differences.slice(0, 5).join("; "));
    },
  },
  {
    id: "reflection/errors",
    what: "the types of error details are described, so that tools show them",
    async run(target) {
      for (const type of ["BadRequest", "ErrorInfo", "RetryInfo"]) {
        await filesOf(target, { case: "fileContainingSymbol", value: `google.rpc.${type}` });
      }
    },
  },
  {
    id: "reflection/health",
    what: "health is described, so that tools can ask for it",
    async run(target) {
      await filesOf(target, { case: "fileContainingSymbol", value: Health.typeName });
    },
  },
];

function isUnimplemented(error: unknown): boolean {
  return error instanceof RpcError && error.status === "UNIMPLEMENTED";
}

async function listsService(target: Target, version: Version): Promise<void> {
  const [reply] = await ask(target, version, [{ case: "listServices", value: "" }]);
  must(reply?.case === "listServicesResponse", `list_services was answered with ${reply?.case ?? "nothing"}`);
  const names = reply.value.service.map(({ name }) => name);
  const { typeName } = target.subject.desc;
  must(names.includes(typeName), `${typeName} is not listed, but ${names.join(", ")}`);
}

/** The files that answer a question, and all that they import. */
async function filesOf(target: Target, question: Question): Promise<Map<string, FileDescriptorProto>> {
  const files = new Map<string, FileDescriptorProto>();
  const open: Question[] = [question];
  const asked = new Set<string>();
  for (let next = open.pop(); next; next = open.pop()) {
    const [reply] = await askEither(target, [next]);
    if (reply?.case === "errorResponse") {
      throw new CheckFailed(`reflection of ${next.value}: ${reply.value.errorMessage}`);
    }
    must(
      reply?.case === "fileDescriptorResponse",
      `${next.value}: answered with ${reply?.case ?? "nothing"}`,
    );
    for (const bytes of reply.value.fileDescriptorProto) {
      const file = fromBinary(FileDescriptorProtoSchema, bytes);
      files.set(file.name, file);
    }
    for (const name of [...files.values()].flatMap(({ dependency }) => dependency)) {
      if (files.has(name) || asked.has(name)) continue;
      asked.add(name);
      open.push({ case: "fileByFilename", value: name });
    }
  }
  return files;
}

/** Files after what they import, as a registry wants them. */
function inOrder(files: ReadonlyMap<string, FileDescriptorProto>): FileDescriptorProto[] {
  const ordered = new Set<FileDescriptorProto>();
  const visit = (name: string) => {
    const file = files.get(name);
    if (!file || ordered.has(file)) return;
    for (const dependency of file.dependency) visit(dependency);
    ordered.add(file);
  };
  for (const name of files.keys()) visit(name);
  return [...ordered];
}

/** Asks v1, and v1alpha where there is no v1. */
async function askEither(target: Target, questions: readonly Question[]): ReturnType<typeof ask> {
  try {
    return await ask(target, ServerReflection, questions);
  } catch (error) {
    if (!isUnimplemented(error)) throw error;
    return ask(target, ServerReflectionAlpha, questions);
  }
}

/** Asks questions on one stream; the answers in order. */
async function ask(
  target: Target,
  version: Version,
  questions: readonly Question[],
): Promise<ServerReflectionResponse["messageResponse"][]> {
  // both versions have the same messages but for their package
  const client = target.client(version as typeof ServerReflection);
  const answers: ServerReflectionResponse["messageResponse"][] = [];
  const requests = questions.map((messageRequest) => ({ messageRequest }));
  for await (const { messageResponse } of client.serverReflectionInfo(requests)) {
    answers.push(messageResponse);
    if (answers.length === questions.length) break;
  }
  return answers;
}

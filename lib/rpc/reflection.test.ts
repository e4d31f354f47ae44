/** @file Tests of server reflection with a small client, in both versions. */
import assert from "node:assert/strict";
import { create, createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import {
  ServerReflection,
  type ServerReflectionRequest,
} from "../api/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as Alpha } from "../api/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { createClient } from "./client.js";
import type { RunningServer } from "./server.js";
import { startEcho } from "./testing/echo.js";

type Ask = Exclude<ServerReflectionRequest["messageRequest"], { case: undefined }>;

describe("reflection", () => {
  let server: RunningServer;
  before(async () => {
    server = await startEcho({ adminListen: "127.0.0.1:0" });
  });
  after(() => server.drain());

  for (const version of ["v1", "v1alpha"] as const) {
    /** Asks everything over one stream; the answers in order. */
    const ask = async (asks: Ask[], address = server.address) => {
      const client =
        version === "v1"
          ? createClient(ServerReflection, address, { deadlineMs: 5000 })
          : (createClient(Alpha, address, { deadlineMs: 5000 }) as never);
      const requests = asks.map((messageRequest) => ({ host: "h", messageRequest }));
      const answers = [];
      for await (const answer of client.serverReflectionInfo(requests)) answers.push(answer);
      client.close();
      return answers;
    };

    describe(version, () => {
      it("lists the services of the listener, with health and both versions of reflection", async () => {
        const list = async (address?: string) => {
          const [answer] = await ask([{ case: "listServices", value: "" }], address);
          assert.ok(answer?.messageResponse.case === "listServicesResponse");
          return answer.messageResponse.value.service.map(({ name }) => name);
        };
        const common = [
          "grpc.health.v1.Health",
          "grpc.reflection.v1.ServerReflection",
          "grpc.reflection.v1alpha.ServerReflection",
        ];
        assert.deepEqual(await list(), [...common, "rlhf.testing.v1.EchoService"]);
        assert.deepEqual(await list(server.adminAddress), [
          "grpc.channelz.v1.Channelz",
          ...common,
          "rlhf.testing.v1.EchoAdminService",
        ]);
      });

      it("gives files that make a complete registry: of our services, health, reflection, channelz and details", async () => {
        const symbols = [
          "rlhf.testing.v1.EchoService",
          "rlhf.testing.v1.EchoService.Echo",
          "rlhf.testing.v1.EchoRequest",
          "grpc.health.v1.Health",
          "grpc.reflection.v1alpha.ServerReflection",
          "grpc.channelz.v1.Channelz",
          "google.rpc.BadRequest",
          "google.rpc.Status",
          "rlhf.reward.v1.RewardService",
        ];
        const answers = await ask(symbols.map((value) => ({ case: "fileContainingSymbol", value })));
        assert.equal(answers.length, symbols.length);
        answers.forEach((answer, i) => {
          assert.equal(answer.originalRequest?.host, "h");
          assert.deepEqual(answer.originalRequest?.messageRequest, {
            case: "fileContainingSymbol",
            value: symbols[i],
          });
          assert.ok(answer.messageResponse.case === "fileDescriptorResponse", symbols[i]);
          const file = answer.messageResponse.value.fileDescriptorProto.map((f) =>
            fromBinary(FileDescriptorProtoSchema, f),
          );
          const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: file.reverse() }));
          const name = symbols[i]?.replace(/\.Echo$/, "") ?? "";
          assert.ok(registry.get(name), `${name} is in its files`);
        });
      });

      it("gives a file by its name", async () => {
        const [answer] = await ask([{ case: "fileByFilename", value: "google/rpc/error_details.proto" }]);
        assert.ok(answer?.messageResponse.case === "fileDescriptorResponse");
        assert.equal(answer.messageResponse.value.fileDescriptorProto.length, 2);
      });

      it("answers NOT_FOUND for what it does not know, and goes on", async () => {
        const answers = await ask([
          { case: "fileByFilename", value: "no/such.proto" },
          { case: "fileContainingSymbol", value: "no.such.Symbol" },
          { case: "allExtensionNumbersOfType", value: "no.such.Type" },
          { case: "allExtensionNumbersOfType", value: "google.rpc.Status" },
        ]);
        const codes = answers.map(({ messageResponse: r }) =>
          r.case === "errorResponse" ? r.value.errorCode : r.case,
        );
        assert.deepEqual(codes, [5, 5, 5, "allExtensionNumbersResponse"]);
      });
    });
  }
});

/** @file Tests of the index that reflection answers from. */
import assert from "node:assert/strict";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { descriptorIndex } from "./index.js";

const names = (files: Uint8Array[] | undefined) =>
  files?.map((f) => fromBinary(FileDescriptorProtoSchema, f).name);

describe("the descriptor index", () => {
  const index = descriptorIndex();

  it("gives a file with everything it imports, itself first and each once", () => {
    const files = names(index.fileWithImports("google/rpc/error_details.proto"));
    assert.deepEqual(files, ["google/rpc/error_details.proto", "google/protobuf/duration.proto"]);
  });

  it("finds services, methods, messages, fields, nested types and enum values", () => {
    const reward = "rlhf/reward/v1/reward.proto";
    for (const symbol of ["RewardService", "RewardService.Score", "ScoreRequest", "ScoreRequest.texts"]) {
      assert.equal(index.fileOfSymbol(`rlhf.reward.v1.${symbol}`), reward, symbol);
    }
    const health = "grpc/health/v1/health.proto";
    assert.equal(index.fileOfSymbol("grpc.health.v1.HealthCheckResponse.ServingStatus"), health);
    assert.equal(index.fileOfSymbol("grpc.health.v1.HealthCheckResponse.SERVING"), health);
    assert.equal(
      index.fileOfSymbol("google.rpc.BadRequest.FieldViolation"),
      "google/rpc/error_details.proto",
    );
  });

  it("says that it does not know what it does not know", () => {
    assert.equal(index.fileWithImports("no/such.proto"), undefined);
    assert.equal(index.fileOfSymbol("no.such.Symbol"), undefined);
    assert.equal(index.fileOfExtension("google.rpc.Status", 1), undefined);
    assert.equal(index.extensionNumbers("no.such.Type"), undefined);
    assert.deepEqual(index.extensionNumbers("google.rpc.Status"), []);
  });

  it("keeps the comments of our own files, which are the manual of whoever uses reflection", () => {
    const [file] = index.fileWithImports("rlhf/reward/v1/reward.proto") ?? [];
    assert.ok(file);
    const { sourceCodeInfo } = fromBinary(FileDescriptorProtoSchema, file);
    const comments = sourceCodeInfo?.location.map(({ leadingComments }) => leadingComments).join("\n");
    assert.match(comments ?? "", /Scores a batch of texts/);
  });
});

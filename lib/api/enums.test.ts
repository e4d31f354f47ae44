/** @file Tests of the search for unknown enum numbers. */
import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import {
  EchoRequestSchema,
  EchoResponseSchema,
  type Mood,
} from "../rpc/testing/gen/rlhf/testing/v1/echo_pb.js";
import { findUnknownEnums } from "./index.js";

const wrong = (n: number) => n as Mood;

describe("unknown enum numbers", () => {
  it("are none where every number has a name", () => {
    const request = create(EchoRequestSchema, { mood: 2, items: [{ mood: 1, moods: [0, 1, 2] }] });
    assert.deepEqual(findUnknownEnums(EchoRequestSchema, request), []);
  });

  it("are found at the top, in lists, in messages and in maps, with their paths", () => {
    const request = create(EchoRequestSchema, {
      mood: wrong(9),
      items: [{}, { mood: wrong(-1), moods: [1, wrong(77)] }],
      named: { "a b": { mood: wrong(5) } },
    });
    const found = findUnknownEnums(EchoRequestSchema, request);
    assert.deepEqual(
      found.map(({ field, value }) => [field, value]),
      [
        ["mood", 9],
        ["items[1].mood", -1],
        ["items[1].moods[1]", 77],
        ['named["a b"].mood', 5],
      ],
    );
    assert.deepEqual(found[0]?.accepted, ["MOOD_UNSPECIFIED", "MOOD_PROMPT", "MOOD_STUCK"]);
  });

  it("are collected up to the limit", () => {
    const items = Array.from({ length: 50 }, () => ({ mood: wrong(8) }));
    assert.equal(findUnknownEnums(EchoRequestSchema, create(EchoRequestSchema, { items }), 3).length, 3);
  });

  it("are found in answers as well", () => {
    assert.deepEqual(
      findUnknownEnums(EchoResponseSchema, create(EchoResponseSchema, { mood: wrong(4) })).length,
      1,
    );
  });
});

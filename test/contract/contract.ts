/**
 * @file What the table of this folder says of each service: how to start it, calls that must be refused and how, and calls that must
 * answer. The test puts every row to a real process.
 */

import { join } from "node:path";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import type { ServerInfo, WeightsRef } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { packageRoot } from "../../lib/config/package-root.js";
import type { Client } from "../../lib/rpc/index.js";
import type { Sandbox } from "../support/sandbox.js";

/** A call of a client. */
export type Call<S extends GenServiceMethods> = (client: Client<S>) => Promise<unknown>;

/** A service under the contract. Calls are named by what is wrong or what is asked, as the end of a sentence. */
export interface Contract<S extends GenServiceMethods> {
  readonly service: "policy" | "reward" | "bertscore" | "trainer";
  readonly desc: GenService<S>;
  /** Arguments of `rlhf serve`; called once. */
  args(box: Sandbox): readonly string[];
  /** Puts the server into the state that the calls below need. */
  prepare?(client: Client<S>, box: Sandbox): Promise<void>;
  /** Wrong requests, and the field that a violation must name: INVALID_ARGUMENT. */
  readonly wrong: Readonly<Record<string, { readonly field: string; readonly call: Call<S> }>>;
  /** What the server does not hold, or not in this state: FAILED_PRECONDITION. */
  readonly unmet: Readonly<Record<string, Call<S>>>;
  /** What does not exist: NOT_FOUND. */
  readonly unknown: Readonly<Record<string, Call<S>>>;
  /** A server with next to no room, and calls at once that are more than fit: RESOURCE_EXHAUSTED, and the others are answered. */
  readonly full: {
    args(box: Sandbox): readonly string[];
    calls(box: Sandbox): readonly Call<S>[];
    /** Ends what was started. */
    end?(client: Client<S>): Promise<unknown>;
  };
  /** A valid call, for a server that can't answer yet; none for a server that has nothing to load. */
  readonly loading?: { args(model: string): readonly string[]; call: Call<S> };
  /** What GetInfo says; no weights where the service has no model to describe. */
  info(client: Client<S>): Promise<{ weights?: WeightsRef | undefined; server: ServerInfo | undefined }>;
  /** Limits that GetInfo names, beside those of every server. */
  readonly limits: readonly string[];
  /** Which weights each kind of reply says it comes from. */
  readonly replies: Readonly<
    Record<string, (client: Client<S>) => Promise<readonly (WeightsRef | undefined)[]>>
  >;
  /** Answers to the same items there and back, a number or a text an item; the second list is turned round already. */
  readonly order: Readonly<
    Record<string, (client: Client<S>) => Promise<readonly [readonly unknown[], readonly unknown[]]>>
  >;
}

/** A row of the table, of whatever service. */
export type AnyContract = Contract<GenServiceMethods>;

/** Lets rows of different services stand in one table. */
export function contract<S extends GenServiceMethods>(row: Contract<S>): AnyContract {
  return row as unknown as AnyContract;
}

/** Directory of a tiny model with known weights. */
export const golden = (name: string) => join(packageRoot(), "test/golden", name);

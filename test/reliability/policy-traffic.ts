/**
 * @file Callers of a policy server that never rest, and what they learn: for every reply the weights that made it, and which versions could
 * have. Each reply can be asked for again, of another server on the same weights, to see that it is of these weights alone.
 */
import assert from "node:assert/strict";
import type { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import { Rng } from "../../lib/dataset/index.js";
import type { Client } from "../../lib/rpc/index.js";
import { EXPECTED } from "../../services/policy/testing.js";

type PolicyClient = Client<(typeof PolicyService)["method"]>;

/** A reply that came while weights changed. */
export interface Observed {
  readonly kind: "generate" | "logProbs";
  readonly request: Record<string, unknown>;
  readonly version: number;
  readonly digest: string;
  /** Newest version that any reply had named before this call was made: nothing older was active during it. */
  readonly oldest: number;
  /** Newest version that had been published when the reply came: nothing newer was. */
  readonly newest: number;
  /** Ids and log-probabilities. */
  readonly content: Content;
}

interface Content {
  readonly ids: readonly (readonly number[])[];
  readonly logprobs: readonly (readonly number[])[];
}

/** Callers of one server. */
export class PolicyTraffic {
  readonly observed: Observed[] = [];
  readonly failures: unknown[] = [];
  /** The newest version published; whoever publishes sets it before. */
  published = 0;
  #seen = 0;
  #busy = false;
  #callers: Promise<void>[] = [];

  constructor(private readonly client: PolicyClient) {}

  /** Lets so many callers call, until stopped. */
  start(callers: number): void {
    this.#busy = true;
    const from = this.observed.length;
    this.#callers = Array.from({ length: callers }, (_, i) => this.#call(Rng.from(9, "traffic", from, i)));
  }

  /** Ends the calls; resolves when the last is answered, and the newest weights have been used once. */
  async stop(): Promise<void> {
    this.#busy = false;
    await Promise.all(this.#callers);
    await ask(this.client, "generate", generateRequest(Rng.from(9, "last")));
  }

  async #call(random: Rng): Promise<void> {
    while (this.#busy) {
      const kind = random.int(4) === 0 ? "logProbs" : "generate";
      const request = kind === "generate" ? generateRequest(random) : logProbsRequest(random);
      const oldest = this.#seen;
      try {
        const { version, digest, content } = await ask(this.client, kind, request);
        this.#seen = Math.max(this.#seen, version);
        this.observed.push({ kind, request, version, digest, content, oldest, newest: this.published });
      } catch (error) {
        this.failures.push(error);
      }
    }
  }
}

/** Asks again, of a server that serves the observed version; throws where one number differs. */
export async function assertRepeats(client: PolicyClient, observed: Observed): Promise<void> {
  const again = await ask(client, observed.kind, observed.request);
  assert.equal(again.version, observed.version);
  assert.equal(again.digest, observed.digest);
  const what = `${observed.kind} on version ${observed.version}`;
  assert.deepEqual(again.content.ids, observed.content.ids, what);
  const [first, second] = [observed.content.logprobs.flat(), again.content.logprobs.flat()];
  assert.equal(first.length, second.length, what);
  const worst = Math.max(...first.map((value, i) => Math.abs(value - (second[i] as number))));
  // scoring runs rows of like length together, which moves last bits
  assert.ok(worst <= 1e-4, `${what}: log-probabilities differ by ${worst}`);
}

async function ask(client: PolicyClient, kind: Observed["kind"], request: Record<string, unknown>) {
  const floats = (data: Uint8Array | undefined) => [...new Float32Array(new Uint8Array(data ?? []).buffer)];
  if (kind === "generate") {
    const { sequences, weights } = await client.generate(request);
    const ids = sequences.map(({ tokens }) => tokens?.ids ?? []);
    const logprobs = sequences.map((sequence) => floats(sequence.logprobs?.data));
    return { version: Number(weights?.version), digest: weights?.digest ?? "", content: { ids, logprobs } };
  }
  const { results, weights } = await client.logProbs(request);
  const logprobs = results.map((result) => floats(result.logprobs?.data));
  return { version: Number(weights?.version), digest: weights?.digest ?? "", content: { ids: [], logprobs } };
}

function generateRequest(random: Rng): Record<string, unknown> {
  const prompts = Array.from({ length: 1 + random.int(3) }, () => ({
    input: { case: "tokens", value: { ids: EXPECTED.input_ids[random.int(5)] } },
  }));
  const options = { doSample: true, topK: 0, maxNewTokens: 1 + random.int(60), ignoreEos: true };
  return { prompts, options, seed: BigInt(random.int(2 ** 31)) };
}

function logProbsRequest(random: Rng): Record<string, unknown> {
  const sequences = Array.from({ length: 1 + random.int(3) }, () => ({
    tokens: { ids: Array.from({ length: 2 + random.int(60) }, () => random.int(800)) },
  }));
  return { sequences };
}

/**
 * @file PolicyService: checks a request, hands it to the model worker and puts the reply on the wire. The model is behind
 * `PolicyBackend`, so that nothing here computes.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { PolicyService } from "../../lib/api/gen/rlhf/policy/v1/policy_pb.js";
import type { ServerInfoSchema } from "../../lib/api/gen/rlhf/types/v1/types_pb.js";
import { InvalidFieldError } from "../../lib/rpc/errors.js";
import { implement, type ServiceImplementation } from "../../lib/rpc/implement.js";
import type { HostCallOptions } from "../../lib/rpc/model-host.js";
import { GenerateRecorder } from "./generate-recorder.js";
import type { RequestLimits } from "./limits.js";
import type {
  GenerateCall,
  GenerateEvent,
  GenerateReply,
  LoadCall,
  LogProbsCall,
  PolicyFacts,
  WeightsStatus,
} from "./protocol.js";
import {
  defaultOptions,
  generateResponse,
  logProbsResponse,
  streamResponses,
  weightsRef,
} from "./replies.js";
import { toGenerateCall, toLogProbsCall } from "./requests.js";
import type { ScoreOutcome } from "./scoring/scorer.js";

/** The model behind the service. */
export interface PolicyBackend {
  /** What the model is, and its weights now. Throws NOT_READY while it loads or restarts. */
  facts(): PolicyFacts;
  /** Whether nothing may change the weights. */
  readonly pinned: boolean;
  generate(call: GenerateCall, options: HostCallOptions): Promise<GenerateReply>;
  generateStream(call: GenerateCall, options: HostCallOptions): AsyncGenerator<GenerateEvent, GenerateReply>;
  logprobs(call: LogProbsCall, options: HostCallOptions): Promise<ScoreOutcome>;
  load(call: LoadCall, options: HostCallOptions): Promise<WeightsStatus>;
  rollback(version: number, options: HostCallOptions): Promise<WeightsStatus>;
}

/** What the service is told besides its model. */
export interface PolicyServiceOptions {
  readonly limits: RequestLimits;
  /** Name under which the model is served; default: that of its directory. */
  readonly name?: string;
  /** Build and limits for GetInfo. */
  readonly server: (facts: PolicyFacts) => MessageInitShape<typeof ServerInfoSchema>;
}

/** Joins the service with a model. */
export function policyService(backend: PolicyBackend, options: PolicyServiceOptions): ServiceImplementation {
  const { limits } = options;
  const nameOf = (facts: PolicyFacts) => options.name ?? facts.name;
  return implement(PolicyService, {
    async generate(request, ctx) {
      const facts = backend.facts();
      const call = toGenerateCall(request, facts, limits);
      const recorder = new GenerateRecorder(nameOf(facts), call);
      return generateResponse(await recorder.run(() => backend.generate(call, ctx)));
    },
    async *generateStream({ request }, ctx) {
      const facts = backend.facts();
      if (!request) throw new InvalidFieldError([{ field: "request", description: "is required" }]);
      const call = toGenerateCall(request, facts, limits, { path: "request.", stream: true });
      const recorder = new GenerateRecorder(nameOf(facts), call);
      const events = backend.generateStream(call, ctx);
      try {
        for (;;) {
          const { done, value } = await events.next();
          if (done) return recorder.finish(value);
          recorder.ended(value.ended);
          yield* streamResponses(value);
        }
      } catch (error) {
        recorder.fail(error);
        throw error;
      } finally {
        await events.return(undefined as never); // a caller that went away stops the model
        recorder.end();
      }
    },
    async logProbs(request, ctx) {
      const facts = backend.facts();
      const call = toLogProbsCall(request, facts, limits);
      return logProbsResponse(await backend.logprobs(call, ctx), facts.vocabSize);
    },
    getInfo() {
      const facts = backend.facts();
      return {
        model: {
          name: nameOf(facts),
          family: facts.family,
          weights: weightsRef(facts.weights.serving),
          parameterCount: BigInt(facts.parameterCount),
          maxTokens: facts.maxTokens,
          vocabSize: facts.vocabSize,
        },
        pinned: backend.pinned,
        eosTokenIds: [...(facts.defaults.eosTokenIds ?? [])],
        padTokenId: facts.defaults.padTokenId,
        defaultOptions: defaultOptions(facts),
        server: options.server(facts),
      };
    },
  });
}

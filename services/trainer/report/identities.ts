/**
 * @file Who takes part in an evaluation: model, weights and build of each server, as it says itself. A server that does not
 * answer is in the list with the reason, since the comparison itself was made before.
 */
import type { ModelInfo, ServerInfo } from "../../../lib/api/gen/rlhf/types/v1/types_pb.js";
import type { PpoRunConfig } from "../run-config.js";
import { judgesOf, type ScorerGroup, scorersOf } from "../scoring/terms.js";
import type { RunServers } from "../servers/servers.js";
import type { ModelIdentity } from "./page.js";

interface Info {
  readonly model?: ModelInfo | undefined;
  readonly server?: ServerInfo | undefined;
  /** BERTScore's hash of model, layer and options. */
  readonly hash?: string;
}

/** Describes policies, references, classifier and BERTScore of a run. */
export async function describeModels(
  config: PpoRunConfig,
  servers: RunServers,
  signal: AbortSignal,
): Promise<ModelIdentity[]> {
  const options = { signal, deadlineMs: 10_000 };
  const asked: [role: string, address: string, ask: () => Promise<Info>][] = [
    ...servers.policies.map(({ address, client }): (typeof asked)[number] => [
      "tuned policy",
      address,
      () => client.getInfo({}, options),
    ]),
    ...servers.references.map(({ address, client }): (typeof asked)[number] => [
      "reference policy",
      address,
      () => client.getInfo({}, options),
    ]),
  ];
  const rewards = classifiersOf(config);
  if (rewards.addresses.length > 0)
    asked.push(["reward", rewards.addresses.join(", "), () => servers.rewards(rewards).getInfo({}, options)]);
  const judges = judgesOf(config);
  if (judges.addresses.length > 0)
    asked.push(["bertscore", judges.addresses.join(", "), () => servers.judges(judges).getInfo({}, options)]);
  return Promise.all(
    asked.map(async ([role, address, ask]) => {
      try {
        return identity(role, address, await ask());
      } catch (error) {
        const detail = `did not say: ${(error as Error).message}`;
        return { role, address, name: "", version: 0, digest: "", detail };
      }
    }),
  );
}

/** The servers that judge by the run's first classifier term; none where it has no such term. */
export function classifiersOf(config: PpoRunConfig): ScorerGroup {
  const term = config.rewards.find(({ type }) => type === "classifier");
  return term ? scorersOf(term, config) : { addresses: [] };
}

function identity(role: string, address: string, { model, server, hash }: Info): ModelIdentity {
  const build = server && `rlhf-mesh ${server.buildVersion}, ${server.engine} on ${server.device}`;
  return {
    role,
    address,
    name: model?.name ?? "",
    version: Number(model?.weights?.version ?? 0),
    digest: model?.weights?.digest ?? "",
    detail: [hash, build].filter(Boolean).join("; "),
  };
}

/** @file A publisher whose objects are damaged before anybody can read them: between the object's writing and the move of the head. */
import { silentLog } from "../../lib/telemetry/index.js";
import { VersionedBus, type WeightsBus } from "../../lib/weights/bus.js";
import { FileTransport } from "../../lib/weights/file-transport.js";
import type { WeightsManifest } from "../../lib/weights/manifest.js";
import { NatsTransport } from "../../lib/weights/nats-transport.js";
import type { Damage, Harness } from "../../lib/weights/testing.js";
import type { Transport } from "../../lib/weights/transport.js";

/** A bus of the harness whose every publish is damaged in this way. The caller closes it. */
export async function sabotagedBus(harness: Harness, run: string, how: Damage): Promise<WeightsBus> {
  const options = { run, model: "policy" };
  const open = harness.kind === "nats" ? NatsTransport.open : FileTransport.open;
  const transport = await open(harness.url, options, silentLog());
  return new VersionedBus(
    damaging(transport, (manifest) => harness.damage(manifest, how)),
    options,
  );
}

function damaging(transport: Transport, damage: (manifest: WeightsManifest) => Promise<void>): Transport {
  const put: Transport["put"] = async (manifest, bytes, signal) => {
    await transport.put(manifest, bytes, signal);
    await damage(manifest);
  };
  return new Proxy(transport, {
    get(target, name) {
      if (name === "put") return put;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

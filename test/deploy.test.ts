/**
 * @file deploy/ held against the programs that it starts: image, compose file and Kubernetes manifests. Every command is run with its own
 * flags, but for addresses and files that only a cluster has; probes are run against what they probe.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { packageRoot } from "../lib/config/package-root.js";
import { createAuthority } from "../lib/rpc/testing/certificates.js";
import { blocksOf } from "./docs/markdown.js";
import type { Service } from "./support/processes.js";
import { type Sandbox, useSandbox } from "./support/sandbox.js";

const root = packageRoot();
const read = (...path: string[]) => readFileSync(join(root, "deploy", ...path), "utf8");
const golden = (name: string) => join(root, "test/golden", name);

/** Models that stand for those of a cluster. */
const MODELS: Readonly<Record<string, string>> = {
  "/models/policy": golden("gpt2-tiny"),
  "/models/reward": golden("bert-tiny-classifier"),
  "/models/bertscore": golden("roberta-tiny"),
};

interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly ports?: readonly { containerPort: number }[];
  readonly volumeMounts?: readonly { name: string; mountPath: string; readOnly?: boolean }[];
  readonly [probe: `${string}Probe`]: { grpc?: { port: number }; exec?: { command: string[] } } | undefined;
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly selector: Readonly<Record<string, unknown>> & { matchLabels?: object };
    readonly ports?: readonly { port: number }[];
    readonly volumeClaimTemplates?: readonly { metadata: { name: string } }[];
    readonly template?: {
      readonly metadata: { readonly labels: object };
      readonly spec: {
        readonly terminationGracePeriodSeconds?: number;
        readonly containers: readonly Container[];
        readonly volumes?: readonly { name: string }[];
        readonly securityContext?: { readonly fsGroup?: number };
      };
    };
  };
}

interface ComposeService {
  readonly image: string;
  readonly command: string | string[];
  readonly volumes?: readonly string[];
  readonly stop_grace_period?: string;
  readonly healthcheck?: { readonly test: readonly string[] };
}

/** A command of ours that is deployed somewhere. */
interface Deployed {
  /** Where it stands: "compose.yaml: policy". */
  readonly where: string;
  /** `serve`, the service, and flags. */
  readonly words: readonly string[];
  /** Folders of the container that are mounted. */
  readonly mounted: readonly string[];
}

const compose = parse(read("compose.yaml"), { merge: true }) as { services: Record<string, ComposeService> };
const manifests = readdirSync(join(root, "deploy/kubernetes")).flatMap((file) =>
  parseAllDocuments(read("kubernetes", file), { merge: true }).map((document) => ({
    file,
    manifest: document.toJS() as Manifest,
  })),
);
const workloads = manifests.flatMap(({ file, manifest }) => {
  const pod = manifest.spec.template?.spec;
  return pod ? pod.containers.map((container) => ({ file, manifest, pod, container })) : [];
});
const ours = workloads.filter(({ container }) => container.image === "rlhf-mesh");

const deployed: Deployed[] = [
  ...Object.entries(compose.services)
    .filter(([, { image }]) => image === "rlhf-mesh")
    .map(([name, { command, volumes = [] }]) => ({
      where: `compose.yaml: ${name}`,
      words: String(command)
        .replace(/\$\{RUN:-main\}/, "main")
        .split(" "),
      mounted: volumes.map((volume) => volume.split(":")[1] as string),
    })),
  ...ours.map(({ file, container }) => ({
    where: `${file}: ${container.name}`,
    words: container.args.flatMap((word) => word.split(/=(.*)/s, 2)),
    mounted: (container.volumeMounts ?? []).map(({ mountPath }) => mountPath),
  })),
];

/** Value of a flag among words. */
const flagOf = (words: readonly string[], flag: string) => words[words.indexOf(flag) + 1] as string;
const portOf = (words: readonly string[]) => Number(flagOf(words, "--listen").split(":").at(-1));

/** Files of a cluster's secrets, made here. */
function secrets(box: Sandbox): Readonly<Record<string, string>> {
  const authority = createAuthority();
  box.defer(() => authority.remove());
  const { certFile, keyFile } = authority.issue("reward");
  return {
    "/tls/ca.crt": authority.caFile,
    "/tls/tls.crt": certFile,
    "/tls/tls.key": keyFile,
    "/tokens/tokens": box.write("tokens", "infer token-of-the-probe\n"),
    "/probe/token": box.write("token", "token-of-the-probe\n"),
  };
}

describe("what deploy/ starts", function () {
  this.timeout(120_000);
  const sandbox = useSandbox("all");
  let files: Readonly<Record<string, string>>;
  before(() => {
    files = { ...MODELS, ...secrets(sandbox()) };
  });

  /** Words with paths and addresses that are of this machine. */
  const here = (words: readonly string[], name: string) =>
    words.map((word) => {
      if (/^0\.0\.0\.0:\d+$/.test(word)) return "127.0.0.1:0";
      if (word.startsWith("nats://")) return `file:${sandbox().path(`bus-${name}`)}`;
      if (word === "/runs") return sandbox().path(`runs-${name}`);
      return files[word] ?? word;
    });

  it("is found: five services in the compose file, five workloads in the manifests", () => {
    assert.deepEqual(deployed.map(({ where }) => where).sort(), [
      "compose.yaml: bertscore",
      "compose.yaml: policy",
      "compose.yaml: reference",
      "compose.yaml: reward",
      "compose.yaml: trainer",
      "mesh.yaml: bertscore",
      "mesh.yaml: policy",
      "mesh.yaml: reference",
      "mesh.yaml: trainer",
      "reward.yaml: reward",
    ]);
  });

  it("has the flags that its service has, and files where a volume is mounted", async () => {
    const helps = new Map<string, string>();
    for (const { where, words, mounted } of deployed) {
      const [serve, service = ""] = words;
      assert.equal(serve, "serve", where);
      const help = helps.get(service) ?? (await sandbox().rlhf(["serve", service, "--help"])).stdout;
      helps.set(service, help);
      for (const word of words.slice(2)) {
        if (word.startsWith("--")) assert.match(help, new RegExp(`^ {2}${word} `, "m"), `${where}: ${word}`);
        if (word.startsWith("/")) {
          assert.ok(
            mounted.some((folder) => `${word}/`.startsWith(`${folder}/`)),
            `${where}: ${word} is not mounted`,
          );
        }
      }
    }
  });

  for (const { where, words } of deployed) {
    it(`starts and serves: ${where}`, async () => {
      const [, service = "", ...flags] = words;
      const name = where.replace(/\W+/g, "-");
      const server: Service = await sandbox().serve(service as "reward", here(flags, name));
      const secured = flags.includes("--tls-cert");
      const doctor = secured
        ? probeOf(where).map((word) =>
            word.includes("=localhost:") ? `${service}=${server.address}` : (files[word] ?? word),
          )
        : ["doctor", "--no-machine", `${service}=${server.address}`];
      const { code, stdout, stderr } = await sandbox().rlhf(doctor);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /ok +\S+ health +SERVING/);
      assert.doesNotMatch(stdout, /Node\.js/, "the machine is left out");
      assert.equal(await server.stop(), 0);
    });
  }

  /** The command of a workload's probes, without `node` and the program. */
  function probeOf(where: string): string[] {
    const found = ours.find(({ file, container }) => where === `${file}: ${container.name}`);
    assert.ok(found);
    const commands = ["startupProbe", "readinessProbe"].map(
      (probe) => found.container[probe as "startupProbe"]?.exec?.command ?? [],
    );
    assert.deepEqual(commands[0], commands[1]);
    const [node, program, ...words] = commands[0] as string[];
    assert.deepEqual([node, program], ["node", "dist/cli/main.js"]);
    return words;
  }

  it("is probed on the port on which it listens, and found there by its Service", () => {
    for (const { file, manifest, container } of ours) {
      const where = `${file}: ${container.name}`;
      const port = portOf(container.args.flatMap((word) => word.split(/=(.*)/s, 2)));
      for (const probe of ["startupProbe", "readinessProbe"] as const) {
        const { grpc, exec } = container[probe] ?? {};
        if (grpc) assert.equal(grpc.port, port, `${where}: ${probe}`);
        if (exec)
          assert.ok(
            exec.command.some((word) => word.endsWith(`:${port}`)),
            `${where}: ${probe}`,
          );
      }
      assert.ok(container.readinessProbe, where);
      assert.deepEqual(container.ports, [{ containerPort: port }], where);
      const service = manifests.find(
        (each) => each.manifest.kind === "Service" && each.manifest.metadata.name === manifest.metadata.name,
      )?.manifest;
      assert.equal(service?.spec.ports?.[0]?.port, port, where);
      assert.deepEqual(service?.spec.selector, manifest.spec.template?.metadata.labels, where);
      assert.deepEqual(manifest.spec.selector.matchLabels, manifest.spec.template?.metadata.labels, where);
    }
    for (const [name, { healthcheck, command }] of Object.entries(compose.services)) {
      if (!healthcheck) continue;
      const [how, ...probe] = healthcheck.test;
      assert.deepEqual(
        [how, probe.slice(0, 4)],
        ["CMD", ["node", "dist/cli/main.js", "doctor", "--no-machine"]],
        name,
      );
      const [, service] = String(command).split(" ");
      assert.equal(probe[4], `${service}=127.0.0.1:${portOf(String(command).split(" "))}`, name);
    }
  });

  it("has the time that a drain takes, and volumes that are there", () => {
    for (const { file, manifest, pod, container } of workloads) {
      const where = `${file}: ${container.name}`;
      const volumes = [
        ...(pod.volumes ?? []),
        ...(manifest.spec.volumeClaimTemplates ?? []).map((each) => each.metadata),
      ];
      for (const { name } of container.volumeMounts ?? []) {
        assert.ok(
          volumes.some((volume) => volume.name === name),
          `${where}: ${name}`,
        );
      }
      if (container.image !== "rlhf-mesh") continue;
      assert.ok((pod.terminationGracePeriodSeconds ?? 30) > 30, where);
      if (container.args.includes("--runs-dir=/runs")) {
        assert.equal(
          pod.securityContext?.fsGroup,
          1000,
          `${where}: the user node must be able to write to /runs`,
        );
      }
    }
    for (const [name, { image, stop_grace_period: grace }] of Object.entries(compose.services)) {
      if (image === "rlhf-mesh") assert.ok(Number.parseInt(grace ?? "10", 10) > 30, name);
    }
  });

  it("is reached by the run file of docs/operations.md: its addresses are services and their ports", () => {
    const page = readFileSync(join(root, "docs/operations.md"), "utf8");
    const block = blocksOf(page).find(({ text }) => text.startsWith("kind: ppo"));
    const { servers, weights } = parse(block?.text ?? "") as {
      servers: Record<string, { addresses: string[] }>;
      weights: { bus: string };
    };
    assert.deepEqual(Object.keys(servers), ["policy", "reference", "reward", "bertscore"]);
    for (const [role, { addresses }] of Object.entries(servers)) {
      const words = String(compose.services[role]?.command).split(" ");
      assert.deepEqual(addresses, [`${role}:${portOf(words)}`]);
    }
    assert.ok(String(compose.services.policy?.command).includes(weights.bus));
    for (const { args } of ours.map(({ container }) => container).filter(({ name }) => name === "policy")) {
      assert.ok(args.includes(`--weights=${weights.bus}`));
    }
  });

  it("reaches others by names that there are", () => {
    const names = {
      "compose.yaml": Object.keys(compose.services),
      "mesh.yaml": manifests
        .filter(({ manifest }) => manifest.kind === "Service")
        .map(({ manifest }) => manifest.metadata.name),
    };
    for (const { where, words } of deployed) {
      const host = /nats:\/\/(\w+):4222/.exec(words.join(" "))?.[1];
      if (host) assert.ok(names[where.split(":")[0] as "mesh.yaml"].includes(host), where);
    }
  });

  it("is in an image whose files are there, that runs the command line as a user of its own", () => {
    const text = read("Dockerfile");
    const lines = text.split("\n").filter((line) => /^[A-Z]+ /.test(line));
    const { bin, engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      bin: { rlhf: string };
      engines: { node: string };
    };
    assert.ok(lines.includes(`ENTRYPOINT ["node", "${bin.rlhf}"]`));
    const major = /^>=(\d+)\./.exec(engines.node)?.[1];
    for (const line of lines.filter((each) => each.startsWith("FROM ")))
      assert.match(line, new RegExp(`^FROM node:${major}-`));
    assert.ok(lines.indexOf("USER node") > lines.indexOf("RUN install -d -o node -g node /runs"));
    for (const line of lines.filter((each) => each.startsWith("COPY "))) {
      const [, ...words] = line.split(" ");
      const sources = words.filter((word) => !word.startsWith("--")).slice(0, -1);
      for (const source of sources) {
        const path = source.replace(/^\/app\//, "");
        assert.ok(path === "." || path === "dist" || existsSync(join(root, path)), `${line}: ${path}`);
      }
    }
  });
});

/** @file Reward servers for tests of clients that are not ours: one in the clear on loopback, one with TLS that asks for a token. */
import { join } from "node:path";
import { packageRoot } from "../../lib/config/package-root.js";
import {
  type CertificateFiles,
  createAuthority,
  type TestAuthority,
} from "../../lib/rpc/testing/certificates.js";
import type { Service } from "../support/processes.js";
import type { Sandbox } from "../support/sandbox.js";

/** A classifier of a few kilobytes with the labels LABEL_0 and LABEL_1. */
export const CLASSIFIER = join(packageRoot(), "test/golden/bert-tiny-classifier");
/** Token of the role infer. */
export const TOKEN = "token-of-a-test-1";

/** Starts a reward server in the clear, with the admin services on a listener of their own. */
export function startPlain(sandbox: Sandbox): Promise<Service> {
  return sandbox.serve("reward", ["--model", CLASSIFIER, "--admin-listen", "127.0.0.1:0"]);
}

/** A reward server with TLS and tokens, and the files that its callers need. */
export interface SecureServer {
  readonly service: Service;
  readonly authority: TestAuthority;
  /** File that holds the token of the role infer, as callers keep it. */
  readonly tokenFile: string;
}

/** Starts a reward server with TLS and tokens; with `clients` it also asks callers for a certificate (mTLS). */
export async function startSecure(sandbox: Sandbox, { clients = false } = {}): Promise<SecureServer> {
  const authority = createAuthority();
  sandbox.defer(() => authority.remove());
  const { certFile, keyFile }: CertificateFiles = authority.issue("reward.test");
  const service = await sandbox.serve("reward", [
    ...["--model", CLASSIFIER],
    ...["--tls-cert", certFile, "--tls-key", keyFile],
    ...(clients ? ["--tls-client-ca", authority.caFile] : []),
    ...["--auth-tokens", sandbox.write("tokens", `infer ${TOKEN}\nadmin another-${TOKEN}\n`)],
  ]);
  return { service, authority, tokenFile: sandbox.write("token", `${TOKEN}\n`) };
}

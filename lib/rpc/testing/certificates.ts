/** @file A certificate authority for one test: made with openssl in a temporary folder. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A certificate with its key, as PEM files. */
export interface CertificateFiles {
  certFile: string;
  keyFile: string;
}

/** Signs certificates. */
export interface TestAuthority {
  /** Certificate of the authority, as PEM file. */
  caFile: string;
  /** Makes a certificate for `name`, valid for localhost and 127.0.0.1 too. */
  issue(name: string): CertificateFiles;
  /** Folder for further files of the test. */
  folder: string;
  /** Removes the folder. */
  remove(): void;
}

/** Makes an authority. Needs `openssl` on the PATH. */
export function createAuthority(): TestAuthority {
  const folder = mkdtempSync(join(tmpdir(), "rlhf-certificates-"));
  const file = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  const newKey = (name: string) =>
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", name);
  newKey("ca.key");
  const asAuthority = ["-addext", "basicConstraints=critical,CA:TRUE"];
  openssl(
    "req",
    "-x509",
    "-new",
    "-key",
    "ca.key",
    "-out",
    "ca.pem",
    "-days",
    "2",
    "-subj",
    "/CN=test CA",
    ...asAuthority,
  );
  return {
    caFile: file("ca.pem"),
    folder,
    issue(name) {
      newKey(`${name}.key`);
      openssl("req", "-new", "-key", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
      writeFileSync(file(`${name}.ext`), `subjectAltName=DNS:${name},DNS:localhost,IP:127.0.0.1\n`);
      const signed = [
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        `${name}.ext`,
      ];
      openssl("x509", "-req", "-in", `${name}.csr`, "-out", `${name}.pem`, ...signed);
      return { certFile: file(`${name}.pem`), keyFile: file(`${name}.key`) };
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

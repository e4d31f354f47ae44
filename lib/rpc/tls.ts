/** @file TLS material from PEM files, for servers and clients. */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { ChannelCredentials, ServerCredentials } from "@grpc/grpc-js";

/** What a server shows, and whom it lets in. */
export interface ServerTls {
  /** PEM file with the server's certificate chain. */
  certFile: string;
  /** PEM file with its private key. */
  keyFile: string;
  /** PEM file with the authorities whose clients are let in: mTLS. Default: clients need no certificate. */
  clientCaFile?: string;
}

/** Whom a client trusts, and what it shows. */
export interface ClientTls {
  /** PEM file with the authorities to trust. Default: those of Node.js. */
  caFile?: string;
  /** PEM file with the client's certificate chain, for mTLS. */
  certFile?: string;
  /** PEM file with its private key. */
  keyFile?: string;
  /** Name that the server's certificate must have. Default: the host of the address. */
  serverName?: string;
}

/** A PEM file that is missing or unusable. The message names the option and the file. */
export class TlsError extends Error {
  readonly code = "TLS_INVALID";
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "TlsError";
  }
}

/** Reads and checks a server's files. Throws TlsError, so that a bad key is told at the start and not at a handshake. */
export function serverCredentials(tls: ServerTls): ServerCredentials {
  const cert = readPem("tls.certFile", tls.certFile);
  const key = readPem("tls.keyFile", tls.keyFile);
  const clientCa = tls.clientCaFile === undefined ? null : readPem("tls.clientCaFile", tls.clientCaFile);
  checkPair(cert, key, clientCa, `${tls.certFile} and ${tls.keyFile}`);
  return ServerCredentials.createSsl(clientCa, [{ cert_chain: cert, private_key: key }], clientCa !== null);
}

/** Reads and checks a client's files. Throws TlsError. */
export function clientCredentials(tls: ClientTls): ChannelCredentials {
  const ca = tls.caFile === undefined ? null : readPem("tls.caFile", tls.caFile);
  if ((tls.certFile === undefined) !== (tls.keyFile === undefined)) {
    throw new TlsError("tls.certFile and tls.keyFile: one needs the other");
  }
  const cert = tls.certFile === undefined ? null : readPem("tls.certFile", tls.certFile);
  const key = tls.keyFile === undefined ? null : readPem("tls.keyFile", tls.keyFile);
  if (cert && key) checkPair(cert, key, ca, `${tls.certFile} and ${tls.keyFile}`);
  return ChannelCredentials.createSsl(ca, key, cert);
}

function readPem(option: string, file: string): Buffer {
  let content: Buffer;
  try {
    content = readFileSync(file);
  } catch (error) {
    throw new TlsError(`${option}: ${file} cannot be read: ${(error as Error).message}`, error);
  }
  if (!content.includes("-----BEGIN ")) throw new TlsError(`${option}: ${file} is not a PEM file`);
  return content;
}

function checkPair(cert: Buffer, key: Buffer, ca: Buffer | null, names: string): void {
  try {
    createSecureContext({ cert, key, ...(ca && { ca }) });
  } catch (error) {
    throw new TlsError(
      `tls: ${names} do not make a certificate with its key: ${(error as Error).message}`,
      error,
    );
  }
}

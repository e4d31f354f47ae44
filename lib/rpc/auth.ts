/**
 * @file Bearer tokens by role, from a file that is read again when it changes.
 *
 * One token a line, `role token` or `role sha256:<hex of the token>`; empty lines and lines from `#` on are ignored:
 *
 *   infer  s3cr3t-of-the-training-run
 *   admin  sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
 *
 * Only digests are kept in memory, and they are compared in constant time. `admin` may do what `infer` may.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import type { Metadata } from "@grpc/grpc-js";
import { ForbiddenError, UnauthenticatedError } from "./errors.js";
import type { Logger } from "./log.js";

/** Who a caller is: `infer` uses models, `admin` also changes them. */
export type Role = "infer" | "admin";

/** A token file that cannot be used. The message names file, line and what is accepted, never a token. */
export class TokenFileError extends Error {
  readonly code = "TOKENS_INVALID";
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "TokenFileError";
  }
}

interface KnownToken {
  role: Role;
  digest: Buffer;
}

const minTokenChars = 8;

/** Parses the text of a token file. Throws TokenFileError. */
function parseTokens(text: string, file: string): KnownToken[] {
  const tokens = text.split(/\r?\n/).flatMap((line, i): KnownToken[] => {
    const [role, token, ...rest] = line
      .replace(/(^|\s)#.*$/, "")
      .trim()
      .split(/\s+/);
    if (!role) return [];
    const where = `${file}:${i + 1}`;
    if (role !== "infer" && role !== "admin")
      throw new TokenFileError(`${where}: accepted roles: infer, admin`);
    if (!token || rest.length > 0) throw new TokenFileError(`${where}: accepted: role token`);
    const hashed = /^sha256:(.*)$/.exec(token);
    if (hashed) {
      const hex = hashed[1] ?? "";
      if (!/^[0-9a-f]{64}$/i.test(hex)) throw new TokenFileError(`${where}: sha256: needs 64 hex digits`);
      return [{ role, digest: Buffer.from(hex, "hex") }];
    }
    if (token.length < minTokenChars)
      throw new TokenFileError(`${where}: a token has at least ${minTokenChars} characters`);
    return [{ role, digest: sha256(token) }];
  });
  if (tokens.length === 0) throw new TokenFileError(`${file}: holds no token; accepted: lines of role token`);
  return tokens;
}

/** The tokens of one file. */
export class TokenStore {
  private tokens: KnownToken[];
  private stamp: string;
  private complaint: string | undefined;
  private readonly timer: NodeJS.Timeout;

  /** Reads the file, then looks every `checkMs` (default 1 s) whether it changed. Throws TokenFileError. */
  constructor(
    private readonly file: string,
    private readonly log: Logger,
    checkMs = 1000,
  ) {
    this.stamp = stampOf(file);
    this.tokens = readTokens(file);
    this.timer = setInterval(() => this.reloadIfChanged(), checkMs).unref();
  }

  /** The role of a call by its authorization header. Throws UnauthenticatedError; never repeats what was sent. */
  roleOf(metadata: Metadata): Role {
    const values = metadata.get("authorization");
    if (values.length === 0)
      throw new UnauthenticatedError("no credentials; send metadata authorization: Bearer TOKEN");
    const match = /^bearer +([^\s]+) *$/i.exec(String(values[0]));
    if (values.length > 1 || !match)
      throw new UnauthenticatedError("authorization: accepted: one value, Bearer TOKEN");
    const digest = sha256(match[1] ?? "");
    let found: Role | undefined;
    for (const token of this.tokens) {
      // no early exit: the time does not tell which token matched, or how nearly
      if (timingSafeEqual(token.digest, digest) && found !== "admin") found = token.role;
    }
    if (!found) throw new UnauthenticatedError("the token is not known");
    return found;
  }

  /** Stops looking for changes. */
  close(): void {
    clearInterval(this.timer);
  }

  private reloadIfChanged(): void {
    try {
      const stamp = stampOf(this.file);
      if (stamp === this.stamp) return;
      this.tokens = readTokens(this.file);
      this.stamp = stamp;
      this.complaint = undefined;
      this.log.info({ file: this.file, tokens: this.tokens.length }, "tokens reloaded");
    } catch (error) {
      const { message } = error as Error;
      if (message === this.complaint) return; // said once, not every second
      this.complaint = message;
      this.log.error({ err: error, file: this.file }, "tokens not reloaded; the earlier ones stay valid");
    }
  }
}

/** Throws ForbiddenError unless `role` may do what `needed` may. */
export function assertRole(role: Role, needed: Role): void {
  if (needed === "admin" && role !== "admin")
    throw new ForbiddenError(`this method needs the role ${needed}`);
}

function readTokens(file: string): KnownToken[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new TokenFileError(`${file}: cannot be read: ${(error as Error).message}`, error);
  }
  return parseTokens(text, file);
}

/** Changes whenever the file's content may have, also when a symbolic link is pointed elsewhere. */
function stampOf(file: string): string {
  try {
    const { mtimeMs, size, ino } = statSync(file);
    return `${mtimeMs} ${size} ${ino}`;
  } catch (error) {
    throw new TokenFileError(`${file}: cannot be read: ${(error as Error).message}`, error);
  }
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

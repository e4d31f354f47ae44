/** @file What every reply carries and which requests are heard: text of models must never run, and no other site may read. */
import type { MiddlewareHandler } from "hono";
import { isLoopback } from "../lib/rpc/listen.js";

/** Only our own files; nothing inline, nothing from elsewhere, no page may frame us. Works without a network. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join("; ");

/** Sets the security headers of a reply, unless a route has set its own policy. */
export const securityHeaders: MiddlewareHandler = async (c, next) => {
  await next();
  const headers = c.res.headers;
  if (!headers.has("content-security-policy")) headers.set("content-security-policy", POLICY);
  if (!headers.has("cache-control")) headers.set("cache-control", "no-store");
  headers.set("x-content-type-options", "nosniff");
  headers.set("referrer-policy", "no-referrer");
  headers.set("cross-origin-resource-policy", "same-origin");
};

/**
 * Refuses requests whose Host is not this machine. A web page elsewhere can point a name of its own at 127.0.0.1 and would
 * then read the dashboard as its own origin (DNS rebinding); its requests carry that name.
 */
export const onlyHosts: MiddlewareHandler = async (c, next) => {
  const host = (c.req.header("host") ?? "").replace(/:\d+$/, "");
  if (!isLoopback(host)) {
    return c.json({ error: "This dashboard answers under localhost and 127.0.0.1 only." }, 403);
  }
  await next();
};

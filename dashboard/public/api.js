/** @file The dashboard's own API. A refusal becomes an Error with the server's words. */

export async function get(path) {
  const reply = await fetch(path);
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(body.error ?? `the dashboard answered ${reply.status}`);
  return body;
}

export const runPath = (id) => `/api/runs/${encodeURIComponent(id)}`;
export const runPage = (id) => `/runs/${encodeURIComponent(id)}`;

/** @file Expected failures of the dashboard. */

/** Something that was asked for does not exist; `what` says it to people. */
export class NotFoundError extends Error {
  readonly code = "NOT_FOUND";
  override readonly name = "NotFoundError";
}

/** The dashboard will not listen there. */
export class DashboardListenError extends Error {
  readonly code = "LISTEN_REFUSED";
  override readonly name = "DashboardListenError";
}

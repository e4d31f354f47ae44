/** @file LifecycleService, on the admin listener of every service: an orderly shutdown by call instead of by signal. */
import { LifecycleService } from "../api/gen/rlhf/weights/v1/weights_pb.js";
import { implement, type ServiceImplementation } from "./implement.js";

/** What the service ends. */
export interface LifecycleOptions {
  /** Calls that were accepted and not answered yet, this one included. */
  inFlight: () => number;
  /** Begins the end of the process; must not wait for it. */
  end: (why: string) => void;
}

/** The service. */
export function lifecycleService({ inFlight, end }: LifecycleOptions): ServiceImplementation {
  return implement(LifecycleService, {
    drain() {
      setImmediate(() => end("the admin listener was asked to drain")); // after the answer is on its way
      return { inFlight: Math.max(0, inFlight() - 1) };
    },
  });
}

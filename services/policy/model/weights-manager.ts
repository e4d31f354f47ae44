/**
 * @file Changes the weights of a worker: checkpoints loaded by hand, versions from the bus, rollback. One change at a time; a
 * change that fails leaves what serves as it is and says why.
 */
import { stat } from "node:fs/promises";
import { loadCheckpoint } from "../../../lib/checkpoint/index.js";
import { InvalidFieldError } from "../../../lib/rpc/errors.js";
import { histogram } from "../../../lib/telemetry/instruments.js";
import { WeightsConflictError, WeightsCorruptError } from "../errors.js";
import type { LoadCall, WeightsStatus } from "../protocol.js";
import type { PolicyModel } from "./policy-model.js";
import type { WeightStore, WeightsIdentity } from "./weight-store.js";

const pauses = histogram("rlhf.weights.pause.duration");

/** Weights that were fetched and verified, ready to be served. */
export interface ReadyWeights extends WeightsIdentity {
  /** By checkpoint name; given away, the map empty in the end. */
  readonly tensors: Map<string, Float32Array>;
}

/** The changes of one worker's weights. */
export class WeightsManager {
  #turn: Promise<unknown> = Promise.resolve();
  #load: WeightsStatus["load"] = { state: "none", version: 0, error: "", ms: 0 };
  #loaded: LoadCall | undefined;

  constructor(
    private readonly model: PolicyModel,
    private readonly store: WeightStore,
    private readonly pinned: boolean,
    /** Called after each change of the status. */
    private readonly changed: (status: WeightsStatus) => void,
  ) {
    // the last request on earlier weights may end long after the change
    store.onFreed(() => changed(this.status()));
  }

  status(): WeightsStatus {
    const { version, digest } = this.store.serving;
    const status: WeightsStatus = {
      serving: { version, digest },
      held: this.store.held(),
      load: { ...this.#load },
    };
    if (this.#loaded) status.loaded = this.#loaded;
    return status;
  }

  /**
   * Loads a checkpoint directory and serves it. Throws InvalidFieldError (no such directory), WeightsConflictError (pinned,
   * version not above the serving one, or another one serves than expected), CheckpointError, WeightsCorruptError.
   */
  load(call: LoadCall): Promise<WeightsStatus> {
    return this.#inTurn(async () => {
      this.#refusePinned();
      const serving = this.store.serving.version;
      if (call.expectVersion !== undefined && call.expectVersion !== serving) {
        throw new WeightsConflictError(`expect_version: v${call.expectVersion} expected, v${serving} serves`);
      }
      const info = await stat(call.directory).catch(() => undefined);
      if (!info?.isDirectory()) {
        const description = `is ${JSON.stringify(call.directory)}; accepted: a model directory of this server's machine`;
        throw new InvalidFieldError([{ field: "directory", description }]);
      }
      await this.#noting(call.version ?? 0, async () => {
        const checkpoint = await loadCheckpoint(call.directory, this.model.specs);
        if (call.digest !== undefined && call.digest !== checkpoint.digest) {
          throw new WeightsCorruptError(
            `${call.directory}: expected digest ${call.digest}, got ${checkpoint.digest}`,
          );
        }
        const version = call.version ?? checkpoint.weightVersion;
        await this.#serve({ version, digest: checkpoint.digest, tensors: checkpoint.tensors });
        // after a restart exactly these weights, as exactly this version
        this.#loaded = { directory: call.directory, version, digest: checkpoint.digest };
        return version;
      });
      return this.status();
    });
  }

  /** Serves weights that were fetched and verified. Rejects with WeightsConflictError unless their version is above the serving one. */
  apply(weights: ReadyWeights): Promise<void> {
    return this.#inTurn(async () => {
      await this.#serve(weights);
      this.#loaded = undefined;
    });
  }

  /** Notes how a load that somebody else runs is getting on. */
  noteLoad(load: WeightsStatus["load"]): void {
    this.#load = load;
    this.changed(this.status());
  }

  /** Serves a held version again. Throws VersionNotHeldError, WeightsConflictError where weights are pinned. */
  rollback(version: number): Promise<WeightsStatus> {
    return this.#inTurn(async () => {
      this.#refusePinned();
      this.store.rollback(version);
      this.#loaded = undefined;
      this.changed(this.status());
      return this.status();
    });
  }

  #refusePinned(): void {
    if (this.pinned) throw new WeightsConflictError("the weights of this server are pinned");
  }

  async #serve({ version, digest, tensors }: ReadyWeights): Promise<void> {
    const serving = this.store.serving.version;
    if (version <= serving) {
      throw new WeightsConflictError(`weights v${version}: expected a version above the serving v${serving}`);
    }
    await this.store.room();
    const uploaded = await this.model.upload(tensors);
    const started = performance.now();
    this.store.swap({ version, digest, tensors: uploaded });
    pauses.record((performance.now() - started) / 1000); // the only part during which no step can begin
  }

  /** Keeps the state of a load while it runs. `work` returns the version that serves then. */
  async #noting(version: number, work: () => Promise<number>): Promise<void> {
    const started = performance.now();
    const ms = () => performance.now() - started;
    this.noteLoad({ state: "loading", version, error: "", ms: 0 });
    try {
      this.noteLoad({ state: "serving", version: await work(), error: "", ms: ms() });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.noteLoad({ state: "failed", version, error: reason, ms: ms() });
      throw error;
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}

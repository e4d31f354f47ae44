/**
 * @file One compiled graph of the copy-free engine. `run` hands ONNX Runtime the addresses of the caller's memory for
 * inputs and outputs alike, on a libuv thread, and allocates only outputs that nobody gave memory for.
 */
import { dtypeInfo, elementCount } from "../dtypes.js";
import { EngineError } from "../errors.js";
import { NativeProgram, pinned } from "../native-program.js";
import { processRuns, type RunQueue } from "../run-queue.js";
import type { SharingRules } from "../sharing.js";
import { checkRun, type DimBindings, resolveDims, type Signature } from "../signature.js";
import type { Storage } from "../storage.js";
import { ownTensor, StoredTensor, type TensorContext } from "../tensor.js";
import type { EngineDType, EngineTensor, Program } from "../types.js";
import { type OrtApi, OrtStatusError, type Pointer } from "./c-api.js";
import type { DeviceMemory } from "./device-memory.js";
import type { OrtEnvironment } from "./environment.js";
import { readTensorInfo } from "./session.js";

/** What a program needs of its engine. */
export interface ProgramContext extends TensorContext {
  readonly environment: OrtEnvironment;
  readonly device: DeviceMemory | undefined;
  readonly queue: RunQueue;
  /** OrtRunOptions shared by all runs. */
  readonly runOptions: Pointer;
  /** Storage of the engine's own kind of memory. */
  allocate(byteLength: number): Storage;
}

/** A tensor for each output, or undefined where ONNX Runtime is to allocate. */
type Outputs = (StoredTensor | undefined)[];

/** A session and what is known of it. */
export interface SessionParts {
  session: Pointer;
  /** Names as callers use them. */
  signature: Signature;
  /** What the model calls its outputs. */
  outputs: readonly string[];
  /** Which outputs may be written over which inputs; without it (a ready ONNX model) the caller answers for that. */
  sharing?: SharingRules;
  /** The session writes a profile when it ends. */
  profiled: boolean;
}

/** A Program over one OrtSession. */
export class OrtProgram implements Program {
  readonly #context: ProgramContext;
  readonly #session: Pointer;
  readonly #native: NativeProgram;
  readonly #signature: Signature;
  readonly #inputNames: CStrings;
  readonly #outputNames: CStrings;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];

  readonly #sharing: SharingRules | undefined;

  /** Takes over the session. */
  constructor(context: ProgramContext, { session, signature, outputs, sharing, profiled }: SessionParts) {
    const { api, allocator } = context.environment;
    this.#context = context;
    this.#session = session;
    this.#signature = signature;
    this.#sharing = sharing;
    this.inputNames = signature.inputs.map((spec) => spec.name);
    this.outputNames = signature.outputs.map((spec) => spec.name);
    this.#inputNames = new CStrings(api, this.inputNames);
    this.#outputNames = new CStrings(api, outputs);
    this.#native = new NativeProgram(context.guard, () => {
      if (profiled) api.call("AllocatorFree", allocator, api.out("SessionEndProfiling", session, allocator));
      api.free("ReleaseSession", session);
    });
    context.guard.watch(this, this.#native);
  }

  async run(
    feeds: Record<string, EngineTensor>,
    into: Record<string, EngineTensor> = {},
  ): Promise<Record<string, EngineTensor>> {
    if (this.#native.released) throw new EngineError("RELEASED", "run: this program was released");
    const bound = checkRun(this.#signature, feeds, into);
    const inputs = this.inputNames.map((name) => ownTensor(this.#context, name, feeds[name]));
    const given = this.outputNames.map((name) =>
      into[name] === undefined ? undefined : ownTensor(this.#context, name, into[name]),
    );
    const used = [...inputs, ...given].flatMap((tensor) => tensor?.native ?? []);
    return pinned([this.#native, ...used], () =>
      this.#context.queue.run(() => processRuns.run(() => this.#runNow(inputs, given, bound))),
    );
  }

  release(): void {
    this.#native.release();
  }

  async #runNow(
    inputs: StoredTensor[],
    given: Outputs,
    bound: DimBindings,
  ): Promise<Record<string, EngineTensor>> {
    // memory for outputs that nobody gave any, where the inputs decide the shape (the others are left to ONNX Runtime),
    // and for those that must not be written where they are wanted before the run has read what is there
    const wanted = given.map((tensor, i) =>
      this.#mayWrite(tensor, inputs, this.outputNames[i]) ? tensor : undefined,
    );
    const made = this.#signature.outputs.map((spec, i) => {
      if (wanted[i] !== undefined) return undefined;
      const dims = given[i]?.dims ?? resolveDims(spec, bound);
      return dims === undefined ? undefined : this.#make(spec.dtype, dims);
    });
    const outputs = wanted.map((tensor, i) => tensor ?? made[i]);
    try {
      // pinned like everything else the run touches: closing the engine releases them meanwhile
      const late = await pinned(
        made.flatMap((tensor) => tensor?.native ?? []),
        async () => {
          const adopted =
            this.#context.device === undefined
              ? await this.#runOnHost(inputs, outputs)
              : await this.#runOnDevice(this.#context.device, inputs, outputs);
          for (const [i, target] of given.entries()) {
            if (target === undefined || target === outputs[i]) continue;
            await this.#copy(target, (made[i] as StoredTensor).native.address);
            (made[i] as StoredTensor).release();
          }
          return adopted;
        },
      );
      return Object.fromEntries(
        this.outputNames.map((name, i) => [name, (given[i] ?? made[i] ?? late[i]) as StoredTensor]),
      );
    } catch (error) {
      for (const tensor of made) tensor?.release();
      if (!(error instanceof OrtStatusError)) throw error;
      throw new EngineError("RUN_FAILED", `run: ${error.message}`, { cause: error });
    }
  }

  /** Whether the run may write the output where the caller wants it, over what it reads. */
  #mayWrite(target: StoredTensor | undefined, inputs: readonly StoredTensor[], output: string): boolean {
    if (target === undefined) return false;
    const { native } = target;
    return inputs.every((input, j) => {
      if (!native.overlaps(input.native)) return true;
      if (this.#sharing === undefined) return true;
      const exact = native.start === input.native.start && native.byteLength === input.native.byteLength;
      return exact && this.#sharing.allows(this.inputNames[j], output);
    });
  }

  #make(dtype: EngineDType, dims: readonly number[]): StoredTensor {
    const storage = this.#context.allocate(elementCount(dims) * dtypeInfo(dtype).bytes);
    return new StoredTensor(this.#context, storage, dtype, dims);
  }

  /** Fills a tensor from an address of the same kind of memory. */
  #copy({ native }: StoredTensor, source: Pointer): Promise<void> {
    const { device, environment } = this.#context;
    return device === undefined
      ? environment.api.copyAsync(native.address, source, native.byteLength)
      : device.copyWithin(native.address, source, native.byteLength);
  }

  /** Session.Run over host addresses. Returns the outputs that ONNX Runtime allocated, by index. */
  async #runOnHost(inputs: StoredTensor[], outputs: Outputs): Promise<StoredTensor[]> {
    const { runOptions } = this.#context;
    const { api } = this.#context.environment;
    const values = new BigUint64Array(new ArrayBuffer(8 * (inputs.length + outputs.length + 1)));
    inputs.forEach((tensor, i) => {
      values[i] = tensor.native.value();
    });
    outputs.forEach((tensor, i) => {
      values[inputs.length + i] = tensor?.native.value() ?? 0n;
    });
    await api.callAsync(
      "Run",
      this.#session,
      runOptions,
      this.#inputNames.address,
      values,
      inputs.length,
      this.#outputNames.address,
      outputs.length,
      values.subarray(inputs.length),
    );
    return this.#adoptMissing(outputs, values.subarray(inputs.length));
  }

  /** Session.RunWithBinding over device addresses. Outputs nobody gave memory for stay on the device. */
  async #runOnDevice(
    device: DeviceMemory,
    inputs: StoredTensor[],
    outputs: Outputs,
  ): Promise<StoredTensor[]> {
    const { environment, runOptions } = this.#context;
    const { api, allocator } = environment;
    const binding = api.out("CreateIoBinding", this.#session);
    try {
      inputs.forEach((tensor, i) => {
        api.call("BindInput", binding, this.inputNames[i], tensor.native.value());
      });
      outputs.forEach((tensor, i) => {
        const name = this.#outputNames.texts[i];
        if (tensor === undefined) api.call("BindOutputToDevice", binding, name, device.memoryInfo);
        else api.call("BindOutput", binding, name, tensor.native.value());
      });
      api.call("SynchronizeBoundInputs", binding);
      await api.callAsync("RunWithBinding", this.#session, runOptions, binding);
      api.call("SynchronizeBoundOutputs", binding);
      if (!outputs.includes(undefined)) return [];
      const [array, count] = api.out2("GetBoundOutputValues", binding, allocator);
      const values = BigUint64Array.from(api.read64(array, Number(count)), (value) =>
        BigInt.asUintN(64, value),
      );
      api.call("AllocatorFree", allocator, array);
      outputs.forEach((tensor, i) => {
        if (tensor !== undefined) api.free("ReleaseValue", values[i]); // a second reference to ours
      });
      return await this.#adoptMissing(outputs, values);
    } finally {
      api.free("ReleaseIoBinding", binding);
    }
  }

  /** Turns the values that ONNX Runtime allocated into tensors, and releases those values, all of them. */
  async #adoptMissing(outputs: Outputs, values: BigUint64Array): Promise<StoredTensor[]> {
    const { api } = this.#context.environment;
    const adopted: StoredTensor[] = [];
    try {
      for (const [i, tensor] of outputs.entries()) {
        if (tensor === undefined) adopted[i] = await this.#adopt(values[i], this.outputNames[i]);
      }
      return adopted;
    } catch (error) {
      for (const tensor of adopted) tensor?.release();
      throw error;
    } finally {
      outputs.forEach((tensor, i) => {
        if (tensor === undefined) api.free("ReleaseValue", values[i]);
      });
    }
  }

  /**
   * A tensor of ours with the contents of a value that ONNX Runtime allocated. A copy, because a view of the library's
   * memory would outlive it in the hands of a caller who kept `data` past `release`.
   */
  async #adopt(value: Pointer, name: string): Promise<StoredTensor> {
    const { api } = this.#context.environment;
    const { dtype, dims } = readValueShape(api, value, name);
    const tensor = this.#make(dtype, dims);
    try {
      await pinned([tensor.native], () => this.#copy(tensor, api.out("GetTensorMutableData", value)));
      return tensor;
    } catch (error) {
      tensor.release();
      throw error;
    }
  }
}

function readValueShape(api: OrtApi, value: Pointer, name: string) {
  const info = api.out("GetTensorTypeAndShape", value);
  try {
    const { dtype, dims } = readTensorInfo(api, info, name);
    return { dtype, dims: dims as number[] }; // a value has no unknown dimension
  } finally {
    api.free("ReleaseTensorTypeAndShapeInfo", info);
  }
}

/** An array of C strings that stays where it is. */
class CStrings {
  readonly texts: readonly string[];
  readonly #bytes: Buffer[];
  readonly #pointers: BigUint64Array;
  readonly address: Pointer;

  constructor(api: OrtApi, texts: readonly string[]) {
    this.texts = texts;
    this.#bytes = texts.map((text) => Buffer.from(`${text}\0`));
    this.#pointers = new BigUint64Array(new ArrayBuffer(8 * Math.max(1, texts.length)));
    this.#bytes.forEach((bytes, i) => {
      this.#pointers[i] = api.addressOf(bytes);
    });
    this.address = api.addressOf(this.#pointers);
  }
}

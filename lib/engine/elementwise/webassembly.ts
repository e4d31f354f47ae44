/** @file The part of the WebAssembly API that fused kernels use; neither ES2023 nor Node's types declare it. */
declare global {
  namespace WebAssembly {
    /** Linear memory, in pages of 64 KiB. */
    class Memory {
      constructor(descriptor: { initial: number; maximum: number; shared: boolean });
      readonly buffer: SharedArrayBuffer;
    }
    /** Validated code; may be sent to other threads. */
    class Module {
      constructor(bytes: Uint8Array);
      private readonly module: never;
    }
    /** Code with the memory it works on. */
    class Instance {
      constructor(module: Module, imports: Record<string, Record<string, Memory>>);
      readonly exports: Readonly<Record<string, unknown>>;
    }
  }
}

/** Bytes of a page of WebAssembly memory. */
export const PAGE_BYTES = 65_536;

/** Pages a 32-bit memory can have, 4 GiB. */
export const MAX_PAGES = 65_536;

/**
 * @file Where the ONNX Runtime library lies: the one that onnxruntime-node ships for this platform, or one the operator
 * names (a GPU build of the same version, say).
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const fileNames: Partial<Record<NodeJS.Platform, string>> = {
  linux: "libonnxruntime.so.1",
  darwin: "libonnxruntime.1.dylib",
  win32: "onnxruntime.dll",
};

/**
 * Full path of the shared library. `override` is a path given by the operator.
 * Throws Error, saying which file is missing, where this platform has no library.
 */
export function findOrtLibrary(override?: string): string {
  if (override !== undefined) {
    if (existsSync(override)) return override;
    throw new Error(`ONNX Runtime library ${override}: no such file`);
  }
  const fileName = fileNames[process.platform];
  if (fileName === undefined) {
    throw new Error(`onnxruntime-node ships no library for ${process.platform}/${process.arch}`);
  }
  const require = createRequire(import.meta.url);
  const root = dirname(require.resolve("onnxruntime-node/package.json"));
  const path = join(root, "bin", "napi-v6", process.platform, process.arch, fileName);
  if (!existsSync(path)) {
    throw new Error(
      `onnxruntime-node ships no library for ${process.platform}/${process.arch}: ${path} is missing`,
    );
  }
  return path;
}

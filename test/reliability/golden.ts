/** @file The tiny classifier of test/golden, for tests in which a model only has to be there. */
import { join } from "node:path";
import { packageRoot } from "../../lib/config/package-root.js";

/** Directory of a BERT with a classifier; also an encoder for BERTScore. */
export const GOLDEN_CLASSIFIER = join(packageRoot(), "test", "golden", "bert-tiny-classifier");

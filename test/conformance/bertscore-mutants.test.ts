/** @file Every check of `rlhf conformance bertscore`, held against servers with the mistake that it is there for. */
import { bertscoreMutants } from "./mutants/bertscore.js";
import { testMutants } from "./mutants/run-mutants.js";
import { bertscoreToy } from "./toy/bertscore.js";

testMutants("bertscore", bertscoreToy, bertscoreMutants);

/** @file All checks of a policy server, in the order in which they run. */
import type { Check } from "../check.js";
import { generateChecks } from "./generate.js";
import { logprobsChecks } from "./logprobs.js";
import { optionChecks } from "./options.js";
import { refusalChecks } from "./refusals.js";
import { streamChecks } from "./stream.js";
import type { PolicyTarget } from "./target.js";

/** Checks of Generate, GenerateStream, LogProbs and a policy server's GetInfo. */
export const policyChecks: readonly Check<PolicyTarget>[] = [
  ...generateChecks,
  ...optionChecks,
  ...streamChecks,
  ...logprobsChecks,
  ...refusalChecks,
];

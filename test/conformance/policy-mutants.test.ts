/** @file Every check of `rlhf conformance policy`, held against servers with the mistake that it is there for. */
import { policyMutants } from "./mutants/policy.js";
import { testMutants } from "./mutants/run-mutants.js";
import { policyToy } from "./toy/policy.js";

testMutants("policy", policyToy, policyMutants);

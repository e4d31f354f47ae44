/** @file Every check of `rlhf conformance reward`, held against servers with the mistake that it is there for. */
import { rewardMutants } from "./mutants/reward.js";
import { testMutants } from "./mutants/run-mutants.js";
import { rewardToy } from "./toy/reward.js";

testMutants("reward", rewardToy, rewardMutants);

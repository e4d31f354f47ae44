"""Greedy generation with repetition penalty: transformers' `generate` on the same prompts. A batch runs until its longest row is done."""

from common import row, say, task, time_runs, use_transformers
import torch
from generation import generate


def main():
    given = task()
    device = given["device"]
    transformers = use_transformers()
    for variant, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = transformers.GPT2LMHeadModel.from_pretrained(given["model"], dtype=dtype).to(device).eval()
        for case in given["cases"]:
            say(f"{case['name']}, {variant}")
            prompts = [each["prompt"] for each in case["rows"]]
            wanted = [each["newTokens"] for each in case["rows"]]

            def run(new_tokens):
                generate(model, prompts, new_tokens, given["repetitionPenalty"], device)

            seconds = time_runs(given["runs"], lambda _: run(max(wanted)), device)
            row(case["name"], "throughput", "tokens/s", [sum(wanted) / s for s in seconds], variant)
            first = time_runs(max(3, given["runs"]), lambda _: run(1), device)
            row(case["name"], "first token", "ms", [1000 * s for s in first], variant)


main()

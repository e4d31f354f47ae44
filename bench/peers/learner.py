"""Forward and backward pass of a PPO minibatch: the same rows, tokens and positions with logits as ours."""

from common import autocast, peak_memory_mib, reset_peak_memory, row, say, task, time_runs
import torch
from ppo_model import PolicyWithValue, entropy, ppo_loss, token_logprobs


def main():
    given = task()
    device, tokens, response = given["device"], given["tokens"], given["response"]
    model = PolicyWithValue(given["model"]).to(device)
    vocabulary = model.lm.config.vocab_size
    for count in given["rows"]:
        ids = torch.randint(vocabulary, (count, tokens + 1), device=device)
        shape = (count, response)
        old_logprobs = -torch.log(torch.tensor(float(vocabulary))) + 0.1 * torch.randn(shape, device=device)
        old_values, advantages, returns = (torch.randn(shape, device=device) for _ in range(3))

        def step(variant):
            model.zero_grad(set_to_none=True)
            with autocast(variant, device):
                hidden = model.hidden(ids[:, :-1])[:, -response:]
                logits = model.logits(hidden)
                values = model.values(hidden).float()
            logprobs = token_logprobs(logits, ids[:, -response:])
            with torch.no_grad():
                entropy(logits.float()).mean().item()
            loss = ppo_loss(logprobs, values, old_logprobs, old_values, advantages, returns)
            loss.backward()
            loss.item()

        for variant in ("fp32", "bf16"):
            say(f"{count}×{tokens}, {variant}")
            reset_peak_memory()
            seconds = time_runs(given["runs"], lambda _: step(variant), device)
            row(f"{count}×{tokens}", "forward+backward", "s", seconds, variant)
            row(f"{count}×{tokens}", "peak memory", "MiB", [peak_memory_mib()], variant)


main()

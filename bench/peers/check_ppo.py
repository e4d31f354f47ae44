"""Checks that the notebook profile of ppo_batch.py is TRL v0.2.1's step: one step on the golden batch must give the golden weights.

Run by hand where PyTorch and transformers are installed: python bench/peers/check_ppo.py
"""

import json
import random
from pathlib import Path

from common import use_transformers
import torch
from ppo_batch import notebook_learn, rollout_pass
from ppo_model import PolicyWithValue

TOLERANCE = 5e-6


def tensors(part):
    """Golden weights by name."""
    return {name: torch.tensor(each["data"]).reshape(each["shape"]) for name, each in part.items()}


def load(golden, part):
    """A policy with the golden weights of this part."""
    transformers = use_transformers()
    weights = tensors(golden[part])
    embeddings = weights["transformer.wte.weight"]
    # the golden model: 1 layer of width 8 with 2 heads
    config = transformers.GPT2Config(
        vocab_size=embeddings.shape[0],
        n_positions=weights["transformer.wpe.weight"].shape[0],
        n_embd=embeddings.shape[1],
        n_layer=1,
        n_head=2,
    )
    model = PolicyWithValue(transformers.GPT2LMHeadModel(config))
    head = {name.rsplit(".", 1)[1]: weights.pop(name) for name in list(weights) if name.startswith("v_head.")}
    model.lm.load_state_dict(weights)
    if head:
        model.value.load_state_dict(head)
    return model


def main():
    path = Path(__file__).parents[2] / "test" / "golden" / "ppo-trl-vectors.json"
    golden = json.loads(path.read_text(encoding="utf-8"))
    policy, reference = load(golden, "policy_before"), load(golden, "reference")
    config = golden["config"]
    samples = [(torch.tensor(q), torch.tensor(r)) for q, r in zip(golden["queries"], golden["responses"])]
    group = config["forward_batch_size"]
    references = [logprobs for logprobs, _ in rollout_pass(reference, samples, 0, group, "cpu", with_values=False)]
    adam = torch.optim.Adam(policy.parameters(), lr=config["learning_rate"])
    random.seed(golden["python_random_seed_before_step"])
    options = {"epochs": config["ppo_epochs"], "forwardBatchSize": group}
    notebook_learn(policy, adam, samples, golden["scores"], references, options, "cpu")
    state = {**policy.lm.state_dict(), **{f"v_head.summary.{k}": v for k, v in policy.value.state_dict().items()}}
    worst = 0.0
    for name, expected in tensors(golden["policy_after"]).items():
        difference = (state[name] - expected).abs()
        if name.endswith("attn.c_attn.bias"):
            # the gradient of the key part is 0; Adam makes steps of its rounding noise
            width = difference.shape[0] // 3
            difference[width : 2 * width] = 0
        worst = max(worst, difference.max().item())
    print(f"largest difference to TRL v0.2.1 after {len(golden['minibatches'])} optimizer steps: {worst:.2e}")
    if worst > TOLERANCE:
        raise SystemExit(f"more than {TOLERANCE}")


main()

"""GPT-2 with a value head, and PPO's loss on it, as papers and TRL's documentation state them; written for these benchmarks."""

from common import use_transformers
import torch


class PolicyWithValue(torch.nn.Module):
    """A causal language model and one linear output over its last hidden state."""

    def __init__(self, model, value_dropout=0.0):
        """`model` is a directory, or a language model that is there already."""
        super().__init__()
        if isinstance(model, str):
            model = use_transformers().GPT2LMHeadModel.from_pretrained(model, dtype=torch.float32)
        self.lm = model.eval()
        self.value = torch.nn.Linear(self.lm.config.n_embd, 1)
        self.dropout = torch.nn.Dropout(value_dropout)

    def hidden(self, ids, mask=None):
        """[B, T] → [B, T, D]."""
        return self.lm.transformer(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state

    def logits(self, hidden):
        return self.lm.lm_head(hidden)

    def values(self, hidden):
        return self.value(self.dropout(hidden)).squeeze(-1)


def token_logprobs(logits, labels):
    """Log-probability of each label, in float32."""
    return torch.log_softmax(logits.float(), dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def entropy(logits):
    """Entropy of each distribution."""
    return torch.logsumexp(logits, -1) - (torch.softmax(logits, -1) * logits).sum(-1)


def ppo_loss(logprobs, values, old_logprobs, old_values, advantages, returns, clip=0.2, value_coef=0.1):
    """Clipped policy loss and clipped value loss (arXiv:1707.06347), means over tokens."""
    clipped_values = torch.clamp(values, old_values - clip, old_values + clip)
    value_loss = 0.5 * torch.max((values - returns) ** 2, (clipped_values - returns) ** 2).mean()
    ratio = torch.exp(logprobs - old_logprobs)
    policy_loss = torch.max(-advantages * ratio, -advantages * torch.clamp(ratio, 1 - clip, 1 + clip)).mean()
    return policy_loss + value_coef * value_loss


def advantages_of(rewards, values, gamma=1.0, lam=0.95):
    """Generalized advantage estimation (arXiv:1506.02438) of one response, [G]; and the returns."""
    advantages = torch.zeros_like(rewards)
    last = 0.0
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(values) else 0.0
        last = rewards[t] + gamma * following - values[t] + gamma * lam * last
        advantages[t] = last
    return advantages, advantages + values


def whiten(values):
    """Mean 0, deviation 1."""
    return (values - values.mean()) * torch.rsqrt(values.var() + 1e-8)

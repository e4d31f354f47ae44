"""A batch of PPO in one Python process, both profiles; publishing has no counterpart here.

notebook: what TRL v0.2.1 does, restated. Prompts are generated one by one; the response repeats the query; old and reference
log-probabilities in groups of 16, padded, no mask; then 4 epochs of one optimizer step per sample, no clipping of gradients, value-head
dropout always on, advantages whitened within the sample, old values one position too far left, entropy over all positions.

default: prompts are generated as one left-padded batch, the sequence is query and continuation, log-probabilities as above, advantages
whitened over the batch, 4 epochs of minibatches of 8 padded to their longest, gradients clipped to norm 1.
"""

import random
import time

from common import row, say, synchronize, task, use_transformers
import torch
from generation import generate
from ppo_model import PolicyWithValue, advantages_of, entropy, ppo_loss, token_logprobs, whiten

KL_COEF = 0.2


class Clock:
    """Wall seconds of phases that follow each other."""

    def __init__(self, device):
        self.device = device
        self.seconds = {}
        self.start = self.last = self.now()

    def now(self):
        synchronize(self.device)
        return time.perf_counter()

    def lap(self, name):
        now = self.now()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now

    def total(self):
        return self.last - self.start


def pad_right(rows, device):
    longest = max(len(each) for each in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, each in enumerate(rows):
        ids[i, : len(each)] = each
    return ids.to(device)


def rollout_pass(model, samples, shift, group, device, with_values=True):
    """Log-probabilities, and values `shift` positions from where the loss predicts them, of every response, no gradients."""
    results = []
    for start in range(0, len(samples), group):
        members = samples[start : start + group]
        ids = pad_right([torch.cat(member) for member in members], device)
        with torch.no_grad():
            hidden = model.hidden(ids)
            logits = model.logits(hidden)
            values = model.values(hidden) if with_values else None
            for i, (query, response) in enumerate(members):
                first, end = len(query) - 1, len(query) + len(response) - 1
                logprobs = token_logprobs(logits[i, first:end], response.to(device))
                results.append((logprobs, values[i, first + shift : end + shift] if with_values else None))
    return results


def main():
    given = task()
    device = given["device"]
    transformers = use_transformers()
    reference = PolicyWithValue(given["model"]).to(device)
    classifier = transformers.BertForSequenceClassification.from_pretrained(given["classifier"], dtype=torch.float32)
    classifier = classifier.to(device).eval()
    for profile, options in given["profiles"].items():
        notebook = profile == "notebook"
        model = PolicyWithValue(given["model"], value_dropout=0.1 if notebook else 0.0).to(device)
        adam = torch.optim.Adam(model.parameters(), lr=1.41e-6 if notebook else 1e-5)
        warm_up(model, device)
        for number in range(given["runs"]):
            clock = Clock(device)
            samples = roll_out(given, model, notebook, clock)
            scores = scores_of(classifier, samples, device)
            clock.lap("score")
            group = given["forwardBatchSize"]
            references = [r for r, _ in rollout_pass(reference, samples, 0, group, device, with_values=False)]
            clock.lap("reference")
            learn = notebook_learn if notebook else default_learn
            learn(model, adam, samples, scores, references, {**options, "forwardBatchSize": group}, device)
            clock.lap("learn")
            say(f"{profile}: batch {number + 1}, {clock.total():.1f} s")
            for metric, seconds in (*clock.seconds.items(), ("whole batch", clock.total())):
                row(profile, metric, "s", [seconds], "TRL v0.2.1 in PyTorch" if notebook else "PyTorch")


def warm_up(model, device):
    """The first pass fetches memory and picks kernels; it is not part of a batch."""
    ids = torch.randint(model.lm.config.vocab_size, (1, 64), device=device)
    model.logits(model.hidden(ids)).logsumexp(-1).mean().backward()
    model.zero_grad(set_to_none=True)
    generate(model.lm, [ids[0].tolist()], 2, 10, device)


def roll_out(given, model, notebook, clock):
    """Query and response ids of every row: one by one with the query inside the response, or as one batch without."""
    device = given["device"]
    queries = [torch.randint(model.lm.config.vocab_size, (each["prompt"],)) for each in given["lengths"]]
    wanted = [each["newTokens"] for each in given["lengths"]]

    def new_tokens(rows, count):
        prompts = [query.tolist() for query in rows]
        return generate(model.lm, prompts, count, given["repetitionPenalty"], device, do_sample=True, top_k=1).cpu()

    if notebook:
        samples = [(q, torch.cat([q, new_tokens([q], count)[0]])) for q, count in zip(queries, wanted)]
    else:
        new = new_tokens(queries, max(wanted))
        samples = [(query, new[i, : wanted[i]]) for i, query in enumerate(queries)]
    clock.lap("generate")
    return samples


def scores_of(classifier, samples, device):
    """Probability of the second label. Ids stand for texts: 1.4 of the classifier's tokens for one of the policy's."""
    vocabulary = classifier.config.vocab_size
    rows = []
    for query, response in samples:
        length = min(512, round(1.4 * len(response)) + 2)
        rows.append(torch.randint(vocabulary, (length,)))
    scores = []
    with torch.inference_mode():
        for ids in rows:
            logits = classifier(input_ids=ids.unsqueeze(0).to(device)).logits
            scores.append(torch.softmax(logits, -1)[0, 1].item())
    return scores


def rewards_of(logprobs, ref_logprobs, score):
    """KL penalty on each token, the score on the last."""
    rewards = -KL_COEF * (logprobs - ref_logprobs)
    rewards[-1] += score
    return rewards


def notebook_learn(model, adam, samples, scores, references, options, device):
    """TRL v0.2.1's step: one optimizer step per sample and epoch."""
    old = rollout_pass(model, samples, -1, options["forwardBatchSize"], device)
    rewards = [rewards_of(o, r, s) for (o, _), r, s in zip(old, references, scores)]
    order = list(range(len(samples)))
    for _ in range(options["epochs"]):
        random.shuffle(order)
        for i in order:
            query, response = samples[i]
            ids = torch.cat([query, response]).unsqueeze(0).to(device)
            old_logprobs, old_values = old[i]
            advantages, returns = advantages_of(rewards[i], old_values)
            hidden = model.hidden(ids)
            logits = model.logits(hidden)
            span = slice(len(query) - 1, len(query) + len(response) - 1)
            logprobs = token_logprobs(logits[0, span], response.to(device))
            values = model.values(hidden)[0, span]
            loss = ppo_loss(logprobs, values, old_logprobs, old_values, whiten(advantages), returns)
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                entropy(logits).mean().item()


def default_learn(model, adam, samples, scores, references, options, device):
    """Minibatches, logits only where a response token is chosen, gradients clipped."""
    old = rollout_pass(model, samples, 0, options["forwardBatchSize"], device)
    estimates = [
        advantages_of(rewards_of(o, r, s), values) for (o, values), r, s in zip(old, references, scores)
    ]
    flat = whiten(torch.cat([advantages for advantages, _ in estimates]))
    advantages = torch.split(flat, [len(each) for each, _ in estimates])
    order = list(range(len(samples)))
    size = options["minibatchSize"]
    for _ in range(options["epochs"]):
        random.shuffle(order)
        for start in range(0, len(order), size):
            members = order[start : start + size]
            ids = pad_right([torch.cat(samples[i]) for i in members], device)
            hidden = model.hidden(ids)
            spans = [(len(samples[i][0]) - 1, len(samples[i][0]) + len(samples[i][1]) - 1) for i in members]
            rows = torch.cat([hidden[n, first:end] for n, (first, end) in enumerate(spans)])
            labels = torch.cat([samples[i][1] for i in members]).to(device)
            logits = model.logits(rows)
            loss = ppo_loss(
                token_logprobs(logits, labels),
                model.values(rows),
                torch.cat([old[i][0] for i in members]),
                torch.cat([old[i][1] for i in members]),
                torch.cat([advantages[i] for i in members]),
                torch.cat([estimates[i][1] for i in members]),
            )
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            with torch.no_grad():
                entropy(logits).mean().item()


if __name__ == "__main__":
    main()

"""Greedy generation with transformers' own `generate`, rows padded on the left."""

import torch


def pad_left(rows, device):
    """Ids and mask [B, T]."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return ids.to(device), mask.to(device)


def generate(model, rows, new_tokens, repetition_penalty, device, **options):
    """New tokens of every row, [B, new_tokens]; nothing ends a row early."""
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    ids, mask = pad_left(rows, device)
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            repetition_penalty=float(repetition_penalty),
            **{"do_sample": False, **options},
        )
    return out[:, ids.shape[1] :]

"""Texts through a BERT classifier with transformers, tokenizing included."""

from common import row, say, task, time_runs, use_transformers
import torch


def main():
    given = task()
    device = given["device"]
    transformers = use_transformers()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=f"{given['model']}/tokenizer.json", pad_token="[PAD]", model_max_length=512
    )
    for variant, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = transformers.BertForSequenceClassification.from_pretrained(given["model"], dtype=dtype)
        model = model.to(device).eval()
        for case in given["cases"]:
            say(f"{case['name']}, {variant}")
            texts = case["texts"]

            def run(_):
                encoded = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
                with torch.inference_mode():
                    torch.softmax(model(**encoded).logits.float(), -1).tolist()

            seconds = time_runs(given["runs"] * (4 if len(texts) == 1 else 1), run, device, warmup=2)
            row(case["name"], "throughput", "texts/s", [len(texts) / s for s in seconds], variant)
            # our server is compared with the same: a peer without a wire
            row(case["name"], "throughput through gRPC", "texts/s", [len(texts) / s for s in seconds], variant)


main()

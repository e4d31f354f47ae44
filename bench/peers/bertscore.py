"""BERTScore with the bert_score package, one set of pairs a run; the model stays loaded."""

from common import need, print_json, row, say, task, time_runs, use_transformers


def main():
    given = task()
    transformers = use_transformers()
    bert_score = need("bert_score", "bert-score")
    print_json({"versions": {"bert-score": bert_score.__version__}})
    # bert_score asks for a tokenizer by the model's name; ours has only the file that fast tokenizers read
    transformers.AutoTokenizer.from_pretrained = fast_tokenizer(transformers)
    for case in given["cases"]:
        say(case["name"])
        scorer = bert_score.BERTScorer(
            model_type=case["model"], num_layers=case["layer"], batch_size=64, device=given["device"], idf=False
        )
        runs = given["runs"]

        def run(number):
            pairs = runs[number + 1]
            scorer.score([candidate for candidate, _ in pairs], [reference for _, reference in pairs])

        seconds = time_runs(len(runs) - 1, run, given["device"])
        row(case["name"], "throughput", "pairs/s", [len(runs[0]) / s for s in seconds], "fp32")


def fast_tokenizer(transformers):
    def load(directory, **_):
        return transformers.PreTrainedTokenizerFast(
            tokenizer_file=f"{directory}/tokenizer.json",
            bos_token="<s>",
            eos_token="</s>",
            cls_token="<s>",
            sep_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            model_max_length=512,
        )

    return load


main()

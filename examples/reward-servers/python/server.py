"""A reward server of one's own: prefers answers of about 20 words that end with a full stop. Usage: server.py [host:port]"""
import hashlib
import sys

from kit import refuse, serve
from rlhf.reward.v1 import reward_pb2 as pb
from rlhf.reward.v1 import reward_pb2_grpc
from rlhf.types.v1 import types_pb2

NAME, LABEL, MAX_ITEMS = "tidy-answers", "tidy", 256
WEIGHTS = types_pb2.WeightsRef(version=1, digest=hashlib.sha256(open(__file__, "rb").read()).hexdigest())


def logits_of(texts):
    """The reward model: put yours here. One number a text, the larger the better."""
    return [float(text.rstrip().endswith(".")) - min(abs(len(text.split()) - 20) / 20, 10) for text in texts]


class RewardService(reward_pb2_grpc.RewardServiceServicer):
    def Score(self, request, context):
        count = len(request.texts)
        refuse(context, "texts", f"has {count} items; accepted: 1 to {MAX_ITEMS}", unless=1 <= count <= MAX_ITEMS)
        refuse(context, "text_pairs", "accepted: none, texts are scored alone", unless=not request.text_pairs)
        refuse(context, "label", f"accepted: {LABEL}", unless=request.label in ("", "0", LABEL))
        refuse(context, "function", "accepted: NONE, which gives logits", unless=request.function in (0, pb.SCORE_FUNCTION_NONE))
        refuse(context, "model", f"this server holds {NAME}", unless=request.model in ("", NAME), status="NOT_FOUND")
        results = []
        for text, logit in zip(request.texts, logits_of(request.texts)):
            score = pb.LabelScore(label=LABEL, score=logit, logit=logit)
            results.append(pb.TextScore(reward=logit, scores=[score], token_count=len(text.split())))
        return pb.ScoreResponse(results=results, model=NAME, weights=WEIGHTS, function=pb.SCORE_FUNCTION_NONE, label=LABEL)

    def GetInfo(self, request, context):
        server = types_pb2.ServerInfo(limits={"max_items": MAX_ITEMS, "max_receive_bytes": 4 << 20}, default_deadline_ms=60_000)
        model = types_pb2.ModelInfo(name=NAME, weights=WEIGHTS)
        return pb.GetInfoResponse(
            model=model, labels=[LABEL], default_label=LABEL, default_function=pb.SCORE_FUNCTION_NONE, server=server
        )


if __name__ == "__main__":
    serve(RewardService(), sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50055")

"""One step of Adam over tensors of the same shapes: PyTorch's fused, multi-tensor and single-tensor ways."""

from common import row, task, time_runs
import torch

WAYS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "single": {"foreach": False}}


def main():
    given = task()
    device = given["device"]
    for variant, way in WAYS.items():
        parameters = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in given["shapes"]]
        for parameter in parameters:
            parameter.grad = 1e-3 * torch.randn_like(parameter)
        adam = torch.optim.Adam(parameters, lr=1e-5, **way)
        row(given["case"], "step", "s", time_runs(given["runs"], lambda _, adam=adam: adam.step(), device, 2), variant)

        def clipped(_, adam=adam, parameters=parameters):
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            adam.step()

        row(given["case"], "norm, clip, step", "s", time_runs(given["runs"], clipped, device, 2), variant)


main()

"""ResNet-18 for 32×32 images, and the fake quantization that turns it into a Q/DQ graph TensorRT runs in INT8."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# TensorRT wants symmetric int8: zero point 0. The scale maps the largest magnitude to 127.
QMIN, QMAX = -128, 127
# Few steps: the running statistics must follow the weights sooner than PyTorch's 0.1 lets them.
BN_MOMENTUM = 0.3
LEAST_VARIANCE = 5e-3


class ConvBN(nn.Module):  # type: ignore[misc]
    """A convolution and its BatchNorm; `fold` merges the second into the first for inference."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, momentum=BN_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C'×H'×W'."""
        return self.bn(self.conv(x))

    def fold(self) -> None:
        """Replace by one convolution with a bias; exact in evaluation mode."""
        self.conv, self.bn = fuse_conv_bn_eval(self.conv.eval(), self.bn.eval()), nn.Identity()


class Block(nn.Module):  # type: ignore[misc]
    """Two 3×3 convolutions and a shortcut. The `after_*` slots are where an activation may be quantized."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(inputs, outputs, 3, stride)
        self.conv2 = ConvBN(outputs, outputs, 3)
        same_shape = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same_shape else ConvBN(inputs, outputs, 1, stride)
        self.after_conv1: nn.Module = nn.Identity()
        self.after_shortcut: nn.Module = nn.Identity()
        self.after_add: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C'×H'×W'."""
        y = self.after_conv1(torch.relu(self.conv1(x)))
        return self.after_add(torch.relu(self.conv2(y) + self.after_shortcut(self.shortcut(x))))


class ResNet18(nn.Module):  # type: ignore[misc]
    """ResNet-18 with the CIFAR stem: a 3×3 convolution of stride 1 and no max-pool, as 32×32 images need."""

    def __init__(self, classes: int = 10, width: int = 64) -> None:
        super().__init__()
        self.after_input: nn.Module = nn.Identity()
        self.stem = ConvBN(3, width, 3)
        self.after_stem: nn.Module = nn.Identity()
        widths = [width, width, width * 2, width * 4, width * 8]
        blocks: list[nn.Module] = []
        for stage in range(4):
            blocks.append(Block(widths[stage], widths[stage + 1], stride=1 if stage == 0 else 2))
            blocks.append(Block(widths[stage + 1], widths[stage + 1], stride=1))
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.after_pool: nn.Module = nn.Identity()
        self.fc: nn.Module = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images N×3×32×32 to scores N×classes."""
        x = self.after_stem(torch.relu(self.stem(self.after_input(x))))
        x = self.after_pool(self.pool(self.blocks(x)))
        scores: Tensor = self.fc(x.flatten(1))
        return scores

    def whiten(self, images: Tensor) -> None:
        """Start the stem as a whitening of 3×3 patches of these normalised images, N×3×H×W.

        Neighbouring pixels say nearly the same; filters that take this apart need not be learned first (Page 2018).
        These are the patches' principal directions, BatchNorm evens out their variances. Each comes twice, with
        opposite sign, because the ReLU drops one half. Directions that hardly vary (JPEG leaves many) are left out:
        rounding the input to INT8 has a variance of about 2e-5, which BatchNorm would make as loud as the rest.
        """
        patches = nn.functional.unfold(images, 3).transpose(1, 2).flatten(0, 1)  # M×27
        variance, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = directions.T[variance > LEAST_VARIANCE].flip(0)  # the most common pattern first
        with torch.no_grad():
            weight = self.stem.conv.weight
            filters = torch.cat((filters, -filters))[: len(weight)]
            weight[: len(filters)] = filters.view(-1, 3, 3, 3)


class QuantizeActivation(nn.Module):  # type: ignore[misc]
    """Rounds a tensor to 256 levels with one scale, so that training feels what INT8 will do; exports as Q → DQ."""

    amax: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("amax", torch.zeros(()))
        self.scale: float | None = None  # None: still watching the range

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; the same shape back. The gradient passes straight through, except where x was clipped."""
        if self.scale is None:
            self.amax.copy_(torch.maximum(self.amax, x.detach().float().abs().amax()))
            return x
        if x.dtype != torch.float32:  # mixed precision; written so that no Cast is exported, which would block a fusion
            x = x.float()
        return torch.fake_quantize_per_tensor_affine(x, self.scale, 0, QMIN, QMAX)

    def freeze(self) -> None:
        """Stop watching: from here the scale is a constant, as TensorRT needs it."""
        self.scale = max(self.amax.item(), 1e-6) / QMAX


class QuantizedLayer(nn.Module):  # type: ignore[misc]
    """A convolution or linear layer whose weights are rounded to int8, one scale per output channel.

    While training the scales follow the weights; `freeze` makes them constants. Left to be computed in the graph
    they would put operators between a weight and its Q, and TensorRT would no longer see an INT8 weight.
    """

    weight_scale: Tensor | None

    def __init__(self, layer: nn.Conv2d | nn.Linear, own_input: bool) -> None:
        super().__init__()
        self.layer = layer
        self.input = QuantizeActivation() if own_input else nn.Identity()
        self.register_buffer("weight_scale", None)

    def weight_scales(self) -> Tensor:
        """The scale of every output channel, from its largest weight."""
        return self.layer.weight.detach().flatten(1).abs().amax(1).clamp(min=1e-6) / QMAX

    def forward(self, x: Tensor) -> Tensor:
        """N×C… to N×C'…, as the layer itself."""
        layer, x = self.layer, self.input(x)
        scale = self.weight_scales() if self.weight_scale is None else self.weight_scale
        zero = torch.zeros(layer.weight.shape[0], dtype=torch.int32, device=scale.device)
        weight = torch.fake_quantize_per_channel_affine(layer.weight, scale, zero, 0, QMIN, QMAX)
        if isinstance(layer, nn.Linear):
            return nn.functional.linear(x, weight, layer.bias)
        return nn.functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding)

    def freeze(self) -> None:
        """Keep the scales of the weights as they are now."""
        self.weight_scale = self.weight_scales()


def fold(model: ResNet18) -> ResNet18:
    """Fold every BatchNorm into its convolution, in place: it would stay float beside an INT8 convolution."""
    model.eval()
    for module in list(model.modules()):
        if isinstance(module, ConvBN):
            module.fold()
    return model


def quantize(model: ResNet18, naive: bool) -> ResNet18:
    """Put fake quantization into a folded network, in place; it watches ranges until `freeze_activations`.

    The good placement quantizes a tensor once, where it is made, and everybody reads that: the block's input feeds
    its first convolution and the residual add with one shared scale. TensorRT then fuses convolution, add and ReLU
    into one kernel that reads and writes INT8, and the global pool reads INT8 too. A convolution's own output is
    left alone before the add: a Q there would split that kernel in two.

    The naive placement quantizes what each layer with weights reads, as most tools do unasked. The residual and the
    pool stay float, so every block also moves a float tensor: slower than plain FP16.
    """
    for module in list(model.modules()):
        if isinstance(module, ConvBN):
            assert isinstance(module.conv, nn.Conv2d)
            module.conv = QuantizedLayer(module.conv, own_input=naive)
        if naive:
            continue
        if isinstance(module, ResNet18):
            module.after_input, module.after_stem, module.after_pool = (QuantizeActivation() for _ in range(3))
        if isinstance(module, Block):
            module.after_conv1, module.after_add = QuantizeActivation(), QuantizeActivation()
            if isinstance(module.shortcut, ConvBN):
                module.after_shortcut = QuantizeActivation()
    assert isinstance(model.fc, nn.Linear)
    model.fc = QuantizedLayer(model.fc, own_input=naive)
    return model


def freeze_activations(model: ResNet18) -> None:
    """End calibration: every activation scale becomes a constant and rounding begins."""
    for module in model.modules():
        if isinstance(module, QuantizeActivation):
            module.freeze()


def freeze_weights(model: ResNet18) -> None:
    """End training: every weight scale becomes a constant, ready for export."""
    for module in model.modules():
        if isinstance(module, QuantizedLayer):
            module.freeze()

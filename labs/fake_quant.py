"""ResNet-18 for 32×32 images, and the fake quantization that turns it into a Q/DQ graph TensorRT runs in INT8."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# TensorRT wants symmetric int8: zero point 0. The scale maps the largest magnitude to 127.
QMIN, QMAX = -128, 127


class ConvBN(nn.Module):
    """A convolution and its BatchNorm; `fold` merges the second into the first for inference."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C'×H'×W'."""
        return self.bn(self.conv(x))

    def fold(self) -> None:
        """Replace by one convolution with a bias; exact in evaluation mode."""
        self.conv, self.bn = fuse_conv_bn_eval(self.conv.eval(), self.bn.eval()), nn.Identity()


class Block(nn.Module):
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


class ResNet18(nn.Module):
    """ResNet-18 with the CIFAR stem: a 3×3 convolution of stride 1 and no max-pool, so 32×32 images keep their detail."""

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


class QuantizeActivation(nn.Module):
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


class QuantizeWeight(nn.Module):
    """Rounds weights to int8 with one scale per output channel.

    While training the scales follow the weights; `freeze` makes them constants. Left to be computed in the graph
    they would put operators between a weight and its Q, and TensorRT would no longer see an INT8 weight.
    """

    scale: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", None)

    def _scales(self, weight: Tensor) -> Tensor:
        return weight.detach().flatten(1).abs().amax(1).clamp(min=1e-6) / QMAX

    def forward(self, weight: Tensor) -> Tensor:
        """Weights with output channels first; the same shape back."""
        scale = self._scales(weight) if self.scale is None else self.scale
        zero = torch.zeros(weight.shape[0], dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, QMIN, QMAX)

    def freeze(self, weight: Tensor) -> None:
        """Keep the scales of these weights."""
        self.scale = self._scales(weight)


class QuantConv2d(nn.Module):
    """A convolution whose weights, and with `own_input` whose input, are quantized."""

    def __init__(self, conv: nn.Conv2d, own_input: bool) -> None:
        super().__init__()
        self.conv = conv
        self.input = QuantizeActivation() if own_input else nn.Identity()
        self.quantize_weight = QuantizeWeight()

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C'×H'×W'."""
        conv = self.conv
        weight = self.quantize_weight(conv.weight)
        return nn.functional.conv2d(self.input(x), weight, conv.bias, conv.stride, conv.padding)

    def freeze(self) -> None:
        """Make the weight scales constants."""
        self.quantize_weight.freeze(self.conv.weight)


class QuantLinear(nn.Module):
    """A fully connected layer whose weights, and with `own_input` whose input, are quantized."""

    def __init__(self, linear: nn.Linear, own_input: bool) -> None:
        super().__init__()
        self.linear = linear
        self.input = QuantizeActivation() if own_input else nn.Identity()
        self.quantize_weight = QuantizeWeight()

    def forward(self, x: Tensor) -> Tensor:
        """N×C to N×C'."""
        return nn.functional.linear(self.input(x), self.quantize_weight(self.linear.weight), self.linear.bias)

    def freeze(self) -> None:
        """Make the weight scales constants."""
        self.quantize_weight.freeze(self.linear.weight)


def fold(model: ResNet18) -> ResNet18:
    """Fold every BatchNorm into its convolution, in place: a float BatchNorm after an INT8 convolution costs its gain."""
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
            module.conv = QuantConv2d(module.conv, own_input=naive)
        if naive:
            continue
        if isinstance(module, ResNet18):
            module.after_input, module.after_stem, module.after_pool = (QuantizeActivation() for _ in range(3))
        if isinstance(module, Block):
            module.after_conv1, module.after_add = QuantizeActivation(), QuantizeActivation()
            if isinstance(module.shortcut, ConvBN):
                module.after_shortcut = QuantizeActivation()
    assert isinstance(model.fc, nn.Linear)
    model.fc = QuantLinear(model.fc, own_input=naive)
    return model


def freeze_activations(model: ResNet18) -> None:
    """End calibration: every activation scale becomes a constant and rounding begins."""
    for module in model.modules():
        if isinstance(module, QuantizeActivation):
            module.freeze()


def freeze_weights(model: ResNet18) -> None:
    """End training: every weight scale becomes a constant, ready for export."""
    for module in model.modules():
        if isinstance(module, (QuantConv2d, QuantLinear)):
            module.freeze()

"""The U-Net, for images and volumes alike."""

from __future__ import annotations

from collections.abc import Callable

from tinynet import nn, ops
from tinynet.errors import ArgumentError, ShapeError, by_x, unknown_name
from tinynet.nn.checks import missing_axis, whole
from tinynet.tensor import Tensor

_RANKS: dict[int, tuple[type[nn.Module], ...]] = {
    2: (nn.Conv2D, nn.ConvTranspose2D, nn.MaxPool2D, nn.Upsample2D),
    3: (nn.Conv3D, nn.ConvTranspose3D, nn.MaxPool3D, nn.Upsample3D),
}


class UNet(nn.Module):
    """Encoder, decoder and skip connections for segmentation (Ronneberger et al. 2015).

    (N, H, W, C) to logits (N, H, W, classes), or (N, D, H, W, C) with ``rank=3``. ``depth`` times the size is
    halved and the number of filters, ``base`` at first, is doubled. Each level is two convolutions of 3, each
    with batch normalisation and ReLU. ``upsample`` is "transpose", a learned transposed convolution, or
    "linear", interpolation followed by a convolution of 3.

    Any size will do: halving rounds up (the pooling is padded), and what the decoder then has too much at the
    end of an axis is cropped away, so the output is as large as the input.
    """

    def __init__(
        self, base: int = 16, depth: int = 3, classes: int = 2, *, rank: int = 2, upsample: str = "transpose"
    ):
        if rank not in _RANKS:
            raise ArgumentError(f"rank={rank!r}: 2 for images, 3 for volumes")
        if upsample not in ("transpose", "linear"):
            raise unknown_name("upsample", upsample, ("transpose", "linear"))
        whole(base, "base"), whole(depth, "depth")
        self.base, self.depth, self.classes, self.rank, self.upsample = base, depth, classes, rank, upsample
        conv, _, pool, _ = _RANKS[rank]
        filters = [base * 2**level for level in range(depth)]
        self.pool = pool(2, padding="same")
        self.down = [_double_conv(conv, f) for f in filters]
        self.bottom = _double_conv(conv, base * 2**depth)
        self.up = [self._larger(f) for f in reversed(filters)]
        self.merge = [_double_conv(conv, f) for f in reversed(filters)]
        self.out = conv(classes, 1)

    def _larger(self, filters: int) -> nn.Module:
        conv, transpose, _, upsample = _RANKS[self.rank]
        if self.upsample == "transpose":
            return transpose(filters, 2, stride=2)
        return nn.Sequential(upsample(2, mode="linear"), conv(filters, 3, padding="same"))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.rank + 2:
            hint = missing_axis(x.shape) if x.ndim == self.rank + 1 else ""
            needed = f"rank={self.rank} needs {self.rank + 2}"
            raise ShapeError(f"got {by_x(x.shape)}, {x.ndim} axes, but {needed}.{hint}")
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.bottom(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips)):
            x = merge(ops.concat([skip, crop(up(x), skip.shape)]))
        return self.out(x)


def crop(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``x`` (N, *spatial, C) cut at the end of each spatial axis to the spatial size of ``shape``."""
    if x.shape[1:-1] == shape[1:-1]:
        return x
    return x[(slice(None), *(slice(s) for s in shape[1:-1]))]


def _double_conv(conv: Callable[..., nn.Module], filters: int) -> nn.Sequential:
    return nn.Sequential(
        conv(filters, 3, padding="same", bias=False),
        nn.BatchNorm(),
        nn.ReLU(),
        conv(filters, 3, padding="same", bias=False),
        nn.BatchNorm(),
        nn.ReLU(),
    )

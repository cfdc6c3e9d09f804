"""Augmentation and resizing on the training device: one affine resampling does geometry and resolution at
once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from supernets.training.recipe import Augmentation


def augmented(images: Tensor, resolution: int, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Normalised images (B, C, H, W), randomly changed and resized to `resolution`; same device."""
    if settings.shift or settings.rotate or settings.scale or settings.flip:
        images = _moved(images, resolution, settings, generator)
    else:
        images = resized(images, resolution)
    if settings.contrast or settings.brightness:
        spread = _uniform((len(images), 2, 1, 1), images, generator)
        images = images * (1 + settings.contrast * spread[:, :1]) + settings.brightness * spread[:, 1:]
    if settings.noise:
        images = images + settings.noise * torch.randn(
            images.shape, device=images.device, generator=generator
        )
    return _cut(images, settings.cutout, generator) if settings.cutout else images


def resized(images: Tensor, resolution: int) -> Tensor:
    """Bilinear to resolution x resolution, as `supernets.data.steps.Interpolate`."""
    if images.shape[-1] == resolution == images.shape[-2]:
        return images
    return F.interpolate(images, size=(resolution, resolution), mode="bilinear", align_corners=False)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(shape, device=like.device, dtype=like.dtype, generator=generator) - 1


def _moved(images: Tensor, resolution: int, settings: Augmentation, generator: torch.Generator) -> Tensor:
    batch, channels = images.shape[:2]
    drawn = _uniform((batch, 5), images, generator)
    angle = drawn[:, 0] * math.radians(settings.rotate)
    size = 1 + drawn[:, 1] * settings.scale
    mirror = torch.where(drawn[:, 4] < 0, -1.0, 1.0) if settings.flip else torch.ones_like(angle)
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    shift = 2 * settings.shift * drawn[:, 2:4]
    theta = torch.stack(
        [torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)],
        dim=1,
    )
    grid = F.affine_grid(theta, [batch, channels, resolution, resolution], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _cut(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """One square per image set to 0, the mean of the data."""
    size = images.shape[-1]
    centre = torch.rand((len(images), 2), device=images.device, generator=generator) * size
    along = torch.arange(size, device=images.device)
    inside = (along[None, None] - centre[:, :, None]).abs() < share * size / 2  # (B, 2, size)
    hidden = inside[:, 0, :, None] & inside[:, 1, None, :]
    return images.masked_fill(hidden[:, None], 0.0)

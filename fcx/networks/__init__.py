"""Models, what goes in and comes out of them, checkpoints, and how they are taught."""

from fcx.networks import torchvision_operators  # noqa: F401  `import torchvision` works from here on

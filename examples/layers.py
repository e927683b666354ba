"""Every layer of a digits net learns on its own: no layer waits for the ones above it."""

import torch
import torch.nn.functional as F
from torch import nn

from dnicomm.core import Adam, DecoupledSequential, GradientUtility, Interface
from dnicomm.data import load_digits

torch.manual_seed(0)
images = load_digits()
x, y = images.train_images.flatten(1), images.train_labels


def layer(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


net = DecoupledSequential(
    [layer(64, 128), layer(128, 128), layer(128, 128), nn.Linear(128, 10)],
    # linear, and it sees the label: what the paper calls cDNI
    [Interface(GradientUtility(128, context_size=10), Adam(lr=1e-3)) for _ in range(3)],
    lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
)
for _ in range(400):
    batch = torch.randint(len(x), (128,))
    label = y[batch]
    net.update(
        x[batch],
        lambda out, label=label: F.cross_entropy(out, label, reduction="none"),
        context=F.one_hot(label, 10).float(),
    )

net.eval()
right = net(images.test_images.flatten(1)).argmax(1) == images.test_labels
print(f"digits never trained on: {right.float().mean():.1%} right")

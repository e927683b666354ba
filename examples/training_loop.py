"""An interface in one's own training loop: an encoder that never waits for its head.

The encoder steps as soon as it has encoded: a utility model says how its output should change.
The head reads that output later, and what it finds out trains the utility model alone.
"""

import torch
import torch.nn.functional as F
from torch import nn

from dnicomm.core import Adam, GradientUtility, Interface
from dnicomm.data import load_digits

images = load_digits()
x, y = images.train_images.flatten(1), images.train_labels
test_x, test_y = images.test_images.flatten(1), images.test_labels


def train(interface, steps=300, late=5):
    """Accuracy on digits never trained on; the head is ``late`` batches behind the encoder."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
    head = nn.Linear(16, 10)
    encoder_optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    head_optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    on_the_way = []
    for _ in range(steps):
        batch = torch.randint(len(x), (128,))
        label = F.one_hot(y[batch], 10).float()
        encoder_optimizer.zero_grad()
        message = interface.send(encoder(x[batch]), context=label)
        encoder_optimizer.step()  # its gradients are there already
        on_the_way.append((message, y[batch]))

        if len(on_the_way) > late:
            message, answer = on_the_way.pop(0)
            head_optimizer.zero_grad()
            loss = F.cross_entropy(head(message.tensor), answer)
            loss.backward()  # reaches the message and no further
            head_optimizer.step()
            message.settle()  # fits the utility model to what came out
    encoder.eval()
    return (head(encoder(test_x)).argmax(1) == test_y).float().mean().item()


def utility(scale):
    return Interface(GradientUtility(16, context_size=10), Adam(lr=3e-3), gradient_scale=scale)


print(f"digits never trained on: {train(utility(0.0)):.1%} right if the encoder learns nothing,")
print(f"{train(utility(1.0)):.1%} with synthetic gradients")

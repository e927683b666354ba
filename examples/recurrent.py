"""An LSTM learns in windows of 3 steps; an interface says what the state is worth afterwards.

The first input of a sequence has to be repeated at its end, 20 steps later. Plain truncation never
connects the two: there no gradient leaves a window. The utility model carries it across.
"""

import torch
import torch.nn.functional as F

from dnicomm.core import Adam, DecoupledRNN, GradientUtility, Interface, LSTMCore

LENGTH, WINDOW, BATCH = 21, 3, 64


def train(interface: Interface | None) -> float:
    torch.manual_seed(0)
    core = LSTMCore(input_size=2, hidden_size=24)
    head = torch.nn.Linear(24, 2)
    parameters = [*core.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    rnn = DecoupledRNN(core, interface)
    right = 0.5  # running mean
    for _ in range(1000):
        bit = torch.randint(2, (BATCH,))
        xs = torch.zeros(LENGTH, BATCH, 2)
        xs[0] = F.one_hot(bit, 2).float()
        context = F.one_hot(bit, 2).float()  # what a teacher may know in training
        rnn.start(torch.zeros(BATCH, core.state_size))
        for first in range(0, LENGTH, WINDOW):
            last = first + WINDOW >= LENGTH
            out, window = rnn.window(xs[first : first + WINDOW], context, last)
            logits = head(out[-1])  # [B, 2]
            loss = F.cross_entropy(logits, bit, reduction="none")
            optimizer.zero_grad()
            window.backward(loss if last else loss * 0)
            # what is learnt stays: most windows have small gradients, and the last a large one
            torch.nn.utils.clip_grad_norm_(parameters, 0.1)
            optimizer.step()
        right += 0.05 * ((logits.argmax(1) == bit).float().mean().item() - right)
        if right > 0.97:  # it can do it
            break
    return right


plain = train(None)
decoupled = train(Interface(GradientUtility(48, context_size=2), Adam(lr=1e-3)))
print(f"right after 20 steps: truncated {plain:.0%}, with an interface {decoupled:.0%}")

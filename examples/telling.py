"""An agent and an environment of one's own: one learns what to tell the other.

The teller sees 16 numbers. The guesser hears one, and says whether their sum is above zero.
"""

import torch

from dnicomm.sim import Adam, Agent, AgentSpaces, ContextField, Env, Simulation, TickOutput, World


class Talker(Agent):
    def __init__(self, spec):
        super().__init__(spec)
        self.both = torch.nn.Linear(spec.input_size, spec.action_size + spec.message_size)

    def tick(self, observation, inbox, state):
        both = self.both(torch.cat([observation, inbox.flat()], -1))
        return TickOutput(*both.split([self.spec.action_size, self.spec.message_size], -1))


class Numbers(World):
    agents, edges, horizon = ("teller", "guesser"), (("teller", "guesser"),), 3
    # what the guesser's utility model may see in training, beside the message
    context_fields, default_context = {"answer": ContextField(2)}, ("answer",)

    def spaces(self, agent):
        return AgentSpaces((16,)) if agent == "teller" else AgentSpaces((0,), action_size=2)

    def reset(self, episode, rng):
        self.numbers = torch.from_numpy(rng.standard_normal((self.num_worlds, 16), "float32"))
        self.answer = (self.numbers.sum(-1) > 0).long()  # [B]

    def observe(self, agents):  # [1, B, …]
        return self.numbers[None, :, : 16 if agents[0] == 0 else 0]

    def context(self, field):
        return torch.eye(2)[self.answer]

    def labels(self, agents):
        return self.answer.expand(len(agents), -1)

    def act(self, agents, actions, active):
        self.guess = actions[0]  # of the guesser: the teller only talks

    def step(self):
        return None  # labels teach, nobody is paid

    def score(self):
        return {"right": (self.guess == self.answer).float()}


class Telling(Env):
    name = "telling"

    def make(self, num_worlds, split, device):
        world = Numbers()
        world.num_worlds, world.device = num_worlds, device
        return world


for feedback in ("none", "synthetic"):
    pair = Simulation(Telling(), Talker, message_size=1, feedback=feedback, optimizer=Adam(1e-2))
    print(f"feedback {feedback}: {pair.run(steps=400).metrics['right']:.1%} right")

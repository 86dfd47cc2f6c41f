"""The training: one student, five losses, a checkpoint every few minutes from which a run goes on exactly where it was."""

import copy
import signal
import time
from dataclasses import asdict, dataclass

import torch
from torch.nn import functional as F

from . import SEED, items, say, write_atomically
from .batches import by_length
from .model import embedding, new_student

# Fewer have too few pairs for a variance.
PAIRED_TEXTS_MIN = 4


@dataclass
class Plan:
    """What a run does; a checkpoint remembers it and refuses another."""

    passes: float = 4.0
    batch_tokens: int = 1024
    rate: float = 1.5e-4
    heads_rate: float = 4e-3
    warm_up_steps: int = 100
    decay_share: float = 0.3
    weight_decay: float = 0.01
    average: float = 0.998
    entity_weight: float = 1.0
    sentiment_weight: float = 1.0
    vector_weight: float = 10.0
    pairs_weight: float = 2.0
    states_weight: float = 1.0
    teacher_texts: int = 98_000
    limit: int | None = None


def rate_at(plan, step, steps, time_left=1.0):
    """The share of the full rate: linear warm-up, constant, then linear decay over the last `decay_share` of the steps, or of the time
    where that ends first (`time_left` is its share that is still to come): weights that never saw a low rate are worse than fewer steps."""
    warm = min(1.0, (step + 1) / plan.warm_up_steps)
    left = min((steps - step) / max(1.0, steps), time_left)
    return warm * min(1.0, max(left, 0.0) / plan.decay_share)


def losses(student, batch):
    """Name -> loss of the answers known in this batch, each a mean."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = student(batch.ids)
        entity_logits = student.entity_logits(hidden)
        sentiment_logits = student.sentiment_logits(hidden)
    found = {}
    if len(batch.labels):
        found["entity"] = F.cross_entropy(entity_logits[batch.places].float(), batch.labels)
    known = batch.sentiment != items.NO_LABEL
    if known.any():
        # Over the whole batch, so that a lone review does not weigh as much as sixty.
        found["sentiment"] = F.cross_entropy(sentiment_logits[known].float(), batch.sentiment[known]) * known.float().mean()
    if len(batch.taught):
        taught = hidden[batch.taught].float()
        vectors, answers = embedding(taught), F.normalize(batch.vectors, dim=-1)
        found["vector"] = (1 - (vectors * answers).sum(-1)).mean()
        if len(vectors) >= PAIRED_TEXTS_MIN:
            found["pairs"] = pairs_loss(vectors, answers)
        # The first token is the sentiment head's and owes the teacher nothing but its share of the mean.
        found["states"] = F.mse_loss(taught[:, 1:], batch.states[:, 1:]) / batch.states[:, 1:].var()
    return found


def pairs_loss(vectors, answers):
    """Squared distance of the similarities of all pairs to the teacher's, in units of their variance: the teacher's lie close
    together, so that a vector may be near its own and the order of the pairs lost all the same."""
    rows, columns = torch.triu_indices(len(vectors), len(vectors), 1)
    found, wanted = (vectors @ vectors.T)[rows, columns], (answers @ answers.T)[rows, columns]
    return F.mse_loss(found, wanted) / wanted.var()


def groups(student, plan):
    """Parameters by rate and decay: the encoder's matrices, its vectors, the heads, which start from nothing and learn faster."""
    encoder = [p for p in student.encoder.parameters() if p.requires_grad]
    known = {id(p) for p in student.encoder.parameters()}
    return [
        {"params": [p for p in encoder if p.ndim > 1], "full_rate": plan.rate, "weight_decay": plan.weight_decay},
        {"params": [p for p in encoder if p.ndim == 1], "full_rate": plan.rate, "weight_decay": 0.0},
        {"params": [p for p in student.parameters() if id(p) not in known], "full_rate": plan.heads_rate, "weight_decay": plan.weight_decay},
    ]


class Trainer:
    """State of a run: student, its running average (which is what gets evaluated), optimiser, place in the data."""

    def __init__(self, out, plan, start_from=None):
        torch.manual_seed(SEED)
        self.path, self.plan, self.step, self.seconds = out / "checkpoint.pt", plan, 0, 0.0
        self.items, self.answers = items.training(out, plan.teacher_texts, plan.limit)
        self.student = new_student()
        if start_from:
            self.student.load_state_dict(torch.load(start_from, weights_only=True)["averaged"])
        self.averaged = copy.deepcopy(self.student).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(groups(self.student, plan), betas=(0.9, 0.98), fused=True)
        self.lengths = [len(item.pieces.ids) for item in self.items]
        self.pass_steps = len(self.batches(0))
        self.steps = int(self.pass_steps * plan.passes)
        if self.path.is_file():
            self.resume()

    def batches(self, number):
        return by_length(self.lengths, self.plan.batch_tokens, SEED + number)

    def run(self, minutes, save_seconds):
        """Trains until the plan is done, the minutes are over or the process is asked to end; saves every `save_seconds` and at the end."""
        stopped = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.append(True))
        started = saved = reported = time.monotonic()
        before, sums = self.seconds, {}
        while self.step < self.steps:
            number, first = divmod(self.step, self.pass_steps)
            for batch in self.batches(number)[first : first + self.steps - self.step]:
                self.learn(batch, sums, 1 - (time.monotonic() - started) / (60 * minutes))
                now = time.monotonic()
                self.seconds = before + now - started
                if now - reported > 30:
                    self.report(sums)
                    reported, sums = now, {}
                if stopped or now - started > 60 * minutes:
                    return self.save()
                if now - saved > save_seconds:
                    self.save()
                    saved = time.monotonic()
        return self.save()

    def learn(self, batch, sums, time_left):
        share = rate_at(self.plan, self.step, self.steps, time_left)
        for group in self.optimiser.param_groups:
            group["lr"] = group["full_rate"] * share
        found = losses(self.student, items.collate([self.items[i] for i in batch], self.answers))
        if found:
            sum(getattr(self.plan, f"{name}_weight") * loss for name, loss in found.items()).backward()
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad()
            self.average()
        for name, loss in found.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + loss.item(), count + 1
        self.step += 1

    def average(self):
        """The running average forgets faster at first, so that the start does not linger."""
        keep = min(self.plan.average, (self.step + 1) / (self.step + 10))
        pairs = [(a, p) for a, p in zip(self.averaged.parameters(), self.student.parameters()) if p.requires_grad]
        with torch.no_grad():
            torch._foreach_lerp_([a for a, _ in pairs], [p for _, p in pairs], 1 - keep)

    def report(self, sums):
        means = ", ".join(f"{name} {total / count:.4f}" for name, (total, count) in sums.items())
        say(f"step {self.step} of {self.steps} (pass of {self.pass_steps}), {self.seconds:.0f} s: {means}")

    def save(self):
        state = {"plan": asdict(self.plan), "items": len(self.items), "step": self.step, "steps": self.steps, "seconds": self.seconds,
            "student": self.student.state_dict(), "averaged": self.averaged.state_dict(), "optimiser": self.optimiser.state_dict()}  # fmt: skip
        write_atomically(self.path, lambda path: torch.save(state, path))
        say(f"saved at step {self.step}")

    def resume(self):
        state = torch.load(self.path, weights_only=True)
        if state["plan"] != asdict(self.plan) or state["items"] != len(self.items):
            raise ValueError(f"{self.path} is of another plan or other data; use another --out, or remove it")
        self.step, self.seconds = state["step"], state["seconds"]
        self.student.load_state_dict(state["student"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        say(f"going on at step {self.step} of {self.steps}")


def trained(out):
    """(the averaged student, facts of its run) of the latest checkpoint."""
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    student = new_student()
    student.load_state_dict(state["averaged"])
    return student.eval(), {key: state[key] for key in ("plan", "step", "steps", "seconds", "items")}

"""The training: one student, five losses, a checkpoint every few minutes from which a run goes on exactly where it was."""

import copy
import os
import signal
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional as F

from . import SEED, items, packed, paths, renamed, say, write_atomically
from .model import embedding, new_student
from .order import Order
from .precision import products
from .similarities import Similarities

# Apart enough that two processes of a run never come upon the same order.
HELPER_SEEDS = 1_000_000


@dataclass
class Plan:
    """What a run does; a checkpoint remembers it and refuses another."""

    passes: float = 4.0
    batch_tokens: int = 1024
    easy_share: float = 0.3
    easy_below: float = 0.01
    renamed_share: float = 0.4
    rate: float = 1.5e-4
    heads_rate: float = 4e-3
    frozen_layers: int = 0
    warm_up_steps: int = 100
    decay_share: float = 0.3
    weight_decay: float = 0.01
    average: float = 0.995
    entity_weight: float = 0.5
    path_weight: float = 1.0
    sentiment_weight: float = 1.0
    vector_weight: float = 15.0
    pairs_weight: float = 2.0
    states_weight: float = 2.0
    taught_times: int = 2
    opinion_share: float = 0.5
    teacher_texts: int = 98_000
    limit: int | None = None


def rate_at(plan, step, left):
    """The share of the full rate: linear warm-up, constant, then linear decay over the last `decay_share` of the run, of which `left` is
    still to come: weights that never saw a low rate are worse than fewer steps."""
    warm = min(1.0, (step + 1) / plan.warm_up_steps)
    return warm * min(1.0, max(left, 0.0) / plan.decay_share)


def losses(student, batch, similarities):
    """(name -> loss of the answers known in this batch, each a mean; loss of the labels of each labelled text)."""
    with products():
        hidden = student(batch.ids)
        entity_logits = student.entity_logits(hidden)
        sentiment_logits = student.sentiment_logits(hidden)
    found, by_text = {}, None
    if len(batch.labels):
        scores = F.log_softmax(entity_logits[batch.places].float(), -1)
        by_character = F.nll_loss(scores, batch.labels, reduction="none")
        found["entity"] = by_character.mean()
        found["path"] = paths.loss(scores, batch.labels, batch.characters)
        by_text = [part.mean().item() for part in by_character.detach().split(batch.characters)]
    known = batch.sentiment != items.NO_LABEL
    if known.any():
        wanted = torch.stack([1 - batch.positive[known], batch.positive[known]], 1)
        # Over the whole batch, so that a lone review does not weigh as much as sixty.
        found["sentiment"] = F.cross_entropy(sentiment_logits[known].float(), wanted) * known.float().mean()
    if len(batch.taught):
        taught = hidden[batch.taught].float()
        vectors, answers = embedding(taught), F.normalize(batch.vectors, dim=-1)
        found["vector"] = (1 - (vectors * answers).sum(-1)).mean()
        found["pairs"] = similarities.loss(vectors, answers)
        # The first token is the sentiment head's and owes the teacher nothing but its share of the mean.
        found["states"] = F.mse_loss(taught[:, 1:], batch.states[:, 1:]) / batch.states[:, 1:].var()
    return found, by_text


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
        self.path, self.plan, self.step, self.passes, self.seconds = out / "checkpoint.pt", plan, 0, 0.0, 0.0
        self.seed = SEED
        self.found, self.answers = items.training(out, plan.teacher_texts, plan.opinion_share, plan.limit)
        self.similarities = Similarities(np.concatenate(self.answers.vectors))
        self.names, self.order = renamed.Names(self.found), Order(self.found, plan)
        self.student = beginning(start_from, plan.frozen_layers)
        self.averaged = copy.deepcopy(self.student).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(groups(self.student, plan), betas=(0.9, 0.98), fused=True)
        self.start_pass(0)
        if self.path.is_file():
            self.resume()

    def start_pass(self, number):
        """What is easy is settled at the beginning of a pass, so that a run that was stopped finds the same batches again."""
        self.number, self.place, self.difficulty = number, 0, self.order.difficulty.copy()
        self.items = renamed.some(self.found, self.names, self.plan.renamed_share, self.seed + number)
        self.batches = self.order.batches(self.items, self.seed + number)

    def run(self, minutes, save_seconds, helpers):
        """Trains until the plan is done, the minutes are over or the process is asked to end; saves every `save_seconds` and at the end.
        Helpers are processes that train the same weights in memory, without locks (Niu et al. 2011), each in an order of its own."""
        self.student.share_memory()
        for number in range(1, helpers + 1):
            torch.multiprocessing.get_context("fork").Process(target=self.help, args=(number, minutes), daemon=True).start()
        stopped = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.append(True))
        started = saved = reported = time.monotonic()
        before, sums = self.seconds, {}
        while self.passes < self.plan.passes and not stopped and time.monotonic() - started < 60 * minutes:
            if self.place == len(self.batches):
                self.start_pass(self.number + 1)
            self.learn(self.batches[self.place], sums, 1 - (time.monotonic() - started) / (60 * minutes))
            now = time.monotonic()
            self.seconds = before + now - started
            if now - reported > 30:
                self.report(sums)
                reported, sums = now, {}
            if now - saved > save_seconds:
                self.save()
                saved = time.monotonic()
        return self.save()

    def help(self, number, minutes):
        """Ends with the process that it helps. In a session of its own, since Linux shares processors by session."""
        os.setsid()
        started, helped = time.monotonic(), os.getppid()
        # Another order after each start, since a helper's place is not saved.
        self.seed, self.step, self.passes = SEED + number * HELPER_SEEDS + self.step, 0, 0.0
        self.start_pass(0)
        while os.getppid() == helped:
            if self.place == len(self.batches):
                self.start_pass(self.number + 1)
            self.learn(self.batches[self.place], {}, 1 - (time.monotonic() - started) / (60 * minutes))

    def learn(self, batch, sums, time_left):
        share = rate_at(self.plan, self.step, min(1 - self.passes / self.plan.passes, time_left))
        for group in self.optimiser.param_groups:
            group["lr"] = group["full_rate"] * share
        found, by_text = losses(self.student, items.collate([self.items[i] for i in batch], self.answers), self.similarities)
        if by_text:
            self.order.seen([i for i in batch if self.items[i].labels], by_text)
        if found:
            sum(getattr(self.plan, f"{name}_weight") * loss for name, loss in found.items()).backward()
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad()
            self.average()
        for name, loss in found.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + loss.item(), count + 1
        self.step, self.place = self.step + 1, self.place + 1
        self.passes = self.number + self.place / len(self.batches)

    def average(self):
        """The running average forgets faster at first, so that the start does not linger."""
        keep = min(self.plan.average, (self.step + 1) / (self.step + 10))
        pairs = [(a, p) for a, p in zip(self.averaged.parameters(), self.student.parameters()) if p.requires_grad]
        with torch.no_grad():
            torch._foreach_lerp_([a for a, _ in pairs], [p for _, p in pairs], 1 - keep)

    def report(self, sums):
        means = ", ".join(f"{name} {total / count:.4f}" for name, (total, count) in sums.items())
        say(f"step {self.step}, pass {self.passes:.3f} of {self.plan.passes} ({len(self.batches)} steps), {self.seconds:.0f} s: {means}")

    def save(self):
        state = {"plan": asdict(self.plan), "items": len(self.found), "step": self.step, "passes": self.passes, "seconds": self.seconds,
            "number": self.number, "place": self.place, "difficulty": torch.tensor(self.difficulty), "seen": torch.tensor(self.order.difficulty),
            "student": self.student.state_dict(), "averaged": self.averaged.state_dict(), "optimiser": self.optimiser.state_dict()}  # fmt: skip
        write_atomically(self.path, lambda path: torch.save(state, path))
        say(f"saved at step {self.step}")

    def resume(self):
        state = torch.load(self.path, weights_only=True)
        if state["plan"] != asdict(self.plan) or state["items"] != len(self.found):
            raise ValueError(f"{self.path} is of another plan or other data; use another --out, or remove it")
        self.order.difficulty = state["difficulty"].numpy().copy()
        self.start_pass(state["number"])
        self.order.difficulty = state["seen"].numpy().copy()
        self.step, self.place, self.passes, self.seconds = (state[key] for key in ("step", "place", "passes", "seconds"))
        self.student.load_state_dict(state["student"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        say(f"going on at step {self.step}, pass {self.passes:.3f} of {self.plan.passes}")


def beginning(start_from, frozen_layers):
    """A student to train: layers of the teacher, or the averaged weights of a checkpoint, or a model directory in 8 bits."""
    if start_from and start_from.is_dir():
        student = packed.load_student(start_from)
    else:
        student = new_student()
        if start_from:
            student.load_state_dict(torch.load(start_from, weights_only=True)["averaged"])
    for layer in student.encoder.layers[:frozen_layers]:
        layer.requires_grad_(False)
    return student


def trained(out):
    """(the averaged student, facts of its run) of the latest checkpoint."""
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    student = new_student()
    student.load_state_dict(state["averaged"])
    return student.eval(), {key: state[key] for key in ("plan", "step", "passes", "seconds", "items")}

"""Which of the teacher's layers the student should start from: closeness to the teacher before any training."""

from . import items, metrics, say, teacher, tokens
from .model import load_teacher

CHOICES = [[1, 3, 5, 7, 9, 11], [0, 1, 2, 9, 10, 11], [0, 1, 2, 3, 10, 11], [0, 1, 8, 9, 10, 11], [0, 2, 4, 9, 10, 11], [0, 1, 5, 9, 10, 11], [0, 1, 3, 6, 10, 11]]
TEXTS = 256


def run(out):
    found = items.encoded([{"text": text} for text in teacher.texts(out)[:TEXTS]], tokens.TRAINING_TOKENS, tokens.prompt_of)
    ids = [item.pieces.ids for item in found]
    wanted, _ = teacher.answers(load_teacher(), ids)
    for choice in CHOICES:
        vectors, _ = teacher.answers(load_teacher(choice), ids)
        rank = metrics.spearman(metrics.pair_similarities(wanted), metrics.pair_similarities(vectors))
        say(f"layers {choice}: cosine {(wanted * vectors).sum(1).mean():.4f}, spearman {rank:.4f}")

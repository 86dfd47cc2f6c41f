import json

import numpy as np
import torch
from joint import ROOT, export, items, quantised, tokens, trainer
from joint.model import Student, load_teacher, read_config, read_file
from joint.similarities import Similarities

FIXTURE = ROOT / "testdata" / "encoder" / "bert-q4-heads"


def test_the_encoder_agrees_with_transformers():
    encoder = load_teacher(folder=FIXTURE, prefix="bert.")
    for case in json.loads((FIXTURE / "expected.json").read_text()):
        if set(case["types"]) == {0}:
            hidden = encoder(torch.tensor([case["ids"]]))[0].detach().numpy()
            np.testing.assert_allclose(hidden[[0, -1]], case["hidden"], atol=2e-5)


def small_student():
    torch.manual_seed(0)
    config = {**read_config(), "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    return Student(config, 2)


class Teacher:
    def __init__(self, length):
        self.length = length

    def vector(self, text):
        return np.full(32, 0.1)

    def states(self, text):
        return np.linspace(-1, 1, self.length * 32).reshape(self.length, 32)


def test_all_losses_reach_the_encoder():
    rows = [{"text": "我在北京", "entities": [(2, 4, "LOC")]}, {"text": "我在上海", "sentiment": 1}]
    found = items.encoded(rows, 16, lambda text: "")
    found[1].taught = True
    student, similarities = small_student(), Similarities(np.eye(32))
    losses, by_text = trainer.losses(student, items.collate(found, Teacher(len(found[0].pieces.ids))), similarities)
    assert set(losses) == {"entity", "path", "sentiment", "vector", "pairs", "states"}
    np.testing.assert_allclose(by_text, [losses["entity"].item()], rtol=1e-6)
    for name, loss in losses.items():
        student.zero_grad()
        loss.backward(retain_graph=True)
        assert student.encoder.layers[0].wide.weight.grad.abs().sum() > 0, name


def test_the_order_of_similarities_has_a_loss_of_its_own():
    torch.manual_seed(0)
    teacher = torch.nn.functional.normalize(torch.randn(50, 8) + 1, dim=-1)
    similarities = Similarities(teacher.numpy())
    torch.testing.assert_close(similarities.variance, (teacher @ teacher.T).var(correction=0))
    wanted = teacher[:3]
    assert similarities.loss(wanted, wanted) == 0
    found = torch.nn.functional.normalize(wanted + 0.1 * torch.randn(3, 8), dim=-1)
    every = ((found - wanted) @ teacher.T).square().mean()
    torch.testing.assert_close(similarities.loss(found, wanted), every / (teacher @ teacher.T).var(correction=0))


def test_rates_rise_stay_and_fall():
    plan = trainer.Plan(warm_up_steps=10, decay_share=0.5)
    assert [trainer.rate_at(plan, step, 1.0) for step in (0, 4, 9, 10, 99)] == [0.1, 0.5, 1, 1, 1]
    assert [trainer.rate_at(plan, 20, left) for left in (0.5, 0.25, 0.0, -0.1)] == [1, 0.5, 0, 0]


def test_eight_bits_keep_each_row_to_its_own_scale():
    student = small_student()
    student.encoder.layers[0].wide.weight.data[3] *= 1000
    once = quantised.rounded(student)
    for name, kept in once.named_parameters():
        given = student.get_parameter(name)
        if name.startswith("encoder.layers.") and kept.ndim == 2:
            assert 0 < ((kept - given).abs() / given.abs().max(1, keepdim=True).values).max() < 0.51 / 127
        else:
            assert torch.equal(kept, given)


def test_an_exported_model_is_read_back(tmp_path):
    torch.manual_seed(0)
    student = Student(read_config(), 1)
    student.encoder = load_teacher([3])
    export.run(student, 2.0, tmp_path)
    again = load_teacher(folder=tmp_path)
    ids = torch.tensor([[0, 100, 2000, 2]])
    torch.testing.assert_close(again(ids), student.encoder(ids))
    written, q4 = read_file(tmp_path / "model.safetensors")
    assert q4 == {export.WORDS}
    np.testing.assert_array_equal(written["plimsoll.sequence_classifier.weight"] * 2, student.sentiment.weight.detach().numpy())
    assert written["plimsoll.token_classifier.weight"].shape == (tokens.SLOTS * 13, 384)

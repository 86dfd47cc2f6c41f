import json

import numpy as np
import torch
from joint import ROOT, export, items, quantised, tokens, trainer
from joint.model import Student, load_teacher, read_config, read_file

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
    student = small_student()
    losses, by_text = trainer.losses(student, items.collate(found, Teacher(len(found[0].pieces.ids))))
    assert set(losses) == {"entity", "path", "sentiment", "vector", "states"}
    np.testing.assert_allclose(by_text, [losses["entity"].item()], rtol=1e-6)
    for name, loss in losses.items():
        student.zero_grad()
        loss.backward(retain_graph=True)
        assert student.encoder.layers[0].wide.weight.grad.abs().sum() > 0, name


def test_the_order_of_pairs_has_a_loss_of_its_own():
    angles = torch.tensor([0.0, 0.3, 0.9, 1.5])
    teacher = torch.stack([angles.cos(), angles.sin()], 1)
    turned = torch.stack([(angles + 1).cos(), (angles + 1).sin()], 1)
    # Turning all vectors changes no similarity; bringing all together loses their order.
    assert trainer.pairs_loss(turned, teacher) < 1e-9
    together = torch.nn.functional.normalize(teacher + 3 * teacher.mean(0), dim=-1)
    assert trainer.pairs_loss(together, teacher) > 1
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    wanted = torch.stack([teacher[i] @ teacher[j] for i, j in pairs])
    found = torch.stack([together[i] @ together[j] for i, j in pairs])
    torch.testing.assert_close(trainer.pairs_loss(together, teacher), ((found - wanted) ** 2).mean() / wanted.var())


def test_few_taught_texts_have_no_pairs():
    for count in (7, 8):
        found = items.encoded([{"text": "我在北京"}] * count, 16, lambda text: "")
        for item in found:
            item.taught = True
        losses, _ = trainer.losses(small_student(), items.collate(found, Teacher(len(found[0].pieces.ids))))
        assert ("pairs" in losses) == (count >= trainer.PAIRED_TEXTS_MIN)


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

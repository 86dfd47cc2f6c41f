import numpy as np
from joint import ROOT, export, packed
from joint.model import read_file


def packed_by_hand(matrix):
    """As crates/kernel/src/packed.rs tells it, number by number."""
    outputs, inputs = matrix.shape
    panels, steps = -(-outputs // 48), inputs // 4
    scales = np.abs(matrix).max(1) / 127
    words = np.zeros((panels, steps, 48, 4), np.int8)
    for output in range(outputs):
        for i in range(inputs):
            words[output // 48, i // 4, output % 48, i % 4] = np.rint(matrix[output, i] / scales[output])
    columns = np.zeros((2, panels * 48), np.float32)
    columns[0, :outputs] = scales
    return np.concatenate([words.view(np.uint8).ravel(), columns.view(np.uint8).ravel()])


def test_a_packed_matrix_is_read_back():
    matrix = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    found = packed.unpack(packed_by_hand(matrix), 50)
    assert found.shape == matrix.shape
    assert (np.abs(found - matrix) <= np.abs(matrix).max(1, keepdims=True) / 254 * 1.001).all()


def test_training_may_begin_with_the_default_model():
    student = packed.load_student(ROOT / "models" / "default")
    written = packed.read_file(ROOT / "models" / "default" / "model.safetensors")
    assert len(written) == len(list(student.parameters())) - 1
    np.testing.assert_array_equal(student.encoder.layers[5].key.weight.detach().numpy(), written["encoder.layer.5.attention.self.key.weight"])
    teacher, _ = read_file(ROOT / "train" / "teacher" / "model.safetensors")
    # Trained from the teacher's last layer, and still near it: no rows are mixed up.
    theirs = teacher["encoder.layer.11.output.LayerNorm.weight"]
    assert np.corrcoef(theirs, student.encoder.layers[5].output_norm.weight.detach().numpy())[0, 1] > 0.9
    assert export.WORDS not in written

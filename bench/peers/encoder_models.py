"""Writes the model as each peer wants it, once: ONNX, OpenVINO, CTranslate2; f32 and int8.

    python encoder_models.py MODEL_DIRECTORY IDS.json FOLDER

ONNX Runtime quantises dynamically, per channel, as its guide for transformers says, with and without its fusions before. OpenVINO is quantised by NNCF with
calibration texts (activations too, static), and beside that by weights alone, for its dynamic quantisation of activations. CTranslate2 quantises at load.
"""

import json
import sys
from pathlib import Path

NAMES = ["input_ids", "attention_mask", "token_type_ids"]


def load(model):
    from transformers import AutoModel

    # The pooler is left out: nobody reads it, and the peers would compute it.
    return AutoModel.from_pretrained(model, attn_implementation="eager", add_pooling_layer=False).eval()


def onnx_files(model, folder):
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = load(model)

        def forward(self, *inputs):
            return self.model(**dict(zip(NAMES, inputs))).last_hidden_state

    ids = torch.randint(1000, 20000, (3, 17))
    plain, fused = folder / "plain.onnx", folder / "fused.onnx"
    axes = {name: {0: "batch", 1: "length"} for name in [*NAMES, "hidden"]}
    # The older exporter: OpenVINO cannot read what the newer one writes, and ONNX Runtime does not know its attention.
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    torch.onnx.export(Hidden(), inputs, str(plain), input_names=NAMES, output_names=["hidden"], dynamic_axes=axes, opset_version=17, dynamo=False)
    config = json.loads((model / "config.json").read_text())
    optimized = optimize_model(str(plain), "bert", num_heads=config["num_attention_heads"], hidden_size=config["hidden_size"], opt_level=0)
    optimized.save_model_to_file(str(fused))
    for file in [plain, fused]:
        target = file.with_name(f"{file.stem}-int8.onnx")
        quantize_dynamic(file, target, per_channel=True, weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": 1})


def openvino_files(model, calibration, folder):
    import nncf
    import openvino
    import torch

    def convert():
        ids = torch.randint(1000, 20000, (2, 17))
        return openvino.convert_model(load(model), example_input=dict(zip(NAMES, (ids, torch.ones_like(ids), torch.zeros_like(ids)))))

    def inputs(ids):
        ids = torch.tensor([ids])
        return dict(zip(NAMES, (ids.numpy(), torch.ones_like(ids).numpy(), torch.zeros_like(ids).numpy())))

    openvino.save_model(convert(), folder / "openvino.xml", compress_to_fp16=False)
    weights = nncf.compress_weights(convert(), mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(weights, folder / "openvino-weights-int8.xml", compress_to_fp16=False)
    dataset = nncf.Dataset([inputs(ids) for ids in calibration])
    quantized = nncf.quantize(convert(), dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(calibration))
    openvino.save_model(quantized, folder / "openvino-int8.xml", compress_to_fp16=False)


def ctranslate2_files(model, folder):
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model)).convert(str(folder / "ctranslate2"), force=True)


def main():
    model, ids, folder = map(Path, sys.argv[1:])
    folder.mkdir(exist_ok=True)
    onnx_files(model, folder)
    openvino_files(model, json.loads(ids.read_text())["calibration"], folder)
    ctranslate2_files(model, folder)
    (folder / "done").touch()


if __name__ == "__main__":
    main()

"""The clients for Python."""

import asyncio

import cohere
import grpc
import hanlp_restful
import huggingface_hub
import langchain_openai
import numpy as np
import openai
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from google.protobuf.descriptor_pool import DescriptorPool
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
import json

from common import JUDGE, LOCKED, MAIN, MODEL, TEXTS, URL, check, close, fails, post, run

EMBEDDED = post("/embed", {"inputs": TEXTS})
ANALYZED = post("/v1/analyze", {"text": TEXTS})["results"]
LONG = "x " * 2_000_000

# OpenAI

OPENAI = ("openai (Python)", "openai")


def openai_client(address=MAIN, key="any"):
    return openai.OpenAI(base_url=f"http://{address}/v1", api_key=key, max_retries=0)


@check(OPENAI[0], "embeddings", OPENAI[1])
def _():
    client = openai_client()
    for options in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model=MODEL, input=TEXTS, **options)
        close([one.embedding for one in answer.data], EMBEDDED)
    assert answer.usage.prompt_tokens > 10
    cut = client.embeddings.create(model=MODEL, input=TEXTS[0], dimensions=64)
    assert len(cut.data[0].embedding) == 64
    assert client.embeddings.create(model=MODEL, input=[[5, 6, 7]]).usage.prompt_tokens >= 3

    async def later():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="any") as client:
            return await client.embeddings.create(model=MODEL, input=TEXTS)

    close([one.embedding for one in asyncio.run(later()).data], EMBEDDED)


@check(OPENAI[0], "models", OPENAI[1])
def _():
    client = openai_client()
    assert [one.id for one in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "plimsoll"


@check(OPENAI[0], "errors", OPENAI[1])
def _():
    client = openai_client()
    fails(lambda: client.embeddings.create(model="other", input="a"), "NotFoundError", "no such model")
    fails(lambda: client.embeddings.create(model=MODEL, input=""), "BadRequestError", "cannot be empty")
    fails(lambda: client.embeddings.create(model=MODEL, input=LONG), "413", "the limit is")


@check(OPENAI[0], "key", OPENAI[1])
def _():
    fails(lambda: openai_client(LOCKED, "wrong").models.list(), "AuthenticationError")
    assert openai_client(LOCKED, "secret").models.list().data


# LangChain, LlamaIndex

LANGCHAIN = ("LangChain OpenAIEmbeddings", "langchain-openai")


def langchain():
    # Without this the class splits texts with a tokenizer of OpenAI's models.
    return langchain_openai.OpenAIEmbeddings(model=MODEL, base_url=f"{URL}/v1", api_key="any", check_embedding_ctx_length=False)


@check(LANGCHAIN[0], "embeddings", LANGCHAIN[1])
def _():
    close(langchain().embed_documents(TEXTS), EMBEDDED)
    close(langchain().embed_query(TEXTS[0]), EMBEDDED[0])
    close(asyncio.run(langchain().aembed_documents(TEXTS)), EMBEDDED)


@check(LANGCHAIN[0], "errors", LANGCHAIN[1])
def _():
    fails(lambda: langchain().embed_query(LONG), "413", "the limit is")


LLAMA = ("LlamaIndex TextEmbeddingsInference", "llama-index-embeddings-text-embeddings-inference")


@check(LLAMA[0], "embeddings", LLAMA[1])
def _():
    client = TextEmbeddingsInference(model_name=MODEL, base_url=URL)
    close(client.get_text_embedding_batch(TEXTS), EMBEDDED)
    close(client.get_query_embedding(TEXTS[1]), EMBEDDED[1])
    close(asyncio.run(client.aget_text_embedding(TEXTS[0])), EMBEDDED[0])


LLAMA_OPENAI = ("LlamaIndex OpenAILikeEmbedding", "llama-index-embeddings-openai-like")


@check(LLAMA_OPENAI[0], "embeddings", LLAMA_OPENAI[1])
def _():
    client = OpenAILikeEmbedding(model_name=MODEL, api_base=f"{URL}/v1", api_key="any")
    close(client.get_text_embedding_batch(TEXTS), EMBEDDED)


@check("LlamaIndex TextEmbeddingInference reranker", "rerank", "llama-index-postprocessor-tei-rerank")
def _():
    client = TextEmbeddingInference(base_url=f"http://{JUDGE}", top_n=2)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("a b c", "x y", "b")]
    ranked = client.postprocess_nodes(nodes, query_str="a b")
    expected = post("/rerank", {"query": "a b", "texts": ["a b c", "x y", "b"]}, JUDGE)
    assert [one.text for one in ranked] == [nodes[one["index"]].text for one in expected[:2]]


# Hugging Face

HUB = ("huggingface_hub InferenceClient", "huggingface_hub")


@check(HUB[0], "embeddings", HUB[1])
def _():
    # A base address alone: the client posts to it, which is the alias of /embed.
    for address in (URL, f"{URL}/embed"):
        client = huggingface_hub.InferenceClient(model=address)
        close(client.feature_extraction(TEXTS), EMBEDDED)
        assert client.feature_extraction(TEXTS[0]).shape == (1, len(EMBEDDED[0]))


@check(HUB[0], "similarity", HUB[1])
def _():
    client = huggingface_hub.InferenceClient(model=f"{URL}/similarity")
    expected = post("/similarity", {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS}})
    close(client.sentence_similarity(TEXTS[0], other_sentences=TEXTS), expected)


@check(HUB[0], "entities", HUB[1])
def _():
    client = huggingface_hub.InferenceClient(model=f"{URL}/ner")
    found = client.token_classification(TEXTS[0], aggregation_strategy="simple")
    expected = ANALYZED[0]["entities"]
    assert [(one.entity_group, one.word, one.start, one.end) for one in found] == [
        (one["label"], one["text"], one["start"], one["end"]) for one in expected
    ]
    assert found and not client.token_classification(TEXTS[0], ignore_labels=["LOC"])


@check(HUB[0], "classes", HUB[1])
def _():
    client = huggingface_hub.InferenceClient(model=f"{URL}/predict")
    best = client.text_classification(TEXTS[0])[0]
    assert best.label == ANALYZED[0]["sentiment"]["label"]
    close([best.score], [ANALYZED[0]["sentiment"]["score"]])


@check(HUB[0], "errors", HUB[1])
def _():
    client = huggingface_hub.InferenceClient(model=URL)
    fails(lambda: client.feature_extraction(LONG), "413")


@check(HUB[0], "key", HUB[1])
def _():
    fails(lambda: huggingface_hub.InferenceClient(model=f"http://{LOCKED}", token="wrong").feature_extraction("a"), "401")
    assert huggingface_hub.InferenceClient(model=f"http://{LOCKED}", token="secret").feature_extraction("a").size


# Cohere, HanLP


@check("Cohere ClientV2", "rerank", "cohere")
def _():
    client = cohere.ClientV2(api_key="any", base_url=f"http://{JUDGE}")
    documents = ["a b c", "x y", "b"]
    ranked = client.rerank(model="judge", query="a b", documents=documents, top_n=2)
    expected = post("/rerank", {"query": "a b", "texts": documents}, JUDGE)
    assert [one.index for one in ranked.results] == [one["index"] for one in expected[:2]]
    close([one.relevance_score for one in ranked.results], [one["score"] for one in expected[:2]])


@check("Cohere ClientV2", "errors", "cohere")
def _():
    client = cohere.ClientV2(api_key="any", base_url=URL)
    fails(lambda: client.rerank(model=MODEL, query="a", documents=["b"]), "cannot do reranking")


@check("HanLP RESTful client", "words", "hanlp_restful")
def _():
    parsed = hanlp_restful.HanLPClient(URL).parse(TEXTS, tasks="tok")
    for words, expected in zip(parsed["tok/fine"], ANALYZED):
        assert words == [one["text"] for one in expected["words"]]


@check("HanLP RESTful client", "entities", "hanlp_restful")
def _():
    parsed = hanlp_restful.HanLPClient(URL, language="zh").parse(TEXTS[0])
    words = parsed["tok/fine"][0]
    found = parsed["ner/msra"][0]
    assert [one[:2] for one in found] == [[one["text"], one["label"]] for one in ANALYZED[0]["entities"]]
    assert all("".join(words[start:end]) == text for text, _, start, end in found)


# Triton

OUTPUTS = ["embedding", "words", "entities", "sentiment", "scores", "token_count", "truncated"]


def objects(texts):
    return np.array([text.encode() for text in texts], dtype=np.object_)


def agrees(result):
    """What Triton's clients read is what /v1/analyze says."""
    close(result.as_numpy("embedding").tolist(), EMBEDDED)
    for index, expected in enumerate(ANALYZED):
        for name in ("words", "entities", "sentiment"):
            element = result.as_numpy(name)[index]
            assert json.loads(element) == expected[name], name
        assert result.as_numpy("token_count")[index] == expected["tokens"]
        close([result.as_numpy("scores")[index].max()], [expected["sentiment"]["score"]])
    assert result.as_numpy("scores").shape == (2, 2)
    assert result.as_numpy("truncated").tolist() == [False, False]
    assert result.get_response() is not None


def triton(module, client, name, package="tritonclient"):
    def input_of(texts, **options):
        tensor = module.InferInput("text", [len(texts)], "BYTES")
        tensor.set_data_from_numpy(objects(texts), **options)
        return tensor

    ways = [{}] if module is triton_grpc else [{"binary_data": True}, {"binary_data": False}]

    @check(name, "metadata", package)
    def _():
        assert client().is_server_live() and client().is_server_ready() and client().is_model_ready(MODEL)
        assert client().is_model_ready(MODEL, "1") and not ready_of_other(client())
        options = {"as_json": True} if module is triton_grpc else {}
        metadata = client().get_model_metadata(MODEL, **options)
        assert [one["name"] for one in metadata["outputs"]] == OUTPUTS
        assert client().get_server_metadata(**options)["name"] == "plimsoll"

    @check(name, "infer: all outputs", package)
    def _():
        for way in ways:
            wanted = [module.InferRequestedOutput(one, **way) for one in OUTPUTS]
            agrees(client().infer(MODEL, [input_of(TEXTS, **way)], outputs=wanted, request_id="7"))
            agrees(client().infer(MODEL, [input_of(TEXTS, **way)]))

    for feature, output in (("embeddings", "embedding"), ("words", "words"), ("entities", "entities"), ("classes", "scores")):
        check(name, feature, package)(lambda output=output: alone(output))

    def alone(output):
        wanted = [module.InferRequestedOutput(output)]
        result = client().infer(MODEL, [input_of(TEXTS)], model_version="1", outputs=wanted)
        assert len(result.as_numpy(output)) == 2 and result.as_numpy("truncated") is None

    @check(name, "rerank", package)
    def _():
        pair = [module.InferInput(one, [2], "BYTES") for one in ("text", "text_pair")]
        pair[0].set_data_from_numpy(objects(["a b", "a b"]))
        pair[1].set_data_from_numpy(objects(["a b c", "x"]))
        scores = client(JUDGE).infer("judge", pair).as_numpy("scores")
        ranked = post("/rerank", {"query": "a b", "texts": ["a b c", "x"]}, JUDGE)
        for one in ranked:
            close([scores[one["index"]][0]], [one["score"]])

    @check(name, "errors", package)
    def _():
        fails(lambda: client().infer("other", [input_of(["a"])]), "no such model")
        fails(lambda: client().infer(MODEL, [input_of([""])]), "cannot be empty")
        fails(lambda: client().infer(MODEL, [input_of(["a"])], outputs=[module.InferRequestedOutput("nonsense")]), "no such output")
        fails(lambda: client().infer(MODEL, [input_of(["a"])], outputs=[module.InferRequestedOutput("words", class_count=2)]), "classification")
        fails(lambda: client().infer(MODEL, [input_of([LONG])]), "the limit is")

    @check(name, "key", package)
    def _():
        fails(lambda: client(LOCKED).infer(MODEL, [input_of(["a"])]), "valid key")
        key = {"authorization": "Bearer secret"}
        assert client(LOCKED).infer(MODEL, [input_of(["a"])], headers=key).as_numpy("embedding").size


def ready_of_other(client):
    try:
        return client.is_model_ready("other")
    except Exception:
        return False


triton(triton_http, lambda address=MAIN: triton_http.InferenceServerClient(address), "tritonclient, REST")
triton(triton_grpc, lambda address=MAIN: triton_grpc.InferenceServerClient(address), "tritonclient, gRPC")


@check("grpcio health", "metadata", "grpcio-health-checking")
def _():
    with grpc.insecure_channel(MAIN) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


@check("grpcio reflection", "metadata", "grpcio-reflection")
def _():
    with grpc.insecure_channel(MAIN) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = database.get_services()
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(services)
        service = DescriptorPool(database).FindServiceByName("inference.GRPCInferenceService")
        assert "ModelInfer" in service.methods_by_name
        assert service.methods_by_name["ModelInfer"].input_type.fields_by_name["raw_input_contents"].number == 7


run()

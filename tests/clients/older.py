"""Clients that cannot live beside the newest of others."""

import asyncio

from langchain_huggingface import HuggingFaceEndpointEmbeddings

from common import TEXTS, URL, check, close, post, run

EMBEDDED = post("/embed", {"inputs": TEXTS})


@check("LangChain HuggingFaceEndpointEmbeddings", "embeddings", "langchain-huggingface")
def _():
    client = HuggingFaceEndpointEmbeddings(model=URL)
    close(client.embed_documents(TEXTS), EMBEDDED)
    close(client.embed_query(TEXTS[1]), EMBEDDED[1])
    close(asyncio.run(client.aembed_documents(TEXTS)), EMBEDDED)


run()

"""Providers and servers that speak OpenAI's protocol: their addresses, and where their keys are."""

from __future__ import annotations

from typing import Final, NamedTuple


class Compatible(NamedTuple):
    """One of them.

    Attributes:
        url: its address, of the form that the OpenAI client takes.
        key: the environment variable that holds its key; None: it needs none.
        example: one of its models.
    """

    url: str
    key: str | None
    example: str


COMPATIBLE: Final = {
    "ollama": Compatible("http://127.0.0.1:11434/v1", None, "ollama:llama3.2"),
    "vllm": Compatible("http://127.0.0.1:8000/v1", None, "vllm:Qwen/Qwen3-8B"),
    "llamacpp": Compatible("http://127.0.0.1:8080/v1", None, "llamacpp:default"),
    "lmstudio": Compatible("http://127.0.0.1:1234/v1", None, "lmstudio:qwen3-8b"),
    "litellm": Compatible("http://127.0.0.1:4000", None, "litellm:gpt-4o-mini"),
    "deepseek": Compatible("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek:deepseek-chat"),
    "qwen": Compatible(
        "https://dashscope.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY", "qwen:qwen-plus"
    ),
    "glm": Compatible("https://open.bigmodel.cn/api/paas/v4", "ZHIPUAI_API_KEY", "glm:glm-4-flash"),
    "kimi": Compatible("https://api.moonshot.cn/v1", "MOONSHOT_API_KEY", "kimi:moonshot-v1-8k"),
    "doubao": Compatible("https://ark.cn-beijing.volces.com/api/v3", "ARK_API_KEY", "doubao:ep-ENDPOINT"),
    "mistral": Compatible("https://api.mistral.ai/v1", "MISTRAL_API_KEY", "mistral:mistral-small-latest"),
    "groq": Compatible("https://api.groq.com/openai/v1", "GROQ_API_KEY", "groq:llama-3.1-8b-instant"),
    "openrouter": Compatible(
        "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openrouter:meta-llama/llama-3.1-8b-instruct"
    ),
    "together": Compatible(
        "https://api.together.xyz/v1", "TOGETHER_API_KEY", "together:meta-llama/Llama-3.1-8B-Instruct-Turbo"
    ),
    "fireworks": Compatible(
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "fireworks:accounts/fireworks/models/llama-v3p1-8b-instruct",
    ),
    "xai": Compatible("https://api.x.ai/v1", "XAI_API_KEY", "xai:grok-3-mini"),
}
BY_LANGCHAIN: Final = {  # what `init_chat_model` knows beside these, and the package that it needs
    "azure_openai": "langchain-openai",
    "bedrock": "langchain-aws",
    "bedrock_converse": "langchain-aws",
    "google_vertexai": "langchain-google-vertexai",
    "cohere": "langchain-cohere",
    "huggingface": "langchain-huggingface",
    "nvidia": "langchain-nvidia-ai-endpoints",
    "ibm": "langchain-ibm",
    "perplexity": "langchain-perplexity",
    "upstage": "langchain-upstage",
}

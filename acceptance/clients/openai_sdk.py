"""The official Python SDK, with only the base URL changed.

    openai_sdk.py BASE_URL KEY

Prints what it saw as one JSON object.
"""

import io
import json
import sys

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key=sys.argv[2], max_retries=0)
ask = {"model": "nano", "messages": [{"role": "user", "content": "Item: mug"}], "max_tokens": 8, "seed": 5}

answer = client.chat.completions.create(**ask)
streamed, usage = "", None
for chunk in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    streamed += "".join(choice.delta.content or "" for choice in chunk.choices)
    usage = chunk.usage or usage

lines = [{"messages": [{"role": "user", "content": f"Item: {n}"}, {"role": "assistant", "content": f"No. {n}"}]} for n in range(10)]
file = client.files.create(file=io.BytesIO("\n".join(map(json.dumps, lines)).encode()), purpose="fine-tune")
try:
    client.models.retrieve("gpt-none")
    missing = None
except openai.NotFoundError as error:
    missing = {"param": error.param, "code": error.code, "message": str(error)}
try:
    client.fine_tuning.jobs.create(model="nano", training_file="file-none")
    refused = None
except openai.BadRequestError as error:
    refused = {"param": error.param, "code": error.code}

print(
    json.dumps(
        {
            "models": [model.id for model in client.models.list()],
            "content": answer.choices[0].message.content,
            "streamed": streamed,
            "tokens": usage.completion_tokens,
            "file": {"lines": len(client.files.content(file.id).text.splitlines()), "purpose": file.purpose},
            "deleted": client.files.delete(file.id).deleted,
            "missing": missing,
            "refused": refused,
        }
    )
)

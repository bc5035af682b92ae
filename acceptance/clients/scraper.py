"""A scraper as one writes it for Supabase edge functions; only the base URL is another.

    scraper.py BASE_URL KEY PICTURE

Prints the answers as one JSON object. Uses aiohttp; without it, the standard library.
"""

import asyncio
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid

try:
    import aiohttp
except ImportError:
    aiohttp = None

BASE, KEY, PICTURE = sys.argv[1:4]
HEADERS = {"apikey": KEY, "Authorization": f"Bearer {KEY}", "x-client-info": "scraper/1.0"}
FIELDS = {"fileName": "python.jpg", "user_id": "scraper-1", "category": "fashion", "metadata": json.dumps({"page": "home"})}


async def with_aiohttp():
    async with aiohttp.ClientSession(headers=HEADERS) as session:

        async def call(method, path, body=None, **params):
            async with session.request(method, f"{BASE}/functions/v1/{path}", json=body, params=params) as answer:
                return {"status": answer.status, "body": await answer.json()}

        form = aiohttp.FormData()
        with open(PICTURE, "rb") as picture:
            form.add_field("file", picture, filename="photo.jpg", content_type="image/jpeg")
            for name, value in FIELDS.items():
                form.add_field(name, value)
            async with session.post(f"{BASE}/functions/v1/upload", data=form) as answer:
                upload = {"status": answer.status, "body": await answer.json()}
        return await flow(call, upload)


async def with_urllib():
    def send(method, url, data=None, content_type="application/json"):
        request = urllib.request.Request(url, data=data, method=method, headers=HEADERS)
        if data is not None:
            request.add_header("Content-Type", content_type)
        try:
            with urllib.request.urlopen(request) as answer:
                return {"status": answer.status, "body": json.load(answer)}
        except urllib.error.HTTPError as error:
            return {"status": error.code, "body": json.load(error)}

    async def call(method, path, body=None, **params):
        query = "?" + urllib.parse.urlencode(params) if params else ""
        return send(method, f"{BASE}/functions/v1/{path}{query}", None if body is None else json.dumps(body).encode())

    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in FIELDS.items()]
    with open(PICTURE, "rb") as picture:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        parts.append(head.encode() + picture.read() + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    upload = send("POST", f"{BASE}/functions/v1/upload", b"".join(parts), f"multipart/form-data; boundary={boundary}")
    return await flow(call, upload)


async def flow(call, upload):
    """What a scraper does after the upload, and one mistake that it has to survive."""
    response = await call(
        "POST",
        "rft-responses",
        {
            "user_id": "scraper-1",
            "prompt": "Describe the picture.",
            "response_text": "A plain jacket — größer.",
            "model_id": "gpt-vision",
            "metadata": {"image": upload["body"].get("imageId")},
        },
    )
    response_id = response["body"]["data"]["id"]
    reward = await call("POST", "rft-rewards", {"response_id": response_id, "score": 0.5, "detail": {"source": "click"}})
    return {
        "client": "aiohttp" if aiohttp else "urllib",
        "upload": upload,
        "response": response,
        "reward": reward,
        "rewards": await call("GET", "rft-rewards", response_id=response_id),
        "mistake": await call("POST", "rft-rewards", {"response_id": response_id, "score": 7}),
        "checkpoint": await call(
            "POST",
            "rft-checkpoints",
            {"version": "py-1", "storage_key": "python/1.bin", "epoch": 1, "avg_reward": 0.5, "is_active": False},
        ),
        "checkpoints": await call("GET", "rft-checkpoints", version="py-1"),
    }


print(json.dumps(asyncio.run(with_aiohttp() if aiohttp else with_urllib())))
